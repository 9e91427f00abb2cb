"""Conditioning made ready for a latent, and evaluated in as few network calls as possible.

A conditioning entry on a wire is `(embeds, options)`; here it becomes an `Entry` with its place,
mask and time range resolved for one latent size. Knows no guidance: groups come out separately.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.extra_input import extra_input, noise_level
from engine.diffusion.latent_space import LatentSpace
from engine.diffusion.parameterization import Parameterization
from engine.diffusion.unclip import EmbedStatistics, pooled_pictures, unclip_vector

if TYPE_CHECKING:
    from engine.api.types import Conditioning

FEATHER = 8  # latent cells over which an area fades out, or a quarter of a small one
MAX_REPEATS = 4  # how often embeds may be repeated so that two lengths fit one batch


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """A rectangle in latent cells."""

    height: int
    width: int
    y: int
    x: int

    @property
    def cells(self) -> int:
        return self.height * self.width

    def holds(self, other: "Area") -> bool:
        """Whether the other lies inside."""
        return (
            other.y >= self.y
            and other.x >= self.x
            and other.y + other.height <= self.y + self.height
            and other.x + other.width <= self.x + self.width
        )

    def cut(self, x: Tensor) -> Tensor:
        """The part of (…, H, W) in the rectangle."""
        return x[..., self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One conditioning entry for one latent size.

    Shapes: embeds (1 or B, T, D), y (1 or B, adm), mask (B or 1, H, W), concat (B, C, H, W).
    It counts while `sigma_end <= sigma <= sigma_start`.
    """

    embeds: Tensor
    y: Tensor | None = None
    concat: Tensor | None = None
    area: Area | None = None
    mask: Tensor | None = None
    mask_strength: float = 1.0
    strength: float = 1.0
    sigma_start: float | None = None
    sigma_end: float | None = None
    control: Any = None  # engine.diffusion.controlnet.ControlLink
    control_covers_uncond: bool = False
    gligen: Any = None  # engine.diffusion.gligen.Boxes
    may_repeat: bool = True  # repeated embeds mean the same
    extras: Mapping[str, Any] = field(default_factory=dict[str, Any])  # for one kind of network
    control_embeds: Tensor | None = None  # the text that only ControlNets read
    control_y: Tensor | None = None

    def is_active(self, sigma: float) -> bool:
        """Whether the entry counts at a noise level."""
        if self.sigma_start is not None and sigma > self.sigma_start:
            return False
        return self.sigma_end is None or sigma >= self.sigma_end

    @property
    def is_plain(self) -> bool:
        return self.area is None and self.mask is None and self.strength == 1.0


class Apply(Protocol):
    """The denoised latent of a batch: `apply(x, sigma, batch)`."""

    def __call__(self, x: Tensor, sigma: Tensor, batch: "Batch") -> Tensor: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one network call gets beside the latent. `groups` names the group of each item."""

    context: Tensor
    y: Tensor | None
    concat: Tensor | None
    control: Any
    groups: tuple[int, ...]
    gligen: tuple[Any, ...] | None = None  # of each entry
    extras: Mapping[str, Any] = field(default_factory=dict[str, Any])
    control_context: Tensor | None = None  # in place of the context, for ControlNets
    control_y: Tensor | None = None


# Resolving ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What entries are resolved for: a model and a latent's shape."""

    model: Parameterization
    latent: Tensor  # clean and scaled
    noise_mask: Tensor | None
    extra_channels: int
    context_dim: int
    adm_channels: int | None
    space: LatentSpace
    vector: tuple[str, ...] = ()  # the numbers in the vector input
    has_noise_level: bool = False  # the x4 upscaler's class label
    embed_statistics: EmbedStatistics | None = None  # of unCLIP models
    seed: int = 0
    is_joint: bool = False  # see engine.diffusion.network.Denoiser
    extras: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda _: {}

    @property
    def shape(self) -> torch.Size:
        return self.latent.shape

    @property
    def device(self) -> torch.device:
        return self.latent.device


