"""Parts alone and files in other layouts, seen as if they lay in an original single file."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from engine.api.errors import NotThisFamily
from engine.api.recipe import Recipe
from engine.diffusion import keymap
from engine.diffusion.families.base import T5Layout, TextLayout
from engine.diffusion.families.joint_text import flux_towers, read_t5, sd3_towers
from engine.diffusion.families.ldm import read_clip, read_open_clip
from engine.diffusion.families.sd2 import penultimate
from engine.diffusion.keymap import PREFIXES
from engine.diffusion.weightfile import Place, WeightFile, open_weights, view

# A key that only files in diffusers' layout have, by part.
DIFFUSERS_MARKS = {
    "denoiser": "time_embedding.linear_1.weight",
    "vae": "encoder.conv_norm_out.weight",
    "control": "controlnet_cond_embedding.conv_in.weight",
}
# A key of the original layout, by part, and what stands before it in files of the part alone.
OWN_MARKS = {"denoiser": "input_blocks.0.0.weight"}
STARTS = ("", "diffusion_model.", "unet.", "model.")

CHECKPOINT_TEXTS = ("cond_stage_model.", "conditioner.", "text_encoders.")
TEXT = "text."  # before a tower's name in the view of text encoders
TOWERS: Mapping[str, tuple[str, ...]] = {
    "sd1": ("l",),
    "sd2": ("h",),
    "sdxl": ("l", "g"),
    "sdxl_refiner": ("g",),
    "sd2_unclip": ("h",),
    "sd_x4_upscaler": ("h",),
}
JOINT: Mapping[str, Mapping[str, str]] = {
    "sd3": {"l": "clip_l", "g": "clip_g", "t5xxl": "t5xxl"},
    "flux": {"l": "clip_l", "t5xxl": "t5xxl"},
}
"""Towers of which a family may lack some, and their names in its checkpoints."""
JOINT_TOWERS = {"sd3": sd3_towers, "flux": flux_towers}
TOWER_WIDTHS = {768: "l", 1024: "h", 1280: "g"}


def recipe_file(recipe: Recipe) -> WeightFile:
    """The weight file of a recipe; several files, or text encoders alone, are seen as one."""
    files = [open_weights(Path(file.path)) for file in recipe.files]
    if recipe.part == "text" and not is_checkpoint(files[0]):
        return text_view(recipe.family, files)
    return files[0] if len(files) == 1 else joined(files)


def is_checkpoint(file: WeightFile) -> bool:
    """Whether a file holds text encoders in a checkpoint's places."""
    return any(key.startswith(CHECKPOINT_TEXTS) for key in file.infos)


def joined(files: Sequence[WeightFile]) -> WeightFile:
    """A network that was cut into several files."""
    places = {key: (file, key) for file in files for key in file.infos}
    return view(places, files[0].path, files[0].metadata)


def as_single_file(part: str, file: WeightFile) -> WeightFile:
    """A denoiser, VAE or ControlNet under the names of the original layout.

    Files in that layout stay as they are, and so do those of no known one.
    """
    prefix = PREFIXES[part]
    for start in STARTS if part == "denoiser" else ("",):
        if f"{start}{DIFFUSERS_MARKS[part]}" in file:
            inner = [key.removeprefix(start) for key in file.keys(start)]
            names = keymap.diffusers_names(part, inner)
            place = prefix if part == "denoiser" else ""
            return _renamed(file, {place + ldm: start + key for key, ldm in names.values()})
        if part in OWN_MARKS and f"{start}{OWN_MARKS[part]}" in file:
            keys = file.keys(start)
            return _renamed(file, {prefix + key.removeprefix(start): key for key in keys})
    return file


def _renamed(file: WeightFile, keys: Mapping[str, str]) -> WeightFile:
    places: dict[str, Place] = {name: (file, key) for name, key in keys.items()}
    return view(places, file.path, file.metadata)


# Text encoders ------------------------------------------------------------------------------------


def tower_name(file: WeightFile) -> str:
    """Which text tower a file holds: l, h, g or t5xxl, by its width or as its metadata says.

    Raises: NotThisFamily.
    """
    if read_t5(file, "", min_length=77) is not None:
        return "t5xxl"
    layout = _read_tower(file, "")
    if layout is None:
        raise NotThisFamily(
            f"{file.path.name} holds no text encoder: it has no T5, and neither "
            "text_model.embeddings.token_embedding.weight nor token_embedding.weight.",
            hint="Choose a file from the text_encoders folder.",
        )
    name = file.metadata.get("weft.text.tower") or TOWER_WIDTHS.get(layout.width)
    if name is None or name not in TOWER_WIDTHS.values():
        raise NotThisFamily(
            f"{file.path.name} holds a text encoder of width {layout.width}; known are "
            f"{', '.join(str(width) for width in TOWER_WIDTHS)}."
        )
    return name


def text_view(family: str, files: Sequence[WeightFile]) -> WeightFile:
    """The text encoders of a family, one file for each tower in the family's order."""
    if family in JOINT:
        return _joint_view(family, files)
    places: dict[str, Place] = {
        f"{TEXT}{name}.{key}": (file, key)
        for name, file in zip(TOWERS[family], files, strict=True)
        for key in file.infos
    }
    return view(places, files[0].path, files[0].metadata)


def _joint_view(family: str, files: Sequence[WeightFile]) -> WeightFile:
    places: dict[str, Place] = {
        f"{TEXT}{family}.{JOINT[family][tower_name(file)]}.transformer.{key}": (file, key)
        for file in files
        for key in file.infos
    }
    return view(places, files[0].path, files[0].metadata)


def read_towers(file: WeightFile) -> tuple[TextLayout | T5Layout, ...]:
    """The towers in a view of text encoders. Raises: NotThisFamily."""
    for family, read in JOINT_TOWERS.items():
        if any(True for _ in file.keys(f"{TEXT}{family}.")):
            return read(file, f"{TEXT}{family}.")
    names = dict.fromkeys(key.split(".")[1] for key in file.keys(TEXT))
    layouts = {name: _read_tower(file, f"{TEXT}{name}.") for name in names}
    missing = [name for name, layout in layouts.items() if layout is None]
    if missing or not layouts:
        raise NotThisFamily(f"{file.path.name} holds no text encoder {', '.join(missing)}.")
    return tuple(
        _with_habits(layout, name, is_pair=len(layouts) > 1)
        for name, layout in layouts.items()
        if layout is not None
    )


def _read_tower(file: WeightFile, prefix: str) -> TextLayout | None:
    return read_clip(file, prefix) or read_open_clip(file, prefix, name="h")


def _with_habits(layout: TextLayout, name: str, *, is_pair: bool) -> TextLayout:
    """A tower as its family uses it; names and shapes alone do not say that."""
    if name == "l":
        return replace(
            layout,
            name=name,
            activation="quick_gelu",
            pad_token=49407,
            layer=-2 if is_pair else -1,
            normalizes=not is_pair,
        )
    layer = penultimate(layout) if name == "h" else -2
    return replace(
        layout, name=name, activation="gelu", pad_token=0, layer=layer, normalizes=name == "h"
    )
