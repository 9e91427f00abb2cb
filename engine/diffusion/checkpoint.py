"""Opens weight files as recipes, and tells the model pool how to build each part of them.

Opening reads a header only; nothing is loaded until the pool is asked for a part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from engine.api.errors import CorruptFile, NotThisFamily
from engine.api.recipe import FileRef, Recipe
from engine.diffusion import keymap
from engine.diffusion.clip_model import ClipText
from engine.diffusion.controlnet import build_control
from engine.diffusion.families import identify
from engine.diffusion.families.base import (
    CheckpointLayout,
    FluxLayout,
    Sd3Layout,
    T5Layout,
    TextLayout,
    UnetLayout,
    VaeLayout,
)
from engine.diffusion.families.ldm import number, read_unet, read_vae
from engine.diffusion.families.mmdit import flux_header, read_any_vae, sd3_header
from engine.diffusion.keymap import Source
from engine.diffusion.network import build_unet
from engine.diffusion.single_file import (
    JOINT,
    TEXT,
    TOWERS,
    as_single_file,
    is_checkpoint,
    read_towers,
    recipe_file,
    tower_name,
)
from engine.diffusion.t5_model import T5Text
from engine.diffusion.transformer import build_flux, build_sd3
from engine.diffusion.vae import build_vae
from engine.diffusion.weightfile import WeightFile, open_weights


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointParts:
    """The recipes of a checkpoint's parts; `clip` and `vae` are None where the file has none."""

    model: Recipe
    clip: Recipe | None
    vae: Recipe | None


def open_checkpoint(path: Path, digest: str, name: str) -> CheckpointParts:
    """The parts of a checkpoint file.

    Raises: CorruptFile; NotThisFamily, with every family's reason.
    """
    layout = identify(as_single_file("denoiser", open_weights(path)))
    file = FileRef(path=str(path), digest=digest, name=name)

    def part(kind: str, is_there: object) -> Recipe | None:
        return Recipe(part=kind, family=layout.family, files=(file,)) if is_there else None

    return CheckpointParts(
        model=Recipe(part="denoiser", family=layout.family, files=(file,)),
        clip=part("text", layout.text),
        vae=part("vae", layout.vae),
    )


def open_vae(path: Path, digest: str, name: str) -> Recipe:
    """The autoencoder of a file, alone or inside a checkpoint.

    Raises: CorruptFile, NotThisFamily.
    """
    vae_layout(open_weights(path))
    file = FileRef(path=str(path), digest=digest, name=name)
    return Recipe(part="vae", family="vae", files=(file,))


def vae_layout(file: WeightFile) -> VaeLayout:
    """The layout of the autoencoder in a file. Raises: NotThisFamily."""
    try:
        file = as_single_file("vae", file)
        layout = read_vae(file, "") or read_any_vae(file)
    except NotThisFamily as error:
        raise NotThisFamily(f"{file.path.name} {error.message}.") from error
    if layout is None:
        raise NotThisFamily(
            f"{file.path.name} holds no autoencoder: it has no encoder.conv_in.weight.",
            hint="Choose a file from the vae folder, or a checkpoint with its own VAE.",
        )
    return layout


def open_text(files: Sequence[FileRef], joint: str | None = None) -> Recipe:
    """The text encoders of files, in any order; a checkpoint may stand for its own.

    With `joint` (sd3 or flux) those of that family, of which some may be missing.
    Raises: CorruptFile; NotThisFamily, for towers that no family here has together.
    """
    opened = [open_weights(Path(file.path)) for file in files]
    if len(files) == 1 and is_checkpoint(opened[0]):
        return Recipe(part="text", family=identify(opened[0]).family, files=tuple(files))
    names = [tower_name(file) for file in opened]
    if joint is not None:
        return _open_joint(files, names, joint)
    family = next((f for f, towers in TOWERS.items() if sorted(towers) == sorted(names)), None)
    if family is None:
        found = " and ".join(f"{f.name} (CLIP-{n.upper()})" for f, n in zip(files, names))
        raise NotThisFamily(
            f"No family has the text encoders of {found}.",
            hint="SD1 has CLIP-L, SD2 CLIP-H, SDXL CLIP-L and CLIP-G, its refiner CLIP-G.",
        )
    ordered = [files[names.index(tower)] for tower in TOWERS[family]]
    return Recipe(part="text", family=family, files=tuple(ordered))


def _open_joint(files: Sequence[FileRef], names: Sequence[str], family: str) -> Recipe:
    towers = JOINT[family]
    for file, name in zip(files, names):
        if name not in towers or names.count(name) > 1:
            what = f"is {'T5' if name == 't5xxl' else f'CLIP-{name.upper()}'}"
            raise NotThisFamily(
                f"{file.name} {what}{' as another file is' if name in towers else ''}, but "
                f"{family} takes one each of {', '.join(towers)}.",
                hint="Choose another file or another type.",
            )
    ordered = [files[names.index(tower)] for tower in towers if tower in names]
    return Recipe(part="text", family=family, files=tuple(ordered))


def open_controlnet(path: Path, digest: str, name: str) -> Recipe:
    """The ControlNet of a file. Raises: CorruptFile, NotThisFamily."""
    control_layout(open_weights(path))
    file = FileRef(path=str(path), digest=digest, name=name)
    return Recipe(part="control", family="control", files=(file,))