def resolve(groups: Sequence["Conditioning"], target: Target) -> list[list[Entry]]:
    """The entries of each group, areas and controls balanced between the groups."""
    last = len(groups) - 1
    resolved = [
        [_entry(embeds, options, target, is_negative=0 < i == last) for embeds, options in group]
        for i, group in enumerate(groups)
    ]
    for i, entries in enumerate(resolved):
        for entry in list(entries):
            for j, others in enumerate(resolved):
                if i != j:
                    _add_same_area(others, entry)
    if resolved:
        for others in resolved[1:]:
            _share_control(resolved[0], others)
    return _with_empty_boxes(resolved)


def _with_empty_boxes(groups: list[list[Entry]]) -> list[list[Entry]]:
    """Where an entry has GLIGEN boxes, the others are told that they have none."""
    first = next((e.gligen for entries in groups for e in entries if e.gligen is not None), None)
    if first is None:
        return groups
    empty = (*first[:2], [])
    return [[replace(e, gligen=e.gligen or empty) for e in entries] for entries in groups]


def _entry(
    embeds: Tensor, options: Mapping[str, Any], target: Target, *, is_negative: bool
) -> Entry:
    if embeds.shape[-1] != target.context_dim:
        raise NodeError(
            f"The {'negative' if is_negative else 'positive'} conditioning has the shape "
            f"{list(embeds.shape)}, but the model expects [batch, tokens, {target.context_dim}].",
            hint="Encode the text with the CLIP of the same checkpoint.",
        )
    height, width = target.shape[-2:]
    area = _area(options.get("area"), height, width)
    mask = options.get("mask")
    if mask is not None:
        mask = _fitted_mask(mask, height, width).to(target.device)
        if options.get("set_area_to_bounds"):
            area = mask_bounds(mask)
    share = target.model.times.sigma_at
    told = {**options, "pooled_output": options.get("pooled_output_controlnet")}
    has_own_text = "cross_attn_controlnet" in options
    start, end = options.get("start_percent"), options.get("end_percent")
    return Entry(
        embeds=embeds.to(target.device),
        y=_vector(options, target, is_negative=is_negative),
        concat=extra_input(
            options,
            target.latent,
            target.noise_mask,
            target.extra_channels,
            target.space,
            target.seed,
        ),
        area=area,
        mask=mask,
        mask_strength=float(options.get("mask_strength", 1.0)),
        strength=float(options.get("strength", 1.0)),
        sigma_start=None if start is None else share(start),
        sigma_end=None if end is None else share(end),
        control=options.get("control"),
        control_covers_uncond=bool(options.get("control_apply_to_uncond", False)),
        gligen=options.get("gligen"),
        may_repeat=not target.is_joint,
        extras=target.extras(options),
        control_embeds=options.get("cross_attn_controlnet"),
        control_y=_vector(told, target, is_negative=is_negative) if has_own_text else None,
    )


def _area(area: Sequence[Any] | None, height: int, width: int) -> Area | None:
    """(height, width, y, x) in cells, or ("percentage", …) of the latent."""
    if area is None:
        return None
    if area[0] == "percentage":
        _, h, w, y, x = area
        sizes = (max(1, round(h * height)), max(1, round(w * width)))
        area = (*sizes, round(y * height), round(x * width))
    h, w, y, x = (int(a) for a in area)
    if y >= height or x >= width:
        raise NodeError(
            f"A conditioning area starts at cell ({x}, {y}), outside of the latent of "
            f"{width}x{height} cells.",
            hint="Make the area's x and y smaller, or the picture larger.",
        )
    return Area(height=min(h, height - y), width=min(w, width - x), y=y, x=x)


