"""A value of a wire as a few facts and small pictures, for people; the value stays as it is."""

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from PIL import Image
from torch import Tensor

from engine.api.recipe import Recipe

Json = dict[str, Any]

PICTURE_PX = 320  # the longer edge of a picture
CHANNEL_PX = 96
MAX_PICTURES = 4
MAX_CHANNELS = 16
MAX_ENTRIES = 6  # conditionings, or values of a list
MAX_TEXT = 4000
MAX_POINTS = 400  # of a curve
_SHOWN_OPTIONS = ("strength", "mask_strength", "set_area_to_bounds")


def described(values: Sequence[Any], socket_type: str) -> Json:
    """The values of one output: {"kind", "count", "entries": [{"facts", "pictures", …}]}.

    `facts` are pairs of words; a picture is {"mime", "data" (base64), "words"}; a text stands in
    `text`, a curve in `curve`.
    """
    entries = [_entry(value, socket_type) for value in values[:MAX_ENTRIES]]
    return {"count": len(values), "type": socket_type, "entries": entries}


def _entry(value: Any, socket_type: str) -> Json:
    if isinstance(value, Tensor):
        return _tensor(value, socket_type)
    if isinstance(value, Recipe):
        return {"facts": _recipe(value)}
    if isinstance(value, Mapping) and isinstance(value.get("samples"), Tensor):
        return _latent(value)
    if _is_conditioning(value):
        return _conditioning(value)
    if isinstance(value, bool | int | float | str):
        return _plain(value)
    return _other(value)


# Tensors ------------------------------------------------------------------------------------------


def _tensor(value: Tensor, socket_type: str) -> Json:
    if value.ndim == 1:
        return _curve(value)
    if value.numel() and value.ndim in (2, 3) and socket_type in ("MASK", "*"):
        return _mask(value)
    if value.numel() and value.ndim == 4 and value.shape[-1] in (1, 3, 4):
        return _image(value)
    return {"facts": [("Shape", _shape(value)), *_numbers(value)]}


def _image(value: Tensor) -> Json:
    """Pictures of (B, H, W, C) 0..1."""
    batch, height, width, channels = value.shape
    facts = [
        ("Size", f"{width} × {height}"),
        ("Pictures", str(batch)),
        ("Channels", {1: "grey", 3: "RGB", 4: "RGBA"}[channels]),
        *_numbers(value),
    ]
    pictures = [
        _encoded(_shrunk(item.movedim(-1, 0), PICTURE_PX), f"picture {at + 1} of {batch}")
        for at, item in enumerate(value[:MAX_PICTURES])
    ]
    return {"facts": facts, "pictures": pictures}


def _mask(value: Tensor) -> Json:
    """Pictures of (B, H, W) or (H, W), white where it is 1."""
    items = value.reshape(-1, *value.shape[-2:])
    height, width = items.shape[-2:]
    covered = items.float().mean().item()
    facts = [
        ("Size", f"{width} × {height}"),
        ("Masks", str(len(items))),
        ("Covered", f"{100 * covered:.1f} %"),
        *_numbers(value),
    ]
    pictures = [
        _encoded(_shrunk(item[None], PICTURE_PX), f"mask {at + 1} of {len(items)}")
        for at, item in enumerate(items[:MAX_PICTURES])
    ]
    return {"facts": facts, "pictures": pictures}


