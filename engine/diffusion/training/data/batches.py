"""Endless batches of a dataset: order, crops, flips and captions follow from seed and position.

Every random choice is drawn from (seed, epoch, example), so that a position alone resumes the
order, the augmentation and the dropout bit for bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.training.data.buckets import (
    Placing,
    Size,
    bucket_sizes,
    bucket_step,
    nearest_bucket,
    place,
)
from engine.diffusion.training.data.captions import shuffled_tags
from engine.diffusion.training.data.dataset import Dataset, Example
from engine.diffusion.training.data.pictures import focus, placed, read_mask, read_rgb, to_pixels

_ORDER, _EXAMPLE, _CLASS_ORDER, _CLASS_EXAMPLE = range(4)  # streams of random numbers
_KEPT_PICTURES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How a dataset is drawn.

    `size_px` is the side of a square picture; with `buckets` other ratios get sizes of the same
    area. `bucket_step` 0 means 64, or 8 below 256 pixels. `caption_dropout` is the share of
    captions that are emptied (needed for guidance). `keep_tags` counts the tags that stay in
    front when the others are shuffled. `masked` gives the masks for a masked loss.
    """

    size_px: int = 512
    batch_size: int = 1
    buckets: bool = True
    bucket_step: int = 0
    crop: Literal["center", "random", "focus"] = "center"
    flip: bool = False
    caption_dropout: float = 0.0
    shuffle_tags: bool = False
    keep_tags: int = 0
    masked: bool = False
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """One example of a batch before its picture is read. `key` names the pixels by content."""

    example: Example
    text: str
    placing: Placing
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one training step sees.

    Shapes: pixels (B, 3, H, W) float32 -1..1; masks (B, 1, H, W) float32 0..1, 1 = counts, or
    None; conditions (B, 3, H, W) float32 0..1, or None; is_class (B,) bool; sizes (B, 6) long:
    original height and width, crop top and left, target height and width (SDXL's time ids).
    """

    pixels: Tensor
    texts: tuple[str, ...]
    masks: Tensor | None
    conditions: Tensor | None
    is_class: Tensor
    sizes: Tensor
    keys: tuple[str, ...]


class Batches:
    """Draws batches of a dataset without end; pictures of one batch have one size.

    With class pictures (prior preservation) each batch holds as many of them as of the others,
    after them, cut to the same size. An epoch is over when each other picture was seen `repeats`
    times; its last batch of a size may be smaller.
    Raises: NodeError when the dataset has errors, no pictures, or lacks what the options need.
    """

    def __init__(self, dataset: Dataset, options: BatchOptions) -> None:
        dataset.require()
        _check(options)
        self.dataset = dataset
        self.options = options
        self._own = [e for e in dataset.examples if not e.is_class]
        self._class = [e for e in dataset.examples if e.is_class]
        self._has_conditions = _all_or_none(dataset)
        step = options.bucket_step or bucket_step(options.size_px)
        square: Size = (options.size_px, options.size_px)
        self.sizes = bucket_sizes(options.size_px, step) if options.buckets else (square,)
        buckets = [nearest_bucket(e.width_px, e.height_px, self.sizes) for e in self._own]
        self._entries: dict[Size, list[int]] = {}
        for index, (example, bucket) in enumerate(zip(self._own, buckets, strict=True)):
            self._entries.setdefault(bucket, []).extend([index] * example.repeats)
        self._epoch = 0
        self._position = 0
        self._plan = self._planned(0)
        self._read = lru_cache(_KEPT_PICTURES)(read_rgb)

    @property
    def batches_per_epoch(self) -> int:
        return len(self._plan)

    @property
    def epoch(self) -> int:
        """How often the whole dataset was drawn."""
        return self._epoch

    def state(self) -> dict[str, Any]:
        """The position as JSON, with what it is a position in."""
        return {
            "epoch": self._epoch,
            "position": self._position,
            "dataset": self.dataset.digest,
            "options": asdict(self.options),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on exactly there. Raises: NodeError for a position in another dataset."""
        if state["dataset"] != self.dataset.digest or state["options"] != asdict(self.options):
            raise NodeError(
                "This training cannot be continued: its pictures, captions or their settings "
                "have changed since.",
                hint="Put them back as they were, or start a new training.",
            )
        self._epoch, self._position = int(state["epoch"]), int(state["position"])
        self._plan = self._planned(self._epoch)

    def rewind(self) -> None:
        """Start again with the first batch."""
        self._epoch, self._position = 0, 0
        self._plan = self._planned(0)

    def next(self) -> Batch:
        """The next batch, pictures and all. Raises: CorruptFile when one cannot be read."""
        return self.read(self.draw())

    def draw(self) -> tuple[Draw, ...]:
        """The next batch without its pictures, for those who have them encoded already."""
        if self._position >= len(self._plan):
            self._epoch, self._position = self._epoch + 1, 0
            self._plan = self._planned(self._epoch)
        target, slots = self._plan[self._position]
        draws = [self._draw(self._own[i], target, (_EXAMPLE, self._epoch, k)) for i, k in slots]
        if self._class:
            first = self._epoch * len(self._plan) * self.options.batch_size
            first += self._position * self.options.batch_size
            draws += [self._class_draw(first + j, target) for j in range(len(slots))]
        self._position += 1
        return tuple(draws)

    def read(self, draws: tuple[Draw, ...]) -> Batch:
        """The batch of some draws. Raises: CorruptFile when a picture cannot be read."""
        pixels = [to_pixels(placed(self._picture(d.example), d.placing)) for d in draws]
        return Batch(
            pixels=torch.stack(pixels) * 2 - 1,
            texts=tuple(d.text for d in draws),
            masks=self.masks(draws),
            conditions=self.conditions(draws),
            is_class=torch.tensor([d.example.is_class for d in draws]),
            sizes=torch.tensor([d.placing.time_ids for d in draws]),
            keys=tuple(d.key for d in draws),
        )

    def masks(self, draws: tuple[Draw, ...]) -> Tensor | None:
        """The masks of a masked loss. Shapes: (B, 1, H, W)."""
        return masks_of(draws) if self.options.masked else None

    def conditions(self, draws: tuple[Draw, ...]) -> Tensor | None:
        """The condition pictures of some draws. Shapes: (B, 3, H, W) 0..1."""
        if not self._has_conditions:
            return None
        found: list[Tensor] = []
        for draw in draws:
            path = draw.example.condition_path
            assert path is not None, "checked when the batches were made"
            found.append(to_pixels(_beside(self._read(path), draw)))
        return torch.stack(found)

    def _picture(self, example: Example) -> Image.Image:
        return self._read(example.path, example.grey_range)

    def _planned(self, epoch: int) -> list[tuple[Size, list[tuple[int, int]]]]:
        """The batches of an epoch: a size and (example, number within the epoch) each."""
        random = self._random(_ORDER, epoch)
        count = self.options.batch_size
        batches: list[tuple[Size, list[tuple[int, int]]]] = []
        number = 0
        for size, entries in sorted(self._entries.items()):
            slots = [
                (entries[int(i)], number + k)
                for k, i in enumerate(random.permutation(len(entries)))
            ]
            number += len(slots)
            batches += [(size, slots[i : i + count]) for i in range(0, len(slots), count)]
        return [batches[int(i)] for i in random.permutation(len(batches))]

    def _class_draw(self, number: int, target: Size) -> Draw:
        """The class picture of that number; they have rounds of their own."""
        turn, place_in_turn = divmod(number, len(self._class))
        order = self._random(_CLASS_ORDER, turn).permutation(len(self._class))
        example = self._class[int(order[place_in_turn])]
        return self._draw(example, target, (_CLASS_EXAMPLE, turn, place_in_turn))

    def _draw(self, example: Example, target: Size, stream: tuple[int, int, int]) -> Draw:
        options, random = self.options, self._random(*stream)
        is_flipped = options.flip and bool(random.random() < 0.5)
        x, y = random.random(2)
        is_dropped = bool(random.random() < options.caption_dropout)
        original = (example.width_px, example.height_px)
        if options.crop != "random":
            x, y = 0.5, 0.5
        placing = place(original, target, float(x), float(y), is_flipped=is_flipped)
        if options.crop == "focus" and placing.scaled != target:
            placing = self._focused(example, placing)
        text = "" if is_dropped else example.text
        if options.shuffle_tags and text:
            text = shuffled_tags(text, options.keep_tags, random)
        return Draw(example=example, text=text, placing=placing, key=_key(example, placing))

    def _focused(self, example: Example, placing: Placing) -> Placing:
        mask = read_mask(example.mask_path) if example.mask_path else None
        x, y = focus(self._picture(example), mask)
        if placing.is_flipped:
            x = 1 - x
        shares: list[float] = []
        for centre, scaled, target in zip((x, y), placing.scaled, placing.target, strict=True):
            room = scaled - target
            shares.append(min(1.0, max(0.0, (centre * scaled - target / 2) / room)) if room else 0)
        return place(placing.original, placing.target, *shares, is_flipped=placing.is_flipped)

    def _random(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.options.seed, *stream])