def _fitted_mask(mask: Tensor, height: int, width: int) -> Tensor:
    """A mask (B, H, W) in latent cells."""
    mask = mask[None] if mask.ndim == 2 else mask
    if mask.shape[1:] == (height, width):
        return mask
    return F.interpolate(mask[:, None], (height, width), mode="bilinear")[:, 0]


def mask_bounds(mask: Tensor) -> Area:
    """The rectangle around all that a mask (B, H, W) covers; at least 8 cells each way."""
    covered = mask.abs().amax(dim=0) > 0
    if not bool(covered.any()):
        return Area(height=8, width=8, y=0, x=0)
    rows = covered.any(dim=1).nonzero().flatten()
    columns = covered.any(dim=0).nonzero().flatten()
    y, x = int(rows[0]), int(columns[0])
    height, width = max(8, int(rows[-1]) - y + 1), max(8, int(columns[-1]) - x + 1)
    limit_y, limit_x = mask.shape[1:]
    return Area(height=min(height, limit_y - y), width=min(width, limit_x - x), y=y, x=x)


def _add_same_area(entries: list[Entry], other: Entry) -> None:
    """Gives a group an entry for an area of another group, with its best text for that place."""
    if other.area is None:
        return
    best: Entry | None = None
    for entry in entries:
        if entry.area is None:
            best = best or entry
        elif entry.area.holds(other.area) and (
            best is None or best.area is None or best.area.cells > entry.area.cells
        ):
            best = entry
    if best is not None and best.area != other.area:
        entries.append(replace(other, embeds=best.embeds, y=best.y, concat=best.concat))


def _share_control(entries: list[Entry], others: list[Entry]) -> None:
    """Old-style controls of the first group also steer the other groups' whole-picture entries."""
    controls = [
        e.control
        for e in entries
        if e.control is not None and e.control_covers_uncond and e.area is None
    ]
    whole = [i for i, e in enumerate(others) if e.area is None]
    if not whole or any(others[i].control is not None for i in whole):
        return
    for n, control in enumerate(controls):
        place = whole[n % len(whole)]
        if others[place].control is None:
            others[place] = replace(others[place], control=control)
        else:
            others.append(replace(others[place], control=control))


# Vector input (SDXL) ------------------------------------------------------------------------------


# What the refiner is told of a picture's beauty where nothing is said, for the prompt and against
# the negative one. Source: diffusers (Apache-2.0), StableDiffusionXLImg2ImgPipeline.
AESTHETIC_SCORES = (6.0, 2.5)


def _vector(options: Mapping[str, Any], target: Target, *, is_negative: bool) -> Tensor | None:
    """The vector input: pooled text and, in what room is left, embedded sizes in pixels.

    Source: Podell et al. 2023 (SDXL, arXiv 2307.01952), section 2.2.
    """
    if target.has_noise_level:
        return torch.full((1, 1), float(noise_level(options)), device=target.device)
    if target.adm_channels is None:
        return None
    pictures = options.get("unclip_conditioning", ())
    if target.embed_statistics is not None:
        return unclip_vector(pictures, target.embed_statistics, target.seed).to(target.device)
    height = options.get("height", target.shape[-2] * target.space.factor)
    width = options.get("width", target.shape[-1] * target.space.factor)
    numbers = {
        "height": height,
        "width": width,
        "target_height": height,
        "target_width": width,
        "aesthetic_score": AESTHETIC_SCORES[is_negative],
    }
    values = [float(options.get(name, numbers.get(name, 0))) for name in target.vector]
    room = target.adm_channels - 256 * len(values)
    if pictures:
        pooled = pooled_pictures(pictures, room, target.seed).to(target.device)
    else:
        pooled = _pooled(options, target, room)
    embedded = [embedded_number(value)[None].repeat(pooled.shape[0], 1) for value in values]
    return torch.cat([pooled, *(row.to(pooled.device) for row in embedded)], dim=1)


