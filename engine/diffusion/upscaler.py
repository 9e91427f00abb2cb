"""Upscale models: ESRGAN's network in all of its key layouts; other kinds through spandrel.

Source: Wang et al. 2018, "ESRGAN" (arXiv 1809.00219), section 3.1; Wang et al. 2021,
"Real-ESRGAN" (arXiv 2107.10833), section 3.4 (smaller scales by pixel unshuffle).
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, pad, pixel_unshuffle

from engine.api.errors import ModelError, NodeError, NotThisFamily
from engine.api.recipe import FileRef, Recipe
from engine.diffusion.checkpoint import PartSource
from engine.diffusion.keymap import Source
from engine.diffusion.tiling import run_tiled, tiles
from engine.diffusion.weightfile import WeightFile, open_weights

TILE = 512
SMALLEST_TILE = 128
OVERLAP = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class EsrganLayout:
    """Sizes of an ESRGAN network: `unshuffle` is by how much its input is folded at first."""

    in_channels: int
    out_channels: int
    width: int
    growth: int
    blocks: int
    doublings: int
    unshuffle: int = 1

    @property
    def scale(self) -> Fraction:
        return Fraction(2**self.doublings, self.unshuffle)


class _Dense(nn.Module):
    """Five convolutions, each of which sees what all before it gave."""

    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        for n in range(5):
            out = growth if n < 4 else width
            setattr(self, f"conv{n + 1}", nn.Conv2d(width + n * growth, out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        *first, last = self.children()
        seen = x
        for conv in first:
            seen = torch.cat([seen, leaky_relu(conv(seen), 0.2)], dim=1)
        return x + 0.2 * last(seen)


class _Block(nn.Module):
    def __init__(self, width: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = _Dense(width, growth)
        self.rdb2 = _Dense(width, growth)
        self.rdb3 = _Dense(width, growth)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class Esrgan(nn.Module):
    """ESRGAN's network (RRDBNet). Shapes: (B, C, H, W) -> (B, C', H scale, W scale)."""

    def __init__(self, layout: EsrganLayout) -> None:
        super().__init__()
        self.scale = layout.scale
        self.in_channels = layout.in_channels
        self.unshuffle = layout.unshuffle
        width, folded = layout.width, layout.in_channels * layout.unshuffle**2
        self.conv_first = nn.Conv2d(folded, width, 3, padding=1)
        self.body = nn.Sequential(*(_Block(width, layout.growth) for _ in range(layout.blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        self.conv_up = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=1) for _ in range(layout.doublings)
        )
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, layout.out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if self.unshuffle > 1:
            missing = (-width % self.unshuffle, -height % self.unshuffle)
            x = pad(x, (0, missing[0], 0, missing[1]), mode="replicate")
            x = pixel_unshuffle(x, self.unshuffle)
        x = self.conv_first(x)
        x = x + self.conv_body(self.body(x))
        for conv in self.conv_up:
            x = leaky_relu(conv(interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        x = self.conv_last(leaky_relu(self.conv_hr(x), 0.2))
        return x[:, :, : int(height * self.scale), : int(width * self.scale)]


class OtherUpscaler(nn.Module):
    """A network of another kind, as spandrel built it, weights and all."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.held = (descriptor,)  # hidden in a tuple: its weights are not the pool's to attach
        self.scale = Fraction(descriptor.scale)
        self.in_channels: int = descriptor.input_channels

    def forward(self, x: Tensor) -> Tensor:
        return self.held[0].to(x.device)(x)


# Files --------------------------------------------------------------------------------------------

_OLD = re.compile(r"model\.1\.sub\.(\d+)\.RDB([123])\.conv([1-5])\.0\.")
_TRUNK = re.compile(r"RRDB_trunk\.(\d+)\.RDB([123])\.conv([1-5])\.")
_UP = re.compile(r"(?:conv_up|upconv)(\d+)\.")
_OLD_TRUNK_END = re.compile(r"model\.1\.sub\.\d+\.(weight|bias)")
_OLD_PLACE = re.compile(r"model\.(\d+)\.(weight|bias)")
_PREFIXES = ("module.", "params_ema.", "params.")
_PLAIN = (("trunk_conv.", "conv_body."), ("HRconv.", "conv_hr."))