def _latent(value: Mapping[str, Any]) -> Json:
    """Each channel of the first item, its least value black and its greatest white."""
    samples: Tensor = value["samples"]
    facts = [("Shape", _shape(samples)), *_numbers(samples)]
    more = [str(key) for key in value if key not in ("samples", "noise_mask")]
    if more:
        facts.append(("Also holds", ", ".join(more)))
    pictures: list[Json] = []
    if samples.ndim >= 4 and samples.numel():
        item = samples[0].float()
        planes = item.reshape(item.shape[0], -1, *item.shape[-2:])[:, 0]  # of frames the first
        for at, plane in enumerate(planes[:MAX_CHANNELS]):
            low, high = plane.min(), plane.max()
            grey = (plane - low) / (high - low).clamp_min(1e-12)
            words = f"channel {at + 1}, {low:.2f} to {high:.2f}"
            pictures.append(_encoded(_shrunk(grey[None], CHANNEL_PX), words, "PNG"))
    mask = value.get("noise_mask")
    if isinstance(mask, Tensor):
        facts.append(("Noise mask", _shape(mask)))
        pictures += _tensor(mask.flatten(0, -3), "MASK").get("pictures", [])[:1]
    return {"facts": facts, "pictures": pictures, "is_grid": True}


def _curve(value: Tensor) -> Json:
    """Numbers in a row, such as sigmas: the steps are one less than the numbers."""
    numbers = value.flatten().double().cpu()
    facts = [("Numbers", str(len(numbers))), ("Steps", str(max(0, len(numbers) - 1)))]
    if len(numbers):
        facts += [("From", f"{numbers[0].item():.4g}"), ("To", f"{numbers[-1].item():.4g}")]
    step = max(1, math.ceil(len(numbers) / MAX_POINTS))
    return {"facts": facts, "curve": [_finite(v) for v in numbers[::step].tolist()]}


def _numbers(value: Tensor) -> list[tuple[str, str]]:
    if not value.numel():
        return [("Values", "none")]
    if value.is_complex() or value.dtype == torch.bool:
        return [("Values", str(value.dtype).removeprefix("torch."))]
    numbers = value.float()
    facts = [("Values", f"{numbers.min().item():.3f} to {numbers.max().item():.3f}")]
    spread = numbers.std(correction=0).item()
    facts.append(("Mean, std", f"{numbers.mean().item():.3f}, {spread:.3f}"))
    if not torch.isfinite(numbers).all():
        facts.append(("Not finite", f"{int((~torch.isfinite(numbers)).sum())} values"))
    return facts


def _shape(value: Tensor) -> str:
    kind = str(value.dtype).removeprefix("torch.")
    return f"{' × '.join(map(str, value.shape)) or 'a single number'} ({kind})"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shrunk(item: Tensor, longest: int) -> Tensor:
    """A picture (C, H, W) whose longer edge is at most `longest`."""
    item = item.detach().float().cpu()
    height, width = item.shape[-2:]
    scale = longest / max(height, width, 1)
    if scale >= 1 or not item.numel():
        return item
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.interpolate(item[None], size, mode="area")[0]


def _encoded(item: Tensor, words: str, form: str = "WEBP") -> Json:
    """A picture (C, H, W) 0..1 as a small file."""
    pixels = item.nan_to_num().clamp(0, 1).mul(255).round().byte().movedim(0, -1).numpy()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    buffer = io.BytesIO()
    picture.save(buffer, form, **({"quality": 88} if form == "WEBP" else {}))
    data = base64.b64encode(buffer.getvalue()).decode()
    return {"mime": f"image/{form.lower()}", "data": data, "words": words}


# Conditioning and recipes -------------------------------------------------------------------------


def _is_conditioning(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(item, list | tuple) and len(item) == 2 and isinstance(item[1], Mapping)
        for item in value
    )


def _conditioning(value: Any) -> Json:
    """The embeds and options of each entry."""
    facts: list[tuple[str, str]] = [("Entries", str(len(value)))]
    pictures: list[Json] = []
    for at, (embeds, options) in enumerate(value[:MAX_ENTRIES]):
        place = f"{at + 1}: " if len(value) > 1 else ""
        if isinstance(embeds, Tensor):
            facts.append((f"{place}Text", _shape(embeds)))
        facts += [(f"{place}{name}", words) for name, words in _options(options)]
        mask = options.get("mask")
        if isinstance(mask, Tensor) and len(pictures) < MAX_PICTURES:
            pictures += _tensor(mask, "MASK").get("pictures", [])[:1]
    return {"facts": facts, "pictures": pictures}


