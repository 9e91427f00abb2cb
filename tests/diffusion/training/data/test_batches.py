"""Batches: sizes and crops in closed form, every picture once an epoch, exact resume."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.api.errors import NodeError
from engine.diffusion.training.data.batches import Batch, Batches, BatchOptions
from engine.diffusion.training.data.buckets import bucket_sizes, nearest_bucket, place
from engine.diffusion.training.data.dataset import Dataset, Finding, merge
from tests.diffusion.training.data.pictures import dataset, example, put

ALL = BatchOptions(
    size_px=48,
    batch_size=2,
    crop="random",
    flip=True,
    caption_dropout=0.3,
    shuffle_tags=True,
    seed=7,
)


def mixed(folder: Path) -> Dataset:
    """Wide, tall and square pictures with tags."""
    paths = [
        put(folder, f"{i}.png", i, size)
        for i, size in enumerate([(96, 48), (90, 50), (48, 96), (64, 64), (50, 50)])
    ]
    return Dataset(examples=tuple(example(p, f"one, two, three, {p.stem}") for p in paths))


def test_bucket_sizes_keep_area_step_and_aspect() -> None:
    sizes = bucket_sizes(512, 64)
    assert (512, 512) in sizes and (384, 640) in sizes and (640, 384) in sizes
    for width, height in sizes:
        assert width % 64 == height % 64 == 0 and width * height <= 512 * 512
        assert max(width, height) / min(width, height) <= 2.5
        assert (height, width) in sizes
    assert nearest_bucket(1920, 1080, sizes) == (640, 384)
    assert nearest_bucket(1000, 1000, sizes) == (512, 512)


def test_placing_covers_its_target_in_closed_form() -> None:
    placing = place((100, 50), (40, 40), 0.5, 0.5)
    assert placing.scaled == (80, 40) and (placing.left, placing.top) == (20, 0)
    assert placing.time_ids == (50, 100, 0, 20, 40, 40)
    assert place((100, 50), (40, 40), 1.0, 0.0).left == 40


def test_an_epoch_shows_each_picture_as_often_as_it_repeats(tmp_path: Path) -> None:
    data = mixed(tmp_path)
    first = replace(data.examples[0], repeats=3)
    data = replace(data, examples=(first, *data.examples[1:]))
    batches = Batches(data, replace(ALL, shuffle_tags=False, caption_dropout=0))
    seen: Counter[str] = Counter()
    for _ in range(batches.batches_per_epoch):
        batch = batches.next()
        seen.update(batch.texts)
        assert batch.pixels.shape[-2] * batch.pixels.shape[-1] <= 48 * 48
        assert batch.pixels.min() >= -1 and batch.pixels.max() <= 1
    assert seen == Counter({e.text: e.repeats for e in data.examples})


def equal(a: Batch, b: Batch) -> bool:
    return (
        torch.equal(a.pixels, b.pixels)
        and a.texts == b.texts
        and a.keys == b.keys
        and torch.equal(a.sizes, b.sizes)
    )


@pytest.mark.parametrize("stop", [0, 1, 3, 5, 11])
def test_a_resumed_order_equals_the_uninterrupted_one_bit_for_bit(
    tmp_path: Path, stop: int
) -> None:
    data = merge([mixed(tmp_path), dataset(tmp_path / "class", 3, is_class=True)])
    whole = Batches(data, ALL)
    for _ in range(stop):
        whole.next()
    state = json.loads(json.dumps(whole.state()))
    resumed = Batches(data, ALL)
    resumed.load_state(state)
    for _ in range(8):
        assert equal(whole.next(), resumed.next())


def test_a_position_in_other_data_is_refused(tmp_path: Path) -> None:
    data = mixed(tmp_path)
    state = Batches(data, ALL).state()
    changed = replace(data, examples=data.examples[1:])
    with pytest.raises(NodeError, match="changed"):
        Batches(changed, ALL).load_state(state)
    with pytest.raises(NodeError, match="changed"):
        Batches(data, replace(ALL, seed=8)).load_state(state)


def test_class_pictures_come_beside_as_many_others_at_their_size(tmp_path: Path) -> None:
    own = dataset(tmp_path / "own", 3, (96, 48))
    others = dataset(tmp_path / "class", 4, (64, 64), is_class=True)
    batches = Batches(merge([own, others]), BatchOptions(size_px=48, batch_size=3))
    seen: Counter[str] = Counter()
    for _ in range(4):
        batch = batches.next()
        assert batch.is_class.tolist() == [False] * 3 + [True] * 3
        assert batch.pixels.shape[0] == 6
        seen.update(key[:64] for key in batch.keys[3:])
    assert set(seen.values()) == {3}, "four rounds of three are three rounds of four"


def test_flip_crop_and_keys_agree_with_the_pixels(tmp_path: Path) -> None:
    data = dataset(tmp_path, 2, (96, 48))
    batches = Batches(data, BatchOptions(size_px=48, buckets=False, flip=True, crop="random"))
    by_key: dict[str, torch.Tensor] = {}
    for _ in range(24):
        batch = batches.next()
        key, pixels = batch.keys[0], batch.pixels[0]
        assert torch.equal(by_key.setdefault(key, pixels), pixels)
        top, left = batch.sizes[0, 2:4].tolist()
        source = Image.open(next(e.path for e in data.examples if key.startswith(e.digest)))
        whole = np.asarray(source)[:, ::-1] if key.endswith("flip") else np.asarray(source)
        wanted = torch.from_numpy(whole[top : top + 48, left : left + 48].copy()).permute(2, 0, 1)
        torch.testing.assert_close(pixels, wanted / 127.5 - 1)
    assert len({torch.sum(v).item() for v in by_key.values()}) == len(by_key) > 4


def test_a_focus_crop_follows_the_mask_and_the_detail(tmp_path: Path) -> None:
    picture = Image.new("RGB", (96, 48), "grey")
    picture.paste(Image.effect_noise((20, 20), 90).convert("RGB"), (70, 14))
    picture.save(tmp_path / "a.png")
    mask = Image.new("L", (96, 48))
    mask.paste(255, (0, 0, 20, 48))
    mask.save(tmp_path / "m.png")
    plain, masked = example(tmp_path / "a.png"), example(tmp_path / "a.png")
    masked = replace(masked, mask_path=tmp_path / "m.png")
    options = BatchOptions(size_px=48, buckets=False, crop="focus")
    lefts = [
        int(Batches(Dataset(examples=(e,)), options).next().sizes[0, 3]) for e in (plain, masked)
    ]
    assert lefts[0] > 40 and lefts[1] == 0


def test_masks_and_conditions_are_cut_like_their_picture(tmp_path: Path) -> None:
    path = put(tmp_path, "a.png", 1, (96, 48))
    grey = Image.open(path).convert("L")
    grey.resize((48, 24)).save(tmp_path / "mask.png")
    one = replace(example(path), mask_path=tmp_path / "mask.png", condition_path=path)
    options = BatchOptions(size_px=48, buckets=False, flip=True, crop="random", masked=True)
    batches = Batches(Dataset(examples=(one,)), options)
    for _ in range(6):
        batch = batches.next()
        assert batch.masks is not None and batch.conditions is not None
        assert batch.masks.shape == (1, 1, 48, 48)
        assert torch.equal(batch.conditions * 2 - 1, batch.pixels)
        light = batch.conditions[0].mean(0)
        agreement = torch.corrcoef(torch.stack([light.flatten(), batch.masks.flatten()]))[0, 1]
        assert agreement > 0.7
    unmasked = Batches(dataset(tmp_path / "b", 1), replace(options, masked=True)).next()
    assert unmasked.masks is not None and bool((unmasked.masks == 1).all())


def test_dropout_and_shuffle_have_their_rates(tmp_path: Path) -> None:
    one = replace(example(put(tmp_path, "a.png")), text="keep, a, b, c, d", repeats=200)
    options = BatchOptions(size_px=48, caption_dropout=0.25, shuffle_tags=True, keep_tags=1)
    batches = Batches(Dataset(examples=(one,)), options)
    texts = [batches.draw()[0].text for _ in range(200)]
    assert 30 < texts.count("") < 70
    told = [text for text in texts if text]
    assert all(t.startswith("keep, ") and sorted(t[6:].split(", ")) == list("abcd") for t in told)
    assert len(set(told)) > 15


def test_what_cannot_be_trained_is_refused_before_a_picture_is_read(tmp_path: Path) -> None:
    data = dataset(tmp_path, 2)
    bad = replace(
        data, findings=(Finding(severity="error", code="unreadable", message="x.png is cut off."),)
    )
    with pytest.raises(NodeError, match=r"x\.png is cut off"):
        Batches(bad, BatchOptions())
    with pytest.raises(NodeError, match="no pictures"):
        Batches(Dataset(examples=()), BatchOptions())
    with pytest.raises(NodeError, match="class pictures"):
        Batches(dataset(tmp_path / "c", 1, is_class=True), BatchOptions())
    with pytest.raises(NodeError, match="500"):
        Batches(data, BatchOptions(size_px=500))
    half = replace(data.examples[0], condition_path=data.examples[0].path)
    with pytest.raises(NodeError, match="condition picture"):
        Batches(Dataset(examples=(half, data.examples[1])), BatchOptions())
