"""Training an inpainting model: it sees the picture around a hole, and where the hole is.

Source: Rombach et al. 2022 (arXiv:2112.10752) section 4.5, with the inputs of the inpainting model
of Stable Diffusion 1.5: noisy latent, mask, latent of the picture with a grey hole.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from engine.api.errors import NodeError
from engine.diffusion.scaling import scale
from engine.diffusion.training.base import Base
from engine.diffusion.training.checkpoint_file import checkpoint_tensors
from engine.diffusion.training.data.batches import masks_of, square_pictures
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.denoising import Noisy
from engine.diffusion.training.methods import FrozenText, Prepared, require_captions
from engine.diffusion.training.samples import sample_pictures
from engine.diffusion.training.settings import SampleSettings
from engine.diffusion.weightfile import open_weights

Masks = Literal["random", "of the pictures"]
MASKS: tuple[Masks, ...] = ("random", "of the pictures")
_EXTRA = 5  # the mask and the four channels of the picture's latent
_WHOLE_SHARE = 0.25  # random masks that hide everything, as for the published model
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Inpainting:
    """All weights of a denoiser that fills holes; a plain one is widened with zero weights.

    `masks`: random rectangles, or what the pictures' own masks show white.
    """

    masks: Masks = "random"
    is_half: bool = True

    title = "inpainting"
    folder = "checkpoints"
    factors = ()
    extra_channels = (0, _EXTRA)

    def check(self, dataset: Dataset) -> None:
        require_captions(dataset)
        without = [e.path.name for e in dataset.examples if e.mask_path is None]
        if self.masks == "of the pictures" and without:
            raise NodeError(
                f"{len(without)} of {len(dataset)} pictures have no mask, such as {without[0]}.",
                hint="Put a mask beside each picture, or let masks be random.",
            )

    def prepare(self, base: Base, generator: torch.Generator) -> Prepared:
        base = widened(base)
        base.unet.requires_grad_(True)
        net = nn.ModuleDict({"unet": base.unet})
        encode = FrozenText(base)
        return Prepared(
            net=net,
            encode=encode,
            tensors=lambda: checkpoint_tensors(base.model, net, is_half=self.is_half),
            metadata=open_weights(Path(base.model.files[0].path)).metadata,
            predict=lambda noisy, generator: self._predict(base, noisy, generator),
            pictures=lambda dataset, samples: _pictures(base, encode, dataset, samples),
        )

    def _predict(self, base: Base, noisy: Noisy, generator: torch.Generator) -> Tensor:
        pixels = noisy.data.read(noisy.draws).pixels
        if self.masks == "random":
            height, width = pixels.shape[-2:]
            masks = random_masks(len(pixels), height, width, generator)
        else:
            masks = masks_of(noisy.draws).round()
        seen = torch.cat([noisy.x, *shown(base, pixels, masks, noisy.x)], 1)
        return base.predict(seen, noisy.t, noisy.context, noisy.y)


def widened(base: Base) -> Base:
    """The base with inputs for mask and picture; weights that it lacks are zero."""
    loaded = base.denoiser
    wanted = loaded.latent.channels + _EXTRA
    old: Any = base.unet.conv_in
    if loaded.in_channels == wanted:
        return base
    new = nn.Conv2d(wanted, old.out_channels, old.kernel_size, padding=old.padding)
    new = new.to(old.weight)
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, : old.in_channels] = old.weight
        new.bias.copy_(old.bias)  # pyright: ignore[reportOptionalMemberAccess] - it has one
    loaded.unet.conv_in = new
    layout = replace(loaded.layout, in_channels=wanted)
    return replace(base, denoiser=replace(loaded, layout=layout))


def shown(base: Base, pixels: Tensor, masks: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """The mask and the latent of the pictures with grey where it is.

    Shapes: pixels (B, 3, H, W) -1..1, masks (B, 1, H, W) of 0 and 1 → (B, 1, h, w), (B, 4, h, w).
    """
    hidden = base.moments(pixels * (1 - masks)).chunk(2, 1)[0]
    rows, columns = like.shape[-2:]
    small = scale(masks, columns, rows, "bilinear", "center").round()
    return small, base.denoiser.latent.entered(hidden)


def random_masks(count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Masks of one to three rectangles each; a quarter of them hide everything.

    Shapes: (count, 1, height, width) of 0 and 1.
    """
    masks = torch.zeros(count, 1, height, width)
    for mask in masks:
        if float(torch.rand(1, generator=generator)) < _WHOLE_SHARE:
            mask.fill_(1)
            continue
        for _ in range(int(torch.randint(1, 4, (1,), generator=generator))):
            tall, wide, y, x = torch.rand(4, generator=generator).tolist()
            rows, columns = (
                max(1, round(side * (0.15 + 0.5 * share)))
                for side, share in ((height, tall), (width, wide))
            )
            top, left = round(y * (height - rows)), round(x * (width - columns))
            mask[:, top : top + rows, left : left + columns] = 1
    return masks


def _pictures(base: Base, encode: FrozenText, dataset: Dataset, samples: SampleSettings) -> Tensor:
    """Picture with a hole in its middle, and how it is filled, for the first pictures.

    Shapes: (N, H, 2 W, 3).
    """
    side = samples.size_px or base.denoiser.native_size
    mask = torch.zeros(1, 1, side, side)
    mask[..., side // 4 : side * 3 // 4, side // 4 : side * 3 // 4] = 1
    rows: list[Tensor] = []
    for n, pixels in enumerate(square_pictures(dataset, _SHOWN, side).split(1)):
        latent = base.moments((pixels * 2 - 1) * (1 - mask)).chunk(2, 1)[0]
        prompt = samples.prompts[n] if n < len(samples.prompts) else dataset.examples[n].text
        options = {"concat_latent_image": latent, "concat_mask": mask}
        picture = sample_pictures(
            base, encode, replace(samples, prompts=(prompt,)), options=options
        )
        holed = (pixels - 0.5) * (1 - mask) + 0.5
        rows.append(torch.cat([holed.movedim(1, -1), picture], 2))
    return torch.cat(rows)