def _options(options: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    pooled = options.get("pooled_output")
    if isinstance(pooled, Tensor):
        facts.append(("Pooled", _shape(pooled)))
    if "area" in options:
        facts.append(("Area", _area(options["area"])))
    if isinstance(options.get("mask"), Tensor):
        facts.append(("Mask", _shape(options["mask"])))
    start, end = options.get("start_percent", 0.0), options.get("end_percent", 1.0)
    if (start, end) != (0.0, 1.0):
        facts.append(("Steps", f"{100 * start:.0f} % to {100 * end:.0f} %"))
    facts += [(n.replace("_", " "), _short(options[n])) for n in _SHOWN_OPTIONS if n in options]
    told = {"pooled_output", "area", "mask", "start_percent", "end_percent", *_SHOWN_OPTIONS}
    more = [str(name) for name in options if name not in told]
    if more:
        facts.append(("Also holds", ", ".join(more)))
    return facts


def _area(area: Any) -> str:
    """(height, width, y, x) in latent cells of 8 pixels, or ("percentage", …) as shares."""
    if isinstance(area, list | tuple) and len(area) == 5:
        height, width, y, x = (f"{100 * share:.0f} %" for share in area[1:])
        return f"{width} × {height} from {x}, {y}"
    if isinstance(area, list | tuple) and len(area) == 4:
        height, width, y, x = (cell * 8 for cell in area)
        return f"{width} × {height} pixels from {x}, {y}"
    return _short(area)


def _recipe(recipe: Recipe) -> list[tuple[str, str]]:
    facts = [("Part", recipe.part.replace("_", " ")), ("Family", recipe.family)]
    for file in recipe.files:
        facts.append(("File", file.name or file.path.replace("\\", "/").rsplit("/", 1)[-1]))
        facts.append(("SHA-256", file.digest[:12]))
    for patch in recipe.patches:
        if patch.file:
            what = patch.file.name or patch.file.path.rsplit("/", 1)[-1]
        else:
            what = f"{patch.other.part} of {patch.other.family}" if patch.other else ""
        facts.append(("Patch", f"{patch.kind} {what} at {patch.strength:g}".replace("  ", " ")))
    facts += [(name.replace("_", " "), _short(value)) for name, value in recipe.options]
    facts += [("Hook", hook.slot.replace("_", " ")) for hook in recipe.hooks]
    return facts


# Everything else ----------------------------------------------------------------------------------


def _plain(value: bool | float | str) -> Json:
    if isinstance(value, str):
        return {"facts": [("Letters", str(len(value)))], "text": _cut(value)}
    return {"facts": [("Value", str(value))]}


def _other(value: Any) -> Json:
    """A value of a type that no rule knows: its class, and what of it can be told in words."""
    try:
        return {"facts": [], "text": _cut(json.dumps(value, ensure_ascii=False, indent=1))}
    except (TypeError, ValueError, RecursionError):
        pass
    facts = [("Kind", type(value).__name__)]
    named: Mapping[Any, Any] = {}
    if is_dataclass(value) and not isinstance(value, type):
        named = {f.name: getattr(value, f.name, None) for f in fields(value)}
    elif isinstance(value, Mapping):
        named = value
    elif isinstance(value, list | tuple):
        facts.append(("Parts", str(len(value))))
        named = dict(enumerate(value))
    for name, part in list(named.items())[:20]:
        facts.append((str(name).replace("_", " "), _short(part)))
    return {"facts": facts}


def _short(value: Any) -> str:
    if isinstance(value, Tensor):
        return _shape(value)
    if isinstance(value, Recipe):
        return f"{value.part} of {value.family}"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, bool | int | str | type(None)):
        return _cut(str(value), 120)
    if isinstance(value, list | tuple | Mapping):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _cut(text: str, most: int = MAX_TEXT) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