def _key(example: Example, placing: Placing) -> str:
    """The name of the pixels: they depend on nothing else."""
    width, height = placing.target
    scaled = "x".join(str(side) for side in placing.scaled)
    flip = "-flip" if placing.is_flipped else ""
    place_at = f"{width}x{height}-{scaled}-{placing.left}-{placing.top}{flip}"
    return f"{example.digest}-{example.grey_range}-{place_at}"


def _beside(picture: Image.Image, draw: Draw) -> Image.Image:
    """A mask or condition cut as the picture that it belongs to."""
    original = draw.placing.original
    if picture.size != original:
        picture = picture.resize(original)
    return placed(picture, draw.placing)


def square_pictures(dataset: Dataset, count: int, side_px: int) -> Tensor:
    """The first pictures, cut to the middle. Shapes: (N, 3, side, side) 0..1."""
    pictures: list[Tensor] = []
    for e in dataset.examples[:count]:
        size = (e.width_px, e.height_px)
        placing = place(size, (side_px, side_px), 0.5, 0.5, is_flipped=False)
        pictures.append(to_pixels(placed(read_rgb(e.path, e.grey_range), placing)))
    return torch.stack(pictures)


def masks_of(draws: Sequence[Draw]) -> Tensor:
    """The masks of some draws, all white where a picture has none. Shapes: (B, 1, H, W)."""
    return torch.stack([_mask(d) for d in draws])


