"""Training a latent diffusion model from nothing, as a checkpoint of Stable Diffusion 1.x's layout.

A start file of random weights is made first; from there on it is the training of a whole
checkpoint. Source: Rombach et al. 2022 (arXiv:2112.10752) section 3.3.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from engine.api.errors import NodeError
from engine.api.recipe import Recipe
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.clip_model import ClipText, Table
from engine.diffusion.families.base import TextLayout, UnetLayout
from engine.diffusion.keymap import to_ldm
from engine.diffusion.network import new_unet
from engine.diffusion.text import LoadedText, TextTower
from engine.diffusion.training.finetune import FineTune, base_identity
from engine.diffusion.training.job import Job, Places, Trainable
from engine.diffusion.training.methods import FullTraining
from engine.diffusion.training.new_vae import check_picture_sizes, groups_for
from engine.diffusion.training.result_files import write_result
from engine.diffusion.vae import LoadedVae

if TYPE_CHECKING:
    from engine.diffusion.residency import ModelPool

_SHOWN = 4
_DEEPEST = 3  # levels that have attention; a fourth one has none, as in Stable Diffusion 1.x


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffusionSizes:
    """Sizes of the denoiser, and of the text encoder where a new one is trained along."""

    width: int = 64
    multiples: tuple[int, ...] = (1, 2)
    blocks: int = 1
    heads: int = 8
    text_width: int = 128
    text_layers: int = 3
    text_heads: int = 2


def read_multiples(text: str) -> tuple[int, ...]:
    """The level widths of `1 2 4`. Raises: NodeError."""
    words = text.replace(",", " ").split()
    if not 1 <= len(words) <= 4 or not all(w.isdecimal() and 1 <= int(w) <= 16 for w in words):
        raise NodeError(
            f"The levels {text!r} are not one to four numbers from 1 to 16.",
            hint="Write how many times the width each level has, such as 1 2.",
        )
    return tuple(int(w) for w in words)


@dataclass(frozen=True, kw_only=True)
class DiffusionTraining(Job):
    """All that decides a new latent diffusion model.

    Without `clip` a new text encoder is trained along. Captions may all be empty: the model is
    unconditional then.
    """

    vae: Recipe | None
    clip: Recipe | None = None
    sizes: DiffusionSizes = field(default_factory=DiffusionSizes)

    @property
    def title(self) -> str:
        return "latent diffusion from nothing"

    @property
    def folder(self) -> str:
        return "checkpoints"

    def own_identity(self) -> dict[str, Any]:
        return {
            "method": {"title": self.title, **asdict(self.sizes)},
            "base": base_identity(self.clip, self.vae),
        }

    def check(self) -> None:
        super().check()
        if self.vae is None:
            raise NodeError(
                "The vae input is empty: the model is to learn the latents of a VAE.",
                hint="Train one with Train VAE, or load one.",
            )
        check_picture_sizes(self.dataset, self.settings.batches)
        sizes, step = self.sizes, 8 * 2 ** (len(self.sizes.multiples) - 1)
        if self.settings.batches.size_px % step:
            raise NodeError(
                f"Pictures of {self.settings.batches.size_px} pixels do not fit "
                f"{len(sizes.multiples)} levels.",
                hint=f"Choose a multiple of {step}, or fewer levels.",
            )
        for what, width, heads in (
            ("width", sizes.width, sizes.heads),
            ("text width", sizes.text_width, sizes.text_heads),
        ):
            if width % heads or width < 4:
                raise NodeError(
                    f"A {what} of {width} cannot be shared by {heads} attention heads.",
                    hint="Choose a width that is a multiple of the heads.",
                )

    def prepare(self, pool: "ModelPool", places: Places) -> Trainable:
        start = places.runs / self.run / "start.safetensors"
        if not start.exists():
            self._write_start(start, pool)
        parts = open_checkpoint(start, f"start of {self.run}", "new")
        samples = self.settings.samples
        captions = tuple(dict.fromkeys(e.text for e in self.dataset.examples))[:_SHOWN]
        samples = replace(samples, prompts=samples.prompts or captions)
        job = FineTune(
            method=FullTraining(trains_text=self.clip is None, text_factor=1.0),
            model=parts.model,
            clip=parts.clip,
            vae=self.vae,  # not the start's: so encoded pictures serve other runs too
            dataset=self.dataset,
            steps=self.steps,
            seed=self.seed,
            settings=replace(self.settings, samples=samples),
        )
        return job.prepare(pool, places)

    def _write_start(self, path: Path, pool: "ModelPool") -> None:
        assert self.vae is not None, "checked before"
        vae: LoadedVae = pool.own_copy(self.vae)
        if (vae.latent_channels, vae.factor) != (4, 8):
            raise NodeError(
                f"The VAE gives {vae.latent_channels} channels at 1/{vae.factor} of the size; a "
                "model of this layout takes 4 at 1/8.",
                hint="Use a VAE of Stable Diffusion 1.x, or one of Train VAE.",
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            text, tower = self._text(pool)
            layout = self._unet_layout(text.width)
            unet: Any = new_unet(layout)
        tensors = (
            to_ldm("denoiser", unet.state_dict())
            | to_ldm("vae", vae.model.state_dict())
            | to_ldm("text", tower.state_dict())
        )
        metadata = {
            "weft.unet.norm_num_groups": str(layout.groups),
            "weft.unet.attention_heads": str(layout.heads),
            "weft.vae.norm_num_groups": str(vae.layout.groups),
            "weft.text.heads": str(text.heads),
            "weft.native_size": str(self.settings.batches.size_px),
        }
        write_result(path, {key: _plain(value) for key, value in tensors.items()}, metadata)

    def _unet_layout(self, context: int) -> UnetLayout:
        sizes = self.sizes
        levels = len(sizes.multiples)
        return UnetLayout(
            prefix="",
            in_channels=4,
            out_channels=4,
            width=sizes.width,
            mult=sizes.multiples,
            blocks=sizes.blocks,
            depth=tuple(int(n < _DEEPEST) for n in range(levels)),
            middle_depth=1,
            context_dim=context,
            groups=groups_for(sizes.width),
            heads=sizes.heads,
        )

    def _text(self, pool: "ModelPool") -> tuple[TextLayout, nn.Module]:
        """The text encoder that is given, or a new one."""
        if self.clip is None:
            sizes = self.sizes
            layout = TextLayout(
                name="l",
                prefix="",
                width=sizes.text_width,
                layers=sizes.text_layers,
                heads=sizes.text_heads,
                mlp=4 * sizes.text_width,
            )
            return layout, new_text(layout)
        loaded: LoadedText = pool.own_copy(self.clip)
        towers = list(loaded.towers.values())
        if (
            len(towers) != 1
            or not isinstance(towers[0], TextTower)
            or towers[0].layout.naming != "clip"
        ):
            raise NodeError(
                "The CLIP is not that of a Stable Diffusion 1.x model.",
                hint="Connect the CLIP of such a checkpoint, or none, to train a new one.",
            )
        return towers[0].layout, towers[0].model


def new_text(layout: TextLayout) -> ClipText:
    """A text tower with random weights.

    Source: Radford et al. 2021 (arXiv:2103.00020), the deviations of its published code.
    """
    tower = ClipText(layout)
    for module in tower.modules():
        if isinstance(module, Table):
            nn.init.normal_(module.weight, std=0.02)
    return tower


def _plain(value: Tensor) -> Tensor:
    return value.detach().float().cpu().contiguous()