def open_upscaler(path: Path, digest: str, name: str) -> Recipe:
    """The upscale model of a file.

    Raises: CorruptFile; ModelError where the kind is unknown or needs a package that is missing.
    """
    weights = open_weights(path)
    is_esrgan = _read_esrgan(weights) is not None
    if not is_esrgan:
        _spandrel(weights)
    file = FileRef(path=str(path), digest=digest, name=name)
    return Recipe(part="upscaler", family="esrgan" if is_esrgan else "spandrel", files=(file,))


def upscaler_source(file: WeightFile) -> PartSource:
    """How the pool builds the upscale model of a file. Raises: ModelError."""
    found = _read_esrgan(file)
    if found is None:
        module = OtherUpscaler(_described(file))
        return PartSource(file=file, layout=None, build=lambda: module, sources={})
    layout, names = found
    return PartSource(
        file=file,
        layout=None,
        build=lambda: _build(layout),
        sources={ours: Source(key=key) for ours, key in names.items()},
    )


def _build(layout: EsrganLayout) -> Esrgan:
    with torch.device("meta"):
        return Esrgan(layout)


def _read_esrgan(file: WeightFile) -> tuple[EsrganLayout, dict[str, str]] | None:
    """The sizes of an ESRGAN file and its keys by our names; None for any other kind."""
    names = _esrgan_names(file)
    shapes = {ours: file.shape(key) for ours, key in names.items()}
    first, last = shapes.get("conv_first.weight", ()), shapes.get("conv_last.weight", ())
    growth = shapes.get("body.0.rdb1.conv1.weight", ())
    if not (len(first) == len(last) == len(growth) == 4) or 0 in (*first, *last, *growth):
        return None
    if len(names) != len(file.infos):
        return None  # weights that this network has no place for: a kind of its own
    fold = math.isqrt(first[1] // last[0]) if first[1] % last[0] == 0 else 1
    if fold * fold * last[0] != first[1]:
        fold = 1
    return EsrganLayout(
        in_channels=first[1] // fold**2,
        out_channels=last[0],
        width=first[0],
        growth=growth[0],
        blocks=_count(shapes, "body.{}.rdb1.conv1.weight"),
        doublings=_count(shapes, "conv_up.{}.weight"),
        unshuffle=fold,
    ), names


def _count(names: Mapping[str, object], pattern: str) -> int:
    n = 0
    while pattern.format(n) in names:
        n += 1
    return n


def _esrgan_names(file: WeightFile) -> dict[str, str]:
    """Our names -> keys of the file."""
    prefix = next((p for p in _PREFIXES if next(file.keys(p), None) is not None), "")
    keys = [key[len(prefix) :] for key in file.keys(prefix)]
    places = sorted({int(m[1]) for key in keys if (m := _OLD_PLACE.fullmatch(key))})
    # The old layout numbers its layers: first, one for each doubling, the last two.
    inner = {n: f"conv_up.{i}." for i, n in enumerate(places[1:-2])}
    ends = zip(places[:1] + places[-2:], ("conv_first.", "conv_hr.", "conv_last."), strict=False)
    numbered = {**inner, **dict(ends)} if len(places) > 2 else {}
    names: dict[str, str] = {}
    for key in keys:
        ours = _our_name(key, numbered)
        if ours is not None:
            names[ours] = prefix + key
    return names


def _our_name(key: str, numbered: Mapping[int, str]) -> str | None:
    if match := _OLD_PLACE.fullmatch(key):
        start = numbered.get(int(match[1]))
        return None if start is None else start + match[2]
    if match := _OLD_TRUNK_END.fullmatch(key):
        return f"conv_body.{match[1]}"
    for pattern in (_OLD, _TRUNK):
        key = pattern.sub(r"body.\1.rdb\2.conv\3.", key)
    key = _UP.sub(lambda m: f"conv_up.{int(m[1]) - 1}.", key)
    for theirs, ours in _PLAIN:
        if key.startswith(theirs):
            key = ours + key[len(theirs) :]
    starts = ("conv_first.", "body.", "conv_body.", "conv_up.", "conv_hr.", "conv_last.")
    return key if key.startswith(starts) else None


# Other kinds --------------------------------------------------------------------------------------


def _spandrel(file: WeightFile) -> Any:
    """The package that knows other kinds. Raises: ModelError, where it is not installed."""
    try:
        import spandrel  # pyright: ignore[reportMissingImports] - optional, slow to import
    except ImportError as error:
        raise ModelError(
            f"{file.path.name} is no ESRGAN upscaler; other kinds need the package spandrel, "
            f"which cannot be imported ({error}).",
            # Its dependency torchvision must stay away: it can break diffusers and transformers.
            hint="Install it with `pip install --no-deps spandrel einops`, or choose an ESRGAN or "
            "Real-ESRGAN file.",
        ) from error
    return spandrel


def _described(file: WeightFile) -> Any:
    spandrel = _spandrel(file)
    try:
        found = spandrel.ModelLoader().load_from_state_dict(
            {key: file.tensor(key).clone() for key in file.infos}
        )
    except spandrel.UnsupportedModelError as error:
        raise NotThisFamily(
            f"{file.path.name} is no upscale model that spandrel knows.",
            hint="Choose a file from the upscale_models folder.",
        ) from error
    if not isinstance(found, spandrel.ImageModelDescriptor):
        raise NotThisFamily(f"{file.path.name} does not make one picture from one picture.")
    return found.eval()


# Use ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LoadedUpscaler:
    """An upscale model ready to be used."""

    model: Esrgan | OtherUpscaler
    device: torch.device
    dtype: torch.dtype


def upscale(
    upscaler: LoadedUpscaler,
    image: Tensor,
    *,
    on_tile: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Pictures enlarged by the model's scale, in tiles that get smaller where memory is short.

    `on_tile` is told how many tiles are done and how many there are.
    Shapes: image (B, H, W, C) 0..1 -> (B, H scale, W scale, 3). Raises: NodeError.
    """
    channels = upscaler.model.in_channels
    if image.shape[-1] < channels:
        raise NodeError(
            f"The upscale model reads {channels} channels, but the picture has {image.shape[-1]}.",
            hint="Choose another upscale model, or join the missing channels.",
        )
    pixels = image[..., :channels].movedim(-1, 1)
    tile = TILE
    while True:
        try:
            return _tiled(upscaler, pixels, tile, on_tile).movedim(1, -1)
        except torch.OutOfMemoryError:
            tile //= 2
            if tile < SMALLEST_TILE:
                raise


def _tiled(
    upscaler: LoadedUpscaler,
    pixels: Tensor,
    tile: int,
    on_tile: Callable[[int, int], None] | None,
) -> Tensor:
    height, width = pixels.shape[2:]
    total = len(tiles(height, width, tile, tile, OVERLAP)) * pixels.shape[0]
    done = 0

    def finished() -> None:
        nonlocal done
        done += 1
        if on_tile:
            on_tile(done, total)

    def run(part: Tensor) -> Tensor:
        other = isinstance(upscaler.model, OtherUpscaler)  # keeps the type of its own weights
        dtype = torch.float32 if other else upscaler.dtype
        with torch.no_grad():
            out = upscaler.model(part.to(upscaler.device, dtype))
        return out.float().cpu().clamp(0.0, 1.0)  # before blending, as the ecosystem does

    return run_tiled(
        pixels,
        run,
        tile_height=tile,
        tile_width=tile,
        overlap=OVERLAP,
        scale=upscaler.model.scale,
        on_tile=finished,
    )
