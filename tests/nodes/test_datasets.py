"""Dataset nodes, each reader on a stand-in of its layout, as a user would call them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as arrow
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from engine.api.errors import CorruptFile, NodeError, UnsafePath
from engine.diffusion.training.data.batches import Batches, BatchOptions
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.shapes_world.captions import describe
from engine.diffusion.training.shapes_world.drawing import render
from nodes import datasets as nodes
from tests.diffusion.training.data.pictures import pattern, put
from tests.nodes.context import Context, context

CELEBA = "3\nMale Smiling Wavy_Hair Young\na.jpg -1 1 1 1\nb.jpg  1 -1 -1 -1\nc.jpg 1 1 1 1\n"


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return context(tmp_path)


def folder(ctx: Context, name: str = "cats") -> Path:
    path = ctx.files.base / "models" / "datasets" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


def load(ctx: Context, name: str = "cats", **more: Any) -> Dataset:
    options = {"layout": "automatic", "class_caption": "a photo of {class}", "grey_range": "full"}
    return nodes.load_dataset(name, ctx=ctx, **{**options, **more})


def texts(data: Dataset) -> list[str]:
    return [e.text for e in data.examples]


def trainable(data: Dataset) -> None:
    batch = Batches(data, BatchOptions(size_px=48)).next()
    assert batch.pixels.shape[1] == 3


def test_an_imagefolder_with_metadata_keeps_order_masks_and_conditions(ctx: Context) -> None:
    root = folder(ctx)
    for number, name in enumerate(("b.png", "a.png", "edges/b.png", "c.png")):
        put(root, name, number)
    put(root, "masks/a.png", 9)
    lines = [
        {"file_name": "b.png", "text": "a bee", "conditioning_image": "edges/b.png", "id": 7},
        {"file_name": "a.png", "text": "an ape", "conditioning_image": "edges/b.png"},
    ]
    (root / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    data = load(ctx)
    assert texts(data) == ["a bee", "an ape", ""]
    assert data.examples[0].condition_path == root / "edges" / "b.png"
    assert data.examples[1].mask_path == root / "masks" / "a.png"
    assert data.name == "cats" and not data.findings
    trainable(replace(data, examples=data.examples[:2]))


def test_side_files_and_masks_beside_pictures(ctx: Context) -> None:
    root = folder(ctx)
    for number, name in enumerate(("a.png", "b.jpg", "a-mask.png", "c.webp")):
        put(root, name, number)
    (root / "a.txt").write_text("one, two\n")
    (root / "b.caption").write_text("three")
    data = load(ctx)
    assert texts(data) == ["one, two", "three", ""]
    assert data.examples[0].mask_path == root / "a-mask.png"
    trainable(data)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv(ctx: Context, delimiter: str) -> None:
    root = folder(ctx)
    for number in range(2):
        put(root, f"{number}.png", number)
    rows = [("file_name", "caption"), ("1.png", '"one, really"'), ("0.png", "zero")]
    (root / "captions.csv").write_text("\n".join(delimiter.join(row) for row in rows))
    assert texts(load(ctx)) == ["one, really", "zero"]


def test_parquet_with_pictures_inside(ctx: Context) -> None:
    root = folder(ctx)
    data = [put(root / "elsewhere", f"{n}.png", n).read_bytes() for n in range(3)]
    table = arrow.table(
        {
            "image": [{"bytes": d, "path": None} for d in data],
            "text": ["zero", "one", "two"],
        }
    )
    parquet.write_table(table, root / "train-00000-of-00001.parquet")
    found = load(ctx)
    assert texts(found) == ["zero", "one", "two"]
    assert found.examples[1].path.read_bytes() == data[1]
    trainable(found)
    (root / "train-00000-of-00001.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(CorruptFile, match="Parquet"):
        load(ctx)


def test_without_pyarrow_the_one_command_is_told(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder(ctx) / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(NodeError, match="pip install pyarrow"):
        load(ctx)


def test_class_folders_become_sentences(ctx: Context) -> None:
    root = folder(ctx)
    for number, name in enumerate(("red_fox/a.png", "red_fox/b.png", "owl/a.png")):
        put(root, name, number)
    assert texts(load(ctx)) == ["a photo of owl", "a photo of red fox", "a photo of red fox"]
    assert texts(load(ctx, class_caption="{class}!"))[0] == "owl!"


def coco(ctx: Context) -> Path:
    """Rendered pictures in COCO's layout, five captions each; one picture was not downloaded."""
    from engine.diffusion.training.dataset import denoiser_scenes

    root = folder(ctx, "coco")
    (root / "val2017").mkdir()
    (root / "annotations").mkdir()
    scenes, rng = denoiser_scenes(4, seed=1), np.random.default_rng(1)
    images, notes = [], []
    for number, scene in enumerate(scenes):
        name = f"{number:012}.jpg"
        images.append({"id": number + 10, "file_name": name})
        notes += [
            {
                "id": 5 * number + k,
                "image_id": number + 10,
                "caption": f"{describe(scene, rng).text} {k}",
            }
            for k in range(5)
        ]
        if number != 2:
            Image.fromarray(render(scene, 64)).save(root / "val2017" / name)
    body = {"images": images[::-1], "annotations": notes[::-1]}
    (root / "annotations" / "captions_val2017.json").write_text(json.dumps(body))
    return root


