"""The textbook training loops of diffusers' examples, restated from their definition.

They run over diffusers', peft's and transformers' own classes; nothing of `engine` but the data
order, the tokens and the starting weights is in them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from peft import LoraConfig
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from engine.diffusion.clip_model import ClipText
from engine.diffusion.training.data.batches import Batch, Batches
from engine.text.tokenizer import END, START, load_tokenizer


def transformers_text(tower: ClipText) -> CLIPTextModel:
    """transformers' text encoder with the weights of ours."""
    state = tower.state_dict()
    vocabulary, width = state["embeddings.token_embedding.weight"].shape
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=len(state["encoder.layers.0.mlp.fc1.bias"]),
        num_hidden_layers=len(tower.encoder.layers),
        num_attention_heads=2,
        max_position_embeddings=77,
        hidden_act="quick_gelu",
    )
    model = CLIPTextModel(config)
    own = set(model.state_dict())
    prefix = "" if "final_layer_norm.weight" in own else "text_model."
    missing, unknown = model.load_state_dict(
        {prefix + key: value.float() for key, value in state.items()}, strict=False
    )
    assert not unknown and all(name.endswith("position_ids") for name in missing)
    return model.eval()


def token_ids(texts: Sequence[str], new_words: dict[str, list[int]] | None = None) -> Tensor:
    """Start, tokens, end, ends as padding. Shapes: (B, 77)."""
    tokenizer = load_tokenizer()
    rows = torch.full((len(texts), 77), END)
    for row, text in zip(rows, texts, strict=True):
        ids: list[int] = []
        for word in text.split(" "):
            found = (new_words or {}).get(word.strip(","))
            ids += (
                found + tokenizer.encode(word[-1:] if word.endswith(",") else "")
                if found
                else tokenizer.encode(word)
            )
        row[: len(ids) + 1] = torch.tensor([START, *ids])
    return rows


@dataclass(kw_only=True)
class Textbook:
    """Networks and schedule of one loop; every random number comes from one generator."""

    unet: Any
    vae: Any
    text: CLIPTextModel
    data: Batches
    seed: int
    scaling: float = 0.18215

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)
        self.scheduler = DDPMScheduler(
            num_train_timesteps=1000,
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
        )

    def errors(self, batch: Batch, ids: Tensor) -> Tensor:
        """Squared errors of the predicted noise. Shapes: (B, 4, h, w)."""
        with torch.no_grad():
            posterior = self.vae.encode(batch.pixels).latent_dist
        latents = posterior.sample(generator=self.generator) * self.scaling
        noise = torch.randn(latents.shape, generator=self.generator)
        steps = self.scheduler.config["num_train_timesteps"]
        t = torch.randint(0, steps, (len(latents),), generator=self.generator)
        noisy = self.scheduler.add_noise(latents, noise, t)  # pyright: ignore[reportArgumentType]
        hidden = self.text(input_ids=ids).last_hidden_state
        predicted = self.unet(noisy, t, hidden, return_dict=False)[0]
        return F.mse_loss(predicted.float(), noise.float(), reduction="none")

    def step(self, loss: Tensor, optimizer: torch.optim.Optimizer, clip: float | None) -> float:
        loss.backward()
        if clip is not None:
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())


def lora_parameters(net: Any, targets: Sequence[str], rank: int, start: dict[str, Tensor]) -> Any:
    """Adds peft's adapters to a network, with given down matrices; gives what is trained."""
    net.requires_grad_(False)
    net.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets)))
    for name, parameter in net.named_parameters():
        if ".lora_A." in name:
            layer = name.partition(".lora_A.")[0].removeprefix("text_model.")
            parameter.data.copy_(start[layer])
    return [p for p in net.parameters() if p.requires_grad]


UNET_TARGETS = ("to_k", "to_q", "to_v", "to_out.0")
TEXT_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj")


def text_to_image_lora(
    book: Textbook, steps: int, lr: float, rank: int, start: dict[str, Tensor]
) -> list[float]:
    """Losses of diffusers' text-to-image LoRA training."""
    parameters = lora_parameters(book.unet, UNET_TARGETS, rank, start)
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=1e-2)
    losses: list[float] = []
    for _ in range(steps):
        batch = book.data.next()
        loss = book.errors(batch, token_ids(batch.texts)).mean()
        losses.append(book.step(loss, optimizer, 1.0))
    return losses


def dreambooth_lora(
    book: Textbook, steps: int, lr: float, rank: int, start: dict[str, Tensor], prior: float
) -> list[float]:
    """Losses of diffusers' DreamBooth LoRA training with prior preservation and text encoder."""
    parameters = lora_parameters(book.unet, UNET_TARGETS, rank, start)
    parameters += lora_parameters(book.text, TEXT_TARGETS, rank, start)
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=1e-2)
    losses: list[float] = []
    for _ in range(steps):
        batch = book.data.next()
        own, of_class = book.errors(batch, token_ids(batch.texts)).chunk(2)
        loss = own.mean() + prior * of_class.mean()
        losses.append(book.step(loss, optimizer, 1.0))
    return losses


def textual_inversion(
    book: Textbook, steps: int, lr: float, word: str, initializer: int
) -> list[float]:
    """Losses of diffusers' textual inversion: the whole table is stepped, old rows are put back."""
    book.unet.requires_grad_(False)
    book.text.requires_grad_(False)
    text: Any = book.text
    new: int = text.get_input_embeddings().weight.shape[0]
    text.resize_token_embeddings(new + 1, mean_resizing=False)
    table: Any = text.get_input_embeddings().weight
    table.data[new] = table.data[initializer]
    table.requires_grad_(True)
    original = table.detach().clone()
    optimizer = torch.optim.AdamW([table], lr=lr, weight_decay=1e-2)
    losses: list[float] = []
    for _ in range(steps):
        batch = book.data.next()
        loss = book.errors(batch, token_ids(batch.texts, {word: [new]})).mean()
        losses.append(book.step(loss, optimizer, None))
        with torch.no_grad():
            table[:new] = original[:new]
    return losses
