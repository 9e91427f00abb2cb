"""A trained model as one checkpoint file: the base's own tensors with the trained ones in place."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from engine.api.recipe import Recipe
from engine.diffusion.checkpoint import part_source
from engine.diffusion.keymap import Source
from engine.diffusion.weightfile import open_weights

PARTS = {"unet": "denoiser", "text": "text"}


def checkpoint_tensors(model: Recipe, net: nn.Module, *, is_half: bool) -> dict[str, Tensor]:
    """All tensors of the model's file under its own names and shapes.

    `net` holds the trained parts as `unet.…` and `text.…`.
    """
    file = open_weights(Path(model.files[0].path))
    tensors = {key: file.tensor(key) for key in file.infos}
    state = net.state_dict()
    for part, kind in PARTS.items():
        own = {
            name.removeprefix(f"{part}."): value
            for name, value in state.items()
            if name.startswith(f"{part}.")
        }
        if own:
            tensors |= placed(part_source(replace(model, part=kind)).sources, own, tensors)
    wanted = torch.float16 if is_half else torch.float32
    return {
        key: value.to(wanted).contiguous() if value.is_floating_point() else value
        for key, value in tensors.items()
    }


def placed(
    sources: Mapping[str, Source], own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The file's tensors with our weights written into them: the inverse of `Source.read`."""
    changed: dict[str, Tensor] = {}
    for name, value in own.items():
        source = sources[name]
        if source.read(tensors[source.key]).shape != value.shape:  # a layer that was widened
            changed[source.key] = value.detach().float().cpu()
            continue
        target = changed.get(source.key)
        if target is None:
            target = changed[source.key] = tensors[source.key].float().clone()
        source.read(target).copy_(value.detach().float().cpu())
    return changed