def test_coco_captions(ctx: Context) -> None:
    coco(ctx)

    def read(**more: Any) -> Dataset:
        options: dict[str, Any] = {
            "annotations": "",
            "count": 100,
            "pictures": "first",
            "captions": "first",
            "seed": 0,
        }
        return nodes.load_coco_dataset("coco", ctx=ctx, **{**options, **more})

    first = read()
    assert [e.path.name[11] for e in first.examples] == ["0", "1", "3"]
    assert all(text.endswith(" 0") for text in texts(first))
    assert len(read(count=2)) == 2 and len(read(captions="all", count=2)) == 10
    assert texts(read(captions="random")) == texts(read(captions="random"))
    picks = {read(captions="random", seed=s).examples[0].text[-1] for s in range(12)}
    assert len(picks) > 2
    orders = {
        tuple(e.path.name for e in read(pictures="random", seed=s).examples) for s in range(9)
    }
    assert len(orders) > 2
    trainable(first)
    with pytest.raises(NodeError, match="captions_train2017"):
        read(annotations="captions_train2017.json")
    with pytest.raises(NodeError, match="Load COCO Dataset"):
        load(ctx, "coco")
    with pytest.raises(UnsafePath):
        read(annotations="../../secret.json")


def test_a_broken_caption_file_is_named(ctx: Context) -> None:
    path = coco(ctx) / "annotations" / "captions_val2017.json"
    path.write_text('{"images": [{"id": 1}]}')
    with pytest.raises(CorruptFile, match="captions_val2017"):
        nodes.load_coco_dataset("coco", "", 1, "first", "first", 0, ctx=ctx)


def test_attribute_lists_become_sentences(ctx: Context) -> None:
    root = folder(ctx, "faces")
    (root / "list_attr_celeba.txt").write_text(CELEBA)
    for number, name in enumerate(("a.jpg", "b.jpg")):
        put(root / "img_align_celeba", name, number)
    template = "a {Young:young|old} {Male:man|woman}, {attributes}"
    data = nodes.load_attribute_dataset("faces", template, 0, ctx=ctx)
    assert texts(data) == ["a young woman, smiling, wavy hair", "a old man"]
    assert len(nodes.load_attribute_dataset("faces", template, 1, ctx=ctx)) == 1
    with pytest.raises(NodeError, match="Blond"):
        nodes.load_attribute_dataset("faces", "{Blond:fair|dark}", 0, ctx=ctx)
    with pytest.raises(NodeError, match="Load Attribute Dataset"):
        load(ctx, "faces")
    (root / "list_attr_celeba.txt").write_text(CELEBA.replace("c.jpg 1 1", "c.jpg 1"))
    with pytest.raises(CorruptFile, match="line 5"):
        nodes.load_attribute_dataset("faces", template, 0, ctx=ctx)


