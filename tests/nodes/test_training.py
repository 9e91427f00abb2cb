"""Training nodes as the engine calls them: results on wires, files, what is shown, giving way."""

from pathlib import Path
from typing import Any

import pytest
import torch

from engine.api.errors import Cancelled, GaveWay, NodeError, UnsafePath
from engine.api.node import NodeOutput
from nodes import training, training_settings
from tests.diffusion.training.tiny_runs import dataset_of, parts_of
from tests.nodes.context import Context, context

pytestmark = pytest.mark.slow


def settings_of() -> Any:
    batches = training_settings.training_batches(
        batch_size=1, size=64, buckets=False, crop="center", flip=False, caption_dropout=0.0,
        shuffle_tags=False, keep_tags=0, masked=False,
    )  # fmt: skip
    return training_settings.training_samples(
        prompts="a dog\n", every=2, seed=1, steps=2, cfg=2.0, settings=batches
    )


def train(ctx: Context, folder: Path, function: Any = training.train_lora, **more: Any) -> Any:
    parts = parts_of(folder)
    shared = {
        "model": parts.model, "clip": parts.clip, "vae": parts.vae, "seed": 3, "steps": 4,
        "dataset": dataset_of(folder / "pictures"), "name": "mine", "learning_rate": 1e-3,
        "settings": settings_of(), "ctx": ctx,
    }  # fmt: skip
    if function is training.train_lora:
        shared |= {"rank": 2, "alpha": 2.0}
    with torch.no_grad():  # as the engine calls nodes
        output = function(**shared | more)
    assert isinstance(output, NodeOutput)
    return output


def test_a_lora_comes_out_on_wires_and_shows_its_course(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    output = train(ctx, tmp_path)
    model, clip, name = output.result
    assert name == "mine.safetensors"
    assert (tmp_path / "models" / "loras" / name).is_file()
    assert (tmp_path / "models" / "loras" / "mine.md").is_file()
    assert len(model.patches) == 1
    assert clip.patches == ()  # the text encoder was not trained
    assert ctx.reports[-1] == (4, 4)
    shown = ctx.shown[-1]["training"][0]
    assert (shown["step"], shown["steps"], len(shown["points"])) == (4, 4, 4)
    assert [s["step"] for s in shown["samples"]] == [2, 4]
    file = shown["samples"][0]["images"][0]
    assert (tmp_path / file["type"] / file["filename"]).is_file()
    assert output.ui is not None
    assert output.ui["training"][0] == shown

    again = context(tmp_path)
    assert train(again, tmp_path).result == output.result
    assert again.reports == []


@pytest.mark.parametrize("stop", [{"cancel_after": 2}, {"overtaken_after": 2}])
def test_a_run_that_stops_goes_on_where_it_was(tmp_path: Path, stop: dict[str, int]) -> None:
    ctx = context(tmp_path, **stop)
    with pytest.raises(Cancelled if "cancel_after" in stop else GaveWay):
        train(ctx, tmp_path)
    assert not list((tmp_path / "models" / "loras").glob("*")) if stop else True
    after = context(tmp_path)
    train(after, tmp_path)
    assert [step for step, _ in after.reports] == [3, 4]


def test_names_stay_in_their_folder(tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="name of the result is empty"):
        train(context(tmp_path), tmp_path, name=" ")
    output = train(context(tmp_path), tmp_path, name="people/me", steps=1)
    assert output.result[2] == "people/me.safetensors"
    with pytest.raises(UnsafePath):
        train(context(tmp_path), tmp_path, name="../me", steps=1)


def test_the_other_methods_give_their_results(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    pictures = dataset_of(tmp_path / "class")
    dreambooth = {
        "instance_prompt": "a photo of sks dog", "class_prompt": "a photo of a dog",
        "what": "LoRA", "class_pictures": pictures, "rank": 2,
    }  # fmt: skip
    steps = {"steps": 1, "settings": None}
    model, _, name = train(ctx, tmp_path, training.train_dreambooth, **dreambooth, **steps).result
    assert (len(model.patches), name) == (1, "mine.safetensors")
    dreambooth["what"] = "whole model"
    model, _, name = train(ctx, tmp_path, training.train_dreambooth, **dreambooth, **steps).result
    assert Path(model.files[0].path) == tmp_path / "models" / "checkpoints" / name
    inversion = {"word": "<thing>", "initializer": "dog", "vectors": 1}
    _, text = train(ctx, tmp_path, training.train_textual_inversion, **inversion, **steps).result
    assert text == "embedding:mine"
    whole = train(ctx, tmp_path, training.train_checkpoint, **steps | {"name": "other"}).result
    assert [part.part for part in whole[:3]] == ["denoiser", "text", "vae"]
    assert whole[3] == "other.safetensors"


def test_settings_are_joined() -> None:
    settings = training_settings.training_objective(
        min_snr=5.0, offset_noise=0.1, timesteps="uniform", first=0.0, last=1.0,
        settings=settings_of(),
    )  # fmt: skip
    assert settings.objective.min_snr == 5.0
    assert settings.samples.prompts == ("a dog",)
    assert settings.batches.size_px == 64