def _pooled(options: Mapping[str, Any], target: Target, room: int) -> Tensor:
    """The pooled text (1 or B, room); zeros where there is none."""
    pooled = options.get("pooled_output")
    if pooled is None:
        pooled = torch.zeros(1, max(room, 0))
    if pooled.shape[-1] != room:
        raise NodeError(
            f"The conditioning has a pooled output of {pooled.shape[-1]} channels, but the model "
            f"expects {room}.",
            hint="Encode the text with the CLIP of the same checkpoint.",
        )
    return pooled.float().to(target.device)


def embedded_number(value: float, channels: int = 256) -> Tensor:
    """A sinusoidal embedding, cosines first. Source: Vaswani et al. 2017, section 3.5."""
    half = channels // 2
    rates = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = value * rates
    return torch.cat([angles.cos(), angles.sin()])


# Evaluating ---------------------------------------------------------------------------------------


def evaluate(
    apply: Apply,
    groups: Sequence[Sequence[Entry]],
    x: Tensor,
    sigma: Tensor,
    most_cells: int | None = None,
) -> list[Tensor]:
    """The denoised latent of each group: its entries' predictions, averaged by weight.

    Entries whose shapes fit go through the network in one batch, as long as it has no more than
    `most_cells` latent cells. An empty group gives zeros.
    """
    level = float(sigma[0])
    active = [
        (number, entry)
        for number, entries in enumerate(groups)
        for entry in entries
        if entry.is_active(level)
    ]
    is_simple = all(e.is_plain for _, e in active) and all(
        sum(n == number for n, _ in active) == 1 for number in range(len(groups))
    )
    results: list[Tensor | None] = [None] * len(groups)
    weights: list[Tensor] = []
    if not is_simple:
        results = [torch.zeros_like(x) for _ in groups]
        weights = [torch.full_like(x, 1e-37) for _ in groups]
    for part in _batches(active, x, most_cells):
        inputs = [_cut(entry, x) for _, entry in part]
        output = apply(
            torch.cat(inputs) if len(inputs) > 1 else inputs[0],
            sigma.repeat(len(part)) if len(part) > 1 else sigma,
            _joined(part, x.shape[0]),
        )
        for (number, entry), piece in zip(part, output.chunk(len(part))):
            if is_simple:
                results[number] = piece
            else:
                _add(results[number], weights[number], piece, entry)
    if is_simple:
        return [r for r in results if r is not None]
    return [r / w for r, w in zip(results, weights) if r is not None]


def _cut(entry: Entry, x: Tensor) -> Tensor:
    return entry.area.cut(x) if entry.area is not None else x


def _batches(
    active: list[tuple[int, Entry]], x: Tensor, most_cells: int | None
) -> list[list[tuple[int, Entry]]]:
    batches: list[list[tuple[int, Entry]]] = []
    for item in active:
        area = item[1].area
        cells = x.shape[0] * (area.cells if area else x.shape[-2] * x.shape[-1])
        for batch in batches:
            has_room = most_cells is None or (len(batch) + 1) * cells <= most_cells
            if has_room and _fits(batch[0][1], item[1]):
                batch.append(item)
                break
        else:
            batches.append([item])
    return batches


def _fits(a: Entry, b: Entry) -> bool:
    """Whether two entries can share a network call."""
    if a.control is not b.control:
        return False
    if a.gligen is not None and b.gligen is not None and a.gligen[1] != b.gligen[1]:
        return False
    if (a.control_embeds is None) != (b.control_embeds is None):
        return False
    if _size(a) != _size(b) or (a.y is None) != (b.y is None):
        return False
    if (a.concat is None) != (b.concat is None):
        return False
    if _extra_shapes(a) != _extra_shapes(b):
        return False
    short, long = sorted((a.embeds.shape[1], b.embeds.shape[1]))
    if not (a.may_repeat and b.may_repeat):
        return short == long
    return math.lcm(short, long) // short <= MAX_REPEATS


