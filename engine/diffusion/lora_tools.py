"""LoRA files made of others: several merged, of another rank, under other names.

No network runs: a change of low rank is worked on as its two matrices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.api.errors import ModelError, NodeError
from engine.api.recipe import Recipe
from engine.diffusion.checkpoint import part_source
from engine.diffusion.lora import (
    context_width,
    delta_of,
    lora_family,
    module_names,
    read_modules,
    stated_scale,
)
from engine.diffusion.lora_extraction import nearest
from engine.diffusion.training.adapter_files import LoraFormat, diffusers_name, kohya_name
from engine.diffusion.weightfile import WeightFile

_OF_THE_MODEL = {"dora", "magnitude", "a1", "b1"}  # their change depends on the model's weights


@dataclass(frozen=True, slots=True, kw_only=True)
class LowRank:
    """The change of a layer, up @ down. Shapes: up (O, R), down (R, I) or (R, I, kh, kw)."""

    up: Tensor
    down: Tensor

    @property
    def rank(self) -> int:
        return self.up.shape[1]


Changes = Mapping[str, LowRank]  # by the module's name in its file


def read_changes(file: WeightFile, name: str) -> tuple[dict[str, LowRank], list[str]]:
    """The changes of a LoRA file in fp32, and the modules left out: biases and norms.

    Raises: ModelError for a DoRA or GLoRA, whose change depends on the model.
    """
    changes: dict[str, LowRank] = {}
    left_out: list[str] = []
    for module, roles in read_modules(file).items():
        if odd := _OF_THE_MODEL & roles.keys():
            raise ModelError(
                f"{name} is a DoRA or GLoRA ({module} has {sorted(odd)[0]}): what it changes "
                "depends on the model's weights.",
                hint="Load it into its model and extract a plain LoRA with Extract LoRA.",
            )
        tensors = {role: file.tensor(key).float() for role, key in roles.items()}
        found = _low_rank(tensors, 1.0 if "alpha" in roles else stated_scale(file, module))
        if found is None:
            left_out.append(module)
        else:
            changes[module] = found
    return changes, left_out


def _low_rank(tensors: Mapping[str, Tensor], scale: float) -> LowRank | None:
    if {"down", "up"} <= tensors.keys() and "mid" not in tensors:
        down = tensors["down"]
        if "alpha" in tensors:
            scale = float(tensors["alpha"]) / len(down)
        return LowRank(up=tensors["up"].flatten(1) * scale, down=down)
    formula = delta_of(tensors)
    delta = formula(tensors) * scale if formula is not None else None
    if delta is None or delta.dim() < 2:
        return None
    up, down = nearest(delta.flatten(1), min(delta.flatten(1).shape))
    return LowRank(up=up, down=down.reshape(-1, *delta.shape[1:]))


def require_alike(files: Sequence[WeightFile]) -> None:
    """Raises: NodeError, where files use different names or were made for different families."""
    formats = {_is_kohya(module) for file in files for module in read_modules(file)}
    families = {lora_family(file) for file in files if context_width(file)}
    if len(formats) > 1:
        raise NodeError(
            "The LoRAs name their layers differently: kohya's way and diffusers' way.",
            hint="Bring them into one format with Convert LoRA first.",
        )
    if len(families) > 1:
        raise NodeError(
            f"The LoRAs were made for different families: {', '.join(sorted(families))}.",
            hint="Merge LoRAs of one family.",
        )


def _is_kohya(module: str) -> bool:
    return module.startswith(("lora_", "lycoris_"))


def merged(parts: Sequence[tuple[Changes, float]]) -> dict[str, LowRank]:
    """The sum of changes, each at its strength, exactly: ranks add up. Raises: NodeError."""
    merged: dict[str, LowRank] = {}
    for changes, strength in parts:
        for module, change in changes.items():
            scaled = LowRank(up=change.up * strength, down=change.down)
            other = merged.get(module)
            merged[module] = scaled if other is None else _sum(module, other, scaled)
    return merged


def _sum(module: str, one: LowRank, two: LowRank) -> LowRank:
    if one.down.shape[1:] != two.down.shape[1:] or len(one.up) != len(two.up):
        raise NodeError(
            f"The LoRAs do not fit together: {module} is of another size in each.",
            hint="Merge LoRAs of one family.",
        )
    return LowRank(up=torch.cat([one.up, two.up], 1), down=torch.cat([one.down, two.down]))


def resized(change: LowRank, rank: int, share: float = 1.0) -> tuple[LowRank, float]:
    """The nearest change of at most `rank`, and how much of it is kept (squared norms).

    Of `share` below 1 no more ranks are taken than keep that share. The singular values of a
    product come from the small core between two orthogonal factors.
    Source: Eckart and Young 1936; Golub & Van Loan, "Matrix Computations", section 5.4.
    """
    left, inner = torch.linalg.qr(change.up.double())
    right, outer = torch.linalg.qr(change.down.double().flatten(1).t())
    u, values, v = torch.linalg.svd(inner @ outer.t())
    power = values.square().cumsum(0)
    total = float(power[-1]) if len(power) else 0.0
    enough = int((power < share * total * (1 - 1e-12)).sum()) + 1
    count = max(1, min(rank, enough, len(values)))
    root = values[:count].sqrt()
    up = left @ u[:, :count] * root
    down = (right @ v[:count].t() * root).t()
    kept = float(power[count - 1]) / total if total else 1.0
    shape = (count, *change.down.shape[1:])
    return LowRank(up=up.float(), down=down.reshape(shape).float()), kept


def lora_file_tensors(changes: Changes, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a file whose modules keep their names: kohya's, or those of diffusers."""
    tensors: dict[str, Tensor] = {}
    for module, change in changes.items():
        ones = (1,) * (change.down.dim() - 2)
        up = change.up.reshape(*change.up.shape, *ones)
        if _is_kohya(module):
            tensors[f"{module}.lora_down.weight"] = change.down
            tensors[f"{module}.lora_up.weight"] = up
            tensors[f"{module}.alpha"] = torch.tensor(float(change.rank))
        else:
            tensors[f"{module}.lora_A.weight"] = change.down
            tensors[f"{module}.lora_B.weight"] = up
    return {key: value.to(dtype).contiguous() for key, value in tensors.items()}


