"""The fine-tuning methods: what each trains of a base model, and the file that it makes.

A method knows no loop, no data and no objective; a job brings them together.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from engine.api.errors import NodeError
from engine.diffusion.checkpoint import part_source
from engine.diffusion.text import TextTower
from engine.diffusion.training.adapter_files import LoraFormat, lora_tensors
from engine.diffusion.training.adapters import (
    Adapters,
    AdapterSettings,
    Targets,
    text_layers,
    unet_layers,
)
from engine.diffusion.training.base import Base
from engine.diffusion.training.checkpoint_file import checkpoint_tensors
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.denoising import Encode, Predict
from engine.diffusion.training.settings import SampleSettings
from engine.diffusion.training.text_context import Context, Placeholder, encode_captions
from engine.diffusion.weightfile import open_weights
from engine.text.tokenizer import load_tokenizer

Pictures = Callable[[Dataset, SampleSettings], Tensor]
"""Sample pictures with the present weights. Shapes: (N, H, W, 3) 0..1."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A method on a base: the net whose weights learn, how captions are read, what is saved.

    `tensors` gives the file's content from the present weights; `release` undoes hooks. `predict`
    is there where the network is not called alone, `pictures` where prompts do not show enough.
    """

    net: nn.Module
    encode: Encode
    tensors: Callable[[], Mapping[str, Tensor]]
    metadata: Mapping[str, str] = field(default_factory=dict)
    release: Callable[[], None] = lambda: None
    predict: Predict | None = None
    pictures: Pictures | None = None


class Method(Protocol):
    """A fine-tuning method with its settings; a frozen dataclass."""

    @property
    def title(self) -> str: ...

    @property
    def folder(self) -> str:
        """The model folder of its files."""
        ...

    @property
    def factors(self) -> tuple[tuple[str, float], ...]:
        """Shares of the learning rate, by the start of a weight's name within the net."""
        ...

    @property
    def extra_channels(self) -> tuple[int, ...]:
        """How many channels beside its latent a base model may take."""
        ...

    def check(self, dataset: Dataset) -> None:
        """Raises: NodeError, where a dataset is not such that the method can learn from it."""
        ...

    def prepare(self, base: Base, generator: torch.Generator) -> Prepared: ...


def captions_of(dataset: Dataset) -> list[str]:
    """The captions of all but class pictures."""
    return [e.text for e in dataset.examples if not e.is_class]