def _size(entry: Entry) -> tuple[int, int] | None:
    return None if entry.area is None else (entry.area.height, entry.area.width)


def _extra_shapes(entry: Entry) -> dict[str, Any]:
    """What must be equal for two entries' extras to be joined."""

    def shape(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.shape[1:]
        return [shape(v) for v in value] if isinstance(value, list) else value

    return {name: shape(value) for name, value in entry.extras.items()}


def _joined_extra(values: list[Any], batch: int) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat([fit_batch(v, batch) for v in values])
    if isinstance(first, list):
        return [_joined_extra(list(items), batch) for items in zip(*values, strict=True)]
    return first


def _joined(part: list[tuple[int, Entry]], batch: int) -> Batch:
    entries = [entry for _, entry in part]
    ys = [fit_batch(e.y, batch) for e in entries if e.y is not None]
    concats = [_cut(e, fit_batch(e.concat, batch)) for e in entries if e.concat is not None]
    told = [e.control_embeds for e in entries if e.control_embeds is not None]
    told_ys = [fit_batch(e.control_y, batch) for e in entries if e.control_y is not None]
    return Batch(
        context=_joined_texts([e.embeds for e in entries], batch),
        y=torch.cat(ys) if ys else None,
        concat=torch.cat(concats) if concats else None,
        control=entries[0].control,
        groups=tuple(number for number, _ in part),
        gligen=None if entries[0].gligen is None else tuple(e.gligen for e in entries),
        extras={
            name: _joined_extra([e.extras[name] for e in entries], batch)
            for name in entries[0].extras
        },
        control_context=_joined_texts(told, batch).to(entries[0].embeds) if told else None,
        control_y=torch.cat(told_ys) if told_ys else None,
    )


def _joined_texts(texts: Sequence[Tensor], batch: int) -> Tensor:
    """Texts (B, T, D) one after the other in a batch, as long as all of them fit.

    Repeated embeds change nothing: attention averages over equal keys.
    """
    length = math.lcm(*(text.shape[1] for text in texts))
    fitted = [fit_batch(text, batch).repeat(1, length // text.shape[1], 1) for text in texts]
    return torch.cat(fitted)


def fit_batch(x: Tensor, batch: int) -> Tensor:
    """Items repeated or cut to a batch size."""
    if x.shape[0] == batch:
        return x
    if x.shape[0] > batch:
        return x[:batch]
    times = -(-batch // x.shape[0])
    return x.repeat(times, *([1] * (x.ndim - 1)))[:batch]


def _add(result: Tensor | None, weight: Tensor, piece: Tensor, entry: Entry) -> None:
    assert result is not None
    share = _weight(entry, piece, result.shape)
    if entry.area is not None:
        result, weight = entry.area.cut(result), entry.area.cut(weight)
    result += piece * share
    weight += share


def _weight(entry: Entry, piece: Tensor, shape: torch.Size) -> Tensor:
    """How much a prediction counts in each cell."""
    if entry.mask is not None:
        mask = fit_batch(entry.mask, shape[0])
        mask = entry.area.cut(mask) if entry.area is not None else mask
        return (mask * entry.mask_strength * entry.strength)[:, None].expand_as(piece)
    share = torch.full_like(piece, entry.strength)
    area = entry.area
    if area is not None:
        rows = _ramp(area.height, area.y > 0, area.y + area.height < shape[-2])
        columns = _ramp(area.width, area.x > 0, area.x + area.width < shape[-1])
        share = share * (rows[:, None] * columns).to(share)
    return share


def _ramp(length: int, fades_in: bool, fades_out: bool) -> Tensor:
    """Weights along a side, rising in equal steps from its ends inside the picture."""
    weights = torch.ones(length)
    steps = min(FEATHER, length // 4)
    for t in range(steps):
        if fades_in:
            weights[t] *= (t + 1) / steps
        if fades_out:
            weights[length - 1 - t] *= (t + 1) / steps
    return weights