def test_sixteen_bit_grey_is_scaled_by_its_window(ctx: Context) -> None:
    values = np.linspace(1000, 3000, 48 * 48).reshape(48, 48).astype(np.uint16)
    Image.fromarray(values).save(folder(ctx) / "xray.png")
    ranges: dict[str, tuple[float, float]] = {}
    for window in ("automatic", "full", "12-bit"):
        data = load(ctx, grey_range=window)
        pixels = Batches(data, BatchOptions(size_px=48)).next().pixels * 0.5 + 0.5
        assert torch.equal(pixels[0, 0], pixels[0, 2])
        ranges[window] = (float(pixels.min()), float(pixels.max()))
    assert ranges["automatic"] == (0.0, 1.0)
    assert ranges["full"] == pytest.approx((1000 / 65535, 3000 / 65535), abs=1 / 255)
    assert ranges["12-bit"] == pytest.approx((1000 / 4095, 3000 / 4095), abs=1 / 255)


def test_what_is_transparent_becomes_white(ctx: Context) -> None:
    Image.new("RGBA", (48, 48), (255, 0, 0, 0)).save(folder(ctx) / "a.png")
    assert bool((Batches(load(ctx), BatchOptions(size_px=48)).next().pixels == 1).all())


@pytest.mark.parametrize("ending", ["png", "jpg", "webp"])
def test_a_truncated_picture_stops_the_training_and_is_named(ctx: Context, ending: str) -> None:
    root = folder(ctx)
    put(root, "good.png", 1)
    noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(root / f"cut.{ending}")
    data = (root / f"cut.{ending}").read_bytes()
    (root / f"cut.{ending}").write_bytes(data[: len(data) // 2])
    found = load(ctx)
    assert [e.path.name for e in found.examples] == ["good.png"]
    with pytest.raises(NodeError, match=f"cut.{ending}"):
        Batches(found, BatchOptions(size_px=48))


def test_broken_tables_and_names_that_leave_the_folder(ctx: Context) -> None:
    root = folder(ctx)
    put(root, "a.png")
    (root / "metadata.jsonl").write_text('{"file_name": "a.png", "text": "a"}\nnonsense\n')
    with pytest.raises(CorruptFile, match="line 2"):
        load(ctx)
    (root / "metadata.jsonl").write_text('{"file_name": "../a.png", "text": "a"}\n')
    with pytest.raises(UnsafePath):
        load(ctx)
    (root / "metadata.jsonl").write_text('{"file_name": "gone.png", "text": "a"}\n')
    assert [f.code for f in load(ctx).findings] == ["picture_missing"]


def test_an_empty_folder_and_several_datasets_are_told(ctx: Context) -> None:
    folder(ctx)
    with pytest.raises(NodeError, match="no pictures"):
        load(ctx)
    put(folder(ctx, "cats/train"), "a.png")
    (folder(ctx, "cats/train") / "metadata.jsonl").write_text('{"file_name": "a.png"}\n')
    with pytest.raises(NodeError, match="cats/train"):
        load(ctx)


def test_generated_pictures_become_class_pictures(ctx: Context) -> None:
    images = torch.stack(
        [torch.from_numpy(np.asarray(pattern(n)).astype(np.float32) / 255) for n in range(3)]
    )
    masks = torch.zeros(1, 48, 48)
    data = nodes.images_to_dataset(images, "a dog", True, ctx=ctx, masks=masks)
    assert texts(data) == ["a dog"] * 3 and all(e.is_class for e in data.examples)
    again = nodes.images_to_dataset(images, "a dog", True, ctx=ctx, masks=masks)
    assert again.digest == data.digest
    back = nodes.dataset_to_images(data, ctx=ctx)[0]
    assert float((torch.cat(list(back)) - images).abs().max()) < 1.01 / 255
    own = nodes.images_to_dataset(images[:1], "mine", False, ctx=ctx)
    merged = nodes.merge_datasets(own, data)
    batch = Batches(merged, BatchOptions(size_px=48, masked=True)).next()
    assert batch.is_class.tolist() == [False, True] and batch.masks is not None
    assert not batch.masks[1].any()
    with pytest.raises(NodeError, match="2 masks for 3 pictures"):
        nodes.images_to_dataset(images, "", False, ctx=ctx, masks=torch.zeros(2, 48, 48))


def test_captions_from_another_node(ctx: Context) -> None:
    for number in range(3):
        put(folder(ctx), f"{number}.png", number)
    data = load(ctx)
    images, _ = nodes.dataset_to_images(data, ctx=ctx)
    said = [f"mean {float(image.mean()):.2f}" for image in images]
    told = nodes.set_captions([data], said)  # type: ignore[arg-type]
    assert texts(told) == said
    edited = nodes.edit_captions(told, "sks, ", "", "mean", "brightness", "")
    assert texts(edited)[0] == f"sks, brightness {said[0][5:]}"


def test_condition_pictures_from_a_preprocessor(ctx: Context) -> None:
    for number in range(2):
        put(folder(ctx), f"{number}.png", number)
    data = load(ctx)
    images, _ = nodes.dataset_to_images(data, ctx=ctx)
    drawn = [1 - image for image in images]
    told = nodes.set_condition_images([data], drawn, ctx=ctx)  # type: ignore[arg-type]
    batch = Batches(told, BatchOptions(size_px=48, batch_size=2)).next()
    assert batch.conditions is not None
    assert torch.allclose(batch.conditions, (1 - batch.pixels) / 2, atol=1 / 128)
    assert told.digest != data.digest
    with pytest.raises(NodeError, match="1 condition pictures for 2 pictures"):
        nodes.set_condition_images([data], drawn[:1], ctx=ctx)  # type: ignore[arg-type]
    with pytest.raises(NodeError, match="proportions differ"):
        nodes.set_condition_images([data], [x[:, :20] for x in drawn], ctx=ctx)  # type: ignore[arg-type]


def test_options_split_and_subset(ctx: Context) -> None:
    for number in range(4):
        put(folder(ctx), f"{number}.png", number)
    data = load(ctx)
    assert {e.repeats for e in nodes.dataset_options(data, 5, True).examples} == {5}
    train, held = nodes.split_dataset(data, 0.25, 3)
    assert len(train) == 3 and len(held) == 1
    assert len(nodes.subset_dataset(data, 2, "random", 1)) == 2


def test_the_report_finds_what_spoils_a_training(ctx: Context) -> None:
    root = folder(ctx)
    put(root, "a.png", 1, (512, 512))
    put(root, "copy.png", 1, (512, 512))
    pattern(1, (500, 500)).save(root / "alike.jpg")
    put(root, "tiny.png", 2, (64, 64))
    put(root, "wide.png", 3, (2000, 300))
    (root / "broken.png").write_text("no picture")
    (root / "a.txt").write_text("word " * 80)
    result = nodes.dataset_report(load(ctx), 512, True)
    assert result.ui is not None
    report = result.ui["dataset_report"][0]
    codes = [f["code"] for f in report["findings"]]
    assert codes == [
        "unreadable",
        "few_pictures",
        "duplicates",
        "near_duplicates",
        "too_small",
        "extreme_aspect",
        "caption_missing",
        "caption_long",
    ]
    assert json.loads(json.dumps(report)) == report
    text = result.result[0]
    assert "a.png = copy.png" in text and "tiny.png (64×64)" in text and "a.png (80)" in text
    assert text.index("ERROR") < text.index("warning")


def test_a_good_dataset_has_nothing_to_complain_about(ctx: Context) -> None:
    for number in range(12):
        put(folder(ctx), f"{number}.png", number, (64, 64))
        (folder(ctx) / f"{number}.txt").write_text("a picture")
    text = nodes.dataset_report(load(ctx), 64, True).result[0]
    assert "Nothing to complain" in text and "12 pictures" in text


def test_the_contact_sheet_has_a_cell_for_each_picture(ctx: Context) -> None:
    for number in range(5):
        put(folder(ctx), f"{number}.png", number, (96, 48))
    sheet = nodes.preview_dataset(load(ctx), 4, 3, 96)
    assert sheet.shape[0] == 1 and sheet.shape[2] == 3 * (96 + 8) + 8
    assert float(sheet.std()) > 0.1


def test_captions_of_the_sheet_stay_in_their_cells(ctx: Context) -> None:
    root = folder(ctx)
    for number in range(2):
        Image.new("RGB", (48, 48), "black").save(root / f"{number}.png")
        (root / f"{number}.txt").write_text("w" * 40 + " many wide words " * 20)
    sheet = nodes.preview_dataset(load(ctx), 2, 2, 96)[0]
    between = sheet[:, 8 + 96 + 1 : 8 + 96 + 7]
    assert float(between.std()) < 0.01