def require_captions(dataset: Dataset) -> None:
    """Raises: NodeError, where all are empty."""
    if not any(caption.strip() for caption in captions_of(dataset)):
        raise NodeError(
            "No picture has a caption, so that the model would learn to ignore prompts.",
            hint="Put a .txt file beside each picture, or give one caption for all.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank changes of the denoiser, and of the text encoders on request.

    `text_factor` is the share of the learning rate that the text encoders get.
    """

    shape: AdapterSettings = field(default_factory=AdapterSettings)
    targets: Targets = "attention"
    blocks: tuple[str, ...] = ()
    trains_text: bool = False
    text_factor: float = 0.5
    naming: LoraFormat = "kohya"

    title = "LoRA"
    folder = "loras"
    extra_channels = (0,)

    @property
    def factors(self) -> tuple[tuple[str, float], ...]:
        return (("unet/", 1.0), ("", self.text_factor))

    def check(self, dataset: Dataset) -> None:
        require_captions(dataset)

    def prepare(self, base: Base, generator: torch.Generator) -> Prepared:
        has_conv = self.targets == "all" and self.shape.conv_rank > 0
        layers = {"unet": unet_layers(base.unet, self.targets, self.blocks, conv=has_conv)}
        parts: dict[str, nn.Module] = {"unet": base.unet}
        if self.trains_text:
            for name, tower in base.towers.items():
                parts[name] = tower.model
                layers[name] = text_layers(tower.model, self.targets)
        adapters = Adapters(parts, layers, self.shape, generator)
        sources = part_source(base.model).sources
        return Prepared(
            net=adapters,
            encode=live_text(base) if self.trains_text else FrozenText(base),
            tensors=lambda: lora_tensors(adapters, base.model.family, sources, self.naming),
            metadata=self._metadata(base) if self.naming == "kohya" else {},
            release=adapters.detach,
        )

    def _metadata(self, base: Base) -> dict[str, str]:
        """What readers of kohya-style files look for."""
        versions = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
        return {
            "ss_network_module": "networks.lora",
            "ss_network_dim": str(self.shape.rank),
            "ss_network_alpha": f"{self.shape.alpha:g}",
            "ss_base_model_version": versions[base.model.family],
            "ss_v2": str(base.model.family == "sd2"),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FullTraining:
    """All weights of the denoiser, and of the text encoders on request, as one checkpoint file.

    `is_half` writes fp16; the training itself is done in fp32 weights.
    """

    trains_text: bool = False
    text_factor: float = 0.5
    is_half: bool = True

    title = "full training"
    folder = "checkpoints"
    extra_channels = (0,)

    @property
    def factors(self) -> tuple[tuple[str, float], ...]:
        return (("text.", self.text_factor),)

    def check(self, dataset: Dataset) -> None:
        require_captions(dataset)

    def prepare(self, base: Base, generator: torch.Generator) -> Prepared:
        parts = {"unet": base.unet}
        if self.trains_text:
            if base.clip.files != base.model.files:
                raise NodeError(
                    "The CLIP comes from another file than the model, so that the trained text "
                    "encoder would have no place in the checkpoint.",
                    hint="Connect model and CLIP of one checkpoint, or train the model only.",
                )
            towers = {name: tower.model for name, tower in base.towers.items()}
            parts["text"] = nn.ModuleDict(towers)
        net = nn.ModuleDict(parts).requires_grad_(True)
        return Prepared(
            net=net,
            encode=live_text(base) if self.trains_text else FrozenText(base),
            tensors=lambda: checkpoint_tensors(base.model, net, is_half=self.is_half),
            metadata=open_weights(Path(base.model.files[0].path)).metadata,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TextualInversion:
    """New word vectors and nothing else; `word` stands for them in captions.

    Source: Gal et al. 2022 (arXiv:2208.01618) section 3.
    """

    word: str
    initializer: str
    vectors: int = 1

    title = "textual inversion"
    folder = "embeddings"
    factors = ()
    extra_channels = (0,)

    def check(self, dataset: Dataset) -> None:
        captions = captions_of(dataset)
        without = sum(self.word not in caption for caption in captions)
        if not self.word.strip() or without == len(captions):
            raise NodeError(
                f"No caption holds the word {self.word!r}, so that nothing would be learned.",
                hint="Caption the pictures with it, such as "
                f"'a photo of {self.word or '<thing>'}'.",
            )

    def prepare(self, base: Base, generator: torch.Generator) -> Prepared:
        towers = base.towers
        net = nn.ParameterDict({name: self._start(tower) for name, tower in towers.items()})
        placeholder = Placeholder(word=self.word, vectors=dict(net.items()))
        names = {"emb_params" if len(towers) == 1 else f"clip_{name}": name for name in towers}
        return Prepared(
            net=net,
            encode=lambda texts: encode_captions(base.text, texts, placeholder),
            tensors=lambda: {
                key: net[name].detach().float().cpu().clone() for key, name in names.items()
            },
        )

    def _start(self, tower: TextTower) -> nn.Parameter:
        """The initialiser's vectors, repeated or cut to the wanted number."""
        ids = load_tokenizer().encode(self.initializer)
        if not ids:
            raise NodeError(
                "The initializer of the embedding is empty.",
                hint="Give the word that comes closest, such as 'cat' or 'painting'.",
            )
        weight = tower.model.embeddings.token_embedding.weight
        rows = torch.tensor([ids[n % len(ids)] for n in range(self.vectors)], device=weight.device)
        return nn.Parameter(weight[rows].detach().float().clone())


# How captions are read ----------------------------------------------------------------------------


def live_text(base: Base) -> Encode:
    """Captions encoded anew each time, with gradients."""
    return lambda texts: encode_captions(base.text, texts)


class FrozenText:
    """Captions encoded once each; a batch is filled up with empty chunks to its longest one.

    At most `budget_bytes` of them are kept, the first encoded go first.
    """

    def __init__(self, base: Base, budget_bytes: int = 256 << 20) -> None:
        self._base = base
        self._budget_bytes = budget_bytes
        self._kept_bytes = 0
        self._known: OrderedDict[str, Context] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> Context:
        found = [self._one(text) for text in texts]
        length = max(one.embeds.shape[1] for one in found)
        return Context(
            embeds=torch.cat([self._filled(one.embeds, length) for one in found]),
            pooled=torch.cat([one.pooled for one in found]),
        )

    def _one(self, text: str) -> Context:
        known = self._known.get(text)
        if known is None:
            off = torch.autocast(self._base.device.type, enabled=False)
            with torch.no_grad(), off:
                known = encode_captions(self._base.text, [text])
            self._known[text] = known
            self._kept_bytes += _bytes_of(known)
            while self._kept_bytes > self._budget_bytes and len(self._known) > 1:
                self._kept_bytes -= _bytes_of(self._known.popitem(last=False)[1])
        return known

    def _filled(self, embeds: Tensor, length: int) -> Tensor:
        while embeds.shape[1] < length:
            embeds = torch.cat([embeds, self._one("").embeds], 1)
        return embeds


def _bytes_of(context: Context) -> int:
    return context.embeds.nbytes + context.pooled.nbytes