def _mask(draw: Draw) -> Tensor:
    """Shapes: (1, H, W)."""
    path = draw.example.mask_path
    if path is None:
        width, height = draw.placing.target
        return torch.ones(1, height, width)
    return to_pixels(_beside(read_mask(path), draw))


def _check(options: BatchOptions) -> None:
    step = options.bucket_step or bucket_step(options.size_px)
    if options.size_px < step or options.size_px % 8:
        raise NodeError(
            f"Pictures cannot be trained at {options.size_px} pixels.",
            hint=f"Use a multiple of 8, {step} or more; the customary sizes are 512 and 1024.",
        )
    if options.batch_size < 1 or not 0 <= options.caption_dropout <= 1 or options.seed < 0:
        raise NodeError(
            f"A batch size of {options.batch_size}, a caption dropout of "
            f"{options.caption_dropout:g} or a seed of {options.seed} is out of range.",
            hint="Use a batch size of at least 1, a dropout of 0 to 1, a seed of 0 or more.",
        )


def _all_or_none(dataset: Dataset) -> bool:
    """Whether the pictures have condition pictures. Raises: NodeError when only some do."""
    without = [e.path.name for e in dataset.examples if e.condition_path is None]
    if without and len(without) < len(dataset):
        raise NodeError(
            f"{len(without)} of {len(dataset)} pictures have no condition picture, "
            f"such as {without[0]}.",
            hint="Give each picture one in the column 'conditioning_image', or none of them.",
        )
    return not without