def control_layout(file: WeightFile) -> UnetLayout:
    """The sizes of the ControlNet in a file. Raises: NotThisFamily."""
    prefix = keymap.PREFIXES["control"]
    file = as_single_file("control", file)
    try:
        layout = read_unet(file, prefix if f"{prefix}input_hint_block.0.weight" in file else "")
    except NotThisFamily as error:
        raise NotThisFamily(
            f"{file.path.name} is no ControlNet of a known layout: it {error.message}.",
            hint="Choose a file from the controlnet folder.",
        ) from error
    if f"{layout.prefix}input_hint_block.0.weight" not in file:
        raise NotThisFamily(f"{file.path.name} is no ControlNet: it has no input_hint_block.")
    if types := file.shape(f"{layout.prefix}task_embedding"):
        layout = replace(layout, control_types=types[0])
    if layout.is_linear:
        return replace(layout, head_width=number(file, "weft.unet.head_width", 64))
    return replace(layout, heads=number(file, "weft.unet.attention_heads", 8))


# How the pool builds a part -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSource:
    """How to make a network part: its empty module and where each weight comes from."""

    file: WeightFile
    layout: CheckpointLayout | None
    build: Callable[[], nn.Module]
    sources: Mapping[str, Source]
    unet: UnetLayout | None = None
    transformer: Sd3Layout | FluxLayout | None = None
    vae: VaeLayout | None = None
    text: tuple[TextLayout | T5Layout, ...] = ()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a weight by our name of it."""
        found = self.sources[name]
        return found.shape(self.file.shape(found.key))


def part_source(recipe: Recipe) -> PartSource:
    """How to make the part that a recipe names. Raises: CorruptFile, NotThisFamily."""
    return PARTS[recipe.part](recipe_file(recipe))


def _denoiser(file: WeightFile) -> PartSource:
    file = as_single_file("denoiser", file)
    layout = identify(file)
    unet = layout.unet
    if layout.transformer is not None:
        return _transformer(file, layout, layout.transformer)
    if unet is None:
        raise NotThisFamily(f"{file.path.name} has no denoising network.")
    pairs = keymap.unet_names(unet.depth, unet.blocks)
    return PartSource(
        file=file,
        layout=layout,
        build=lambda: build_unet(unet),
        sources=keymap.sources(file.infos, pairs, unet.prefix),
        unet=unet,
    )


def _transformer(
    file: WeightFile, layout: CheckpointLayout, transformer: Sd3Layout | FluxLayout
) -> PartSource:
    if isinstance(transformer, FluxLayout):
        found, build = flux_header(file), partial(build_flux, transformer)
    else:
        found, build = sd3_header(file), partial(build_sd3, transformer)
    return PartSource(
        file=file, layout=layout, build=build, sources=found.sources, transformer=transformer
    )


def _vae(file: WeightFile) -> PartSource:
    vae = vae_layout(file)
    file = as_single_file("vae", file)
    pairs = keymap.vae_names(len(vae.mult), vae.blocks)
    return PartSource(
        file=file,
        layout=None,
        build=lambda: build_vae(vae),
        sources=keymap.sources(file.infos, pairs, vae.prefix),
        vae=vae,
    )


def _text(file: WeightFile) -> PartSource:
    is_alone = any(True for _ in file.keys(TEXT))
    layout = None if is_alone else identify(file)
    towers = read_towers(file) if layout is None else layout.text
    if not towers:
        raise NotThisFamily(f"{file.path.name} has no text encoder.")
    return PartSource(
        file=file,
        layout=layout,
        build=lambda: _text_module(towers),
        sources={
            f"{tower.name}.{name}": source
            for tower in towers
            for name, source in _tower_sources(file, tower).items()
        },
        text=towers,
    )


def _text_module(towers: tuple[TextLayout | T5Layout, ...]) -> nn.Module:
    with torch.device("meta"):
        return nn.ModuleDict(
            {
                tower.name: T5Text(tower) if isinstance(tower, T5Layout) else ClipText(tower)
                for tower in towers
            }
        )


def _tower_sources(file: WeightFile, tower: TextLayout | T5Layout) -> dict[str, Source]:
    if isinstance(tower, T5Layout):
        return keymap.sources(file.infos, keymap.T5_NAMES, tower.prefix)
    if tower.naming == "open_clip":
        return keymap.open_clip_sources(file.infos, tower.layers, tower.width, tower.prefix)
    names = (*keymap.TEXT_NAMES, *keymap.BARE_TEXT_NAMES)
    return keymap.sources(file.infos, names, tower.prefix)


def _control(file: WeightFile) -> PartSource:
    layout = control_layout(file)
    pairs = keymap.control_names(layout.depth, layout.blocks)
    file = as_single_file("control", file)
    hints = [file.shape(f"{layout.prefix}input_hint_block.{n}.weight") for n in (0, 4, 8, 12)]
    if not all(hints) or any(0 in shape for shape in hints):
        raise NotThisFamily(f"{file.path.name} has a hint network of an unknown shape.")
    widths = tuple(shape[0] for shape in hints)
    return PartSource(
        file=file,
        layout=None,
        build=lambda: build_control(layout, hints[0][1], widths),
        sources=keymap.sources(file.infos, pairs, layout.prefix),
        unet=layout,
    )


PARTS: dict[str, Callable[[WeightFile], PartSource]] = {
    "denoiser": _denoiser,
    "vae": _vae,
    "text": _text,
    "control": _control,
}


def check_complete(source: PartSource, module: nn.Module) -> None:
    """Raises: CorruptFile, naming weights that the file lacks or that have another shape."""
    missing: list[str] = []
    for name, parameter in module.state_dict().items():
        if name not in source.sources:
            missing.append(name)
        elif source.shape(name) != tuple(parameter.shape):
            raise CorruptFile(
                f"{source.file.path.name}: {source.sources[name].key} has the shape "
                f"{list(source.shape(name))}, but {list(parameter.shape)} is expected."
            )
    if missing:
        raise CorruptFile(
            f"{source.file.path.name} lacks {len(missing)} weights: {', '.join(missing[:5])} …",
            hint="The file may be a part of a model only; choose the complete checkpoint.",
        )
