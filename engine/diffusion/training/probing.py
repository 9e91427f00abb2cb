"""Measuring the signs of advice: losses, copies and noise in samples, what words still do."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

from engine.diffusion.training.advice import Subject
from engine.diffusion.training.base import Base
from engine.diffusion.training.data.batches import square_pictures
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.denoising import Encode

_ALIKE_PX, _ALIKE = 16, 0.95
_SEEN = 32  # training pictures that samples are compared with
_NOISE_LEVEL = 0.7  # share of the timesteps, where the prompt decides what is drawn


@dataclass(frozen=True, kw_only=True)
class PictureSigns:
    """What samples say beside the pictures that are learned."""

    dataset: Dataset
    _known: dict[int, Tensor] = field(default_factory=dict)

    def _pictures(self, side_px: int) -> Tensor:
        """Shapes: (N, 3, side, side) 0..1."""
        if side_px not in self._known:
            self._known[side_px] = square_pictures(self.dataset, _SEEN, side_px)
        return self._known[side_px]

    def copies(self, samples: Tensor) -> float:
        """The share of samples that are nearly one of the pictures. Shapes: (N, H, W, 3) 0..1."""
        pictures = self._pictures(samples.shape[1])
        own = alikeness(pictures, pictures)
        own.fill_diagonal_(-1)
        usual = float(own.amax(1).median()) if len(own) > 1 else -1.0
        nearest = alikeness(samples.movedim(-1, 1), pictures).amax(1)
        return float((nearest > max(_ALIKE, usual)).float().mean())

    def noise(self, samples: Tensor) -> float:
        """How noisy samples are beside the pictures. Shapes: (N, H, W, 3) 0..1."""
        usual = noise_of(self._pictures(samples.shape[1])).median()
        return float(noise_of(samples.movedim(-1, 1)).median() / usual.clamp(min=0.005))


def alikeness(left: Tensor, right: Tensor) -> Tensor:
    """The correlation of small versions of pictures. Shapes: (N, 3, H, W), (M, …) → (N, M)."""
    small = [F.adaptive_avg_pool2d(x.float(), _ALIKE_PX) for x in (left, right)]
    flat = [F.normalize((x - x.mean((2, 3), keepdim=True)).flatten(1), dim=1) for x in small]
    return flat[0] @ flat[1].t()


def noise_of(pictures: Tensor) -> Tensor:
    """The deviation of a picture's noise. Shapes: (N, C, H, W) → (N,).

    Source: Immerkaer 1996, "Fast Noise Variance Estimation", eq. 5.
    """
    mask = torch.tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]])
    grey = pictures.float().mean(1, keepdim=True)
    found = F.conv2d(grey, mask[None, None])
    return (torch.pi / 2) ** 0.5 / 6 * found.abs().mean((1, 2, 3))


@dataclass(frozen=True, kw_only=True)
class WordSigns:
    """What the identifier of a subject changes in what the denoiser predicts."""

    base: Base
    encode: Encode
    subject: Subject

    def styles(self, prompts: Sequence[str]) -> float | None:
        """How much the identifier does in other prompts, as a share of what it does in its own;
        None, where no prompt says."""
        own = self.subject.prompt
        others = [p for p in prompts if self._without(p) != p and p != own]
        if not others or self._without(own) == own:
            return None
        found = [self._effect(prompt) for prompt in (own, *others)]
        return sum(found[1:]) / len(others) / max(found[0], 1e-9)

    @cached_property
    def _identifier(self) -> set[str]:
        return set(self.subject.identifier.split())

    def _without(self, prompt: str) -> str:
        return " ".join(w for w in prompt.split() if w.strip(".,").lower() not in self._identifier)

    @torch.no_grad()
    def _effect(self, prompt: str) -> float:
        """The relative change of the prediction from pure noise, by the identifier in a prompt."""
        base, space = self.base, self.base.denoiser.latent
        side = base.denoiser.native_size // space.factor
        noise = torch.randn(
            1, space.channels, side, side, generator=torch.Generator().manual_seed(0)
        )
        t = torch.tensor([round(_NOISE_LEVEL * len(base.alphas))])
        size = side * space.factor
        sizes = torch.tensor([[size, size, 0, 0, size, size]])
        said: list[Tensor] = []
        for text in (prompt, self._without(prompt)):
            context = self.encode([text])
            y = base.vector(context.pooled, sizes)
            said.append(base.predict(noise, t, context.embeds, y).float())
        return float((said[0] - said[1]).norm() / said[1].norm())