def stored_type(files: Sequence[WeightFile]) -> torch.dtype:
    """fp16 where all files hold nothing finer, else fp32."""
    kinds = {info.dtype for file in files for info in file.infos.values()}
    return torch.float16 if kinds <= {torch.float16} else torch.float32


def renamed(changes: Changes, parts: Sequence[Recipe], naming: LoraFormat) -> dict[str, LowRank]:
    """The changes under the names of a format; `parts` are a model and its text encoder.

    Raises: NodeError, ModelError for a LoRA that does not fit them.
    """
    names: dict[str, str] = {}
    for recipe in parts:
        source = part_source(recipe)
        if source.transformer is not None:
            raise NodeError(
                f"LoRAs of the family {recipe.family} have one format only.",
                hint="Convert LoRAs of Stable Diffusion 1.x, 2.x and SDXL.",
            )
        for alias, (target, *_) in module_names(recipe.part, source).items():
            part, layer = "unet", target.name
            if recipe.part == "text":
                part, _, layer = layer.partition(".")
            if naming == "kohya":
                names[alias] = kohya_name(part, layer, recipe.family, source.sources)
            else:
                names[alias] = diffusers_name(part, layer)
    unknown = [module for module in changes if module not in names]
    if unknown:
        raise ModelError(
            f"{len(unknown)} of {len(changes)} layers of the LoRA are not in this model, such as "
            f"{unknown[0]}.",
            hint="Connect a model and CLIP of the family that the LoRA was made for.",
        )
    return {names[module]: change for module, change in changes.items()}
