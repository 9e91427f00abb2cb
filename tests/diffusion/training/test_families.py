"""SD 2.x with v-prediction and SDXL: each method trains, and its file works in the same family."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from engine.diffusion.checkpoint import CheckpointParts, open_checkpoint
from engine.diffusion.lora import add_lora, open_lora
from engine.diffusion.residency import ModelPool
from engine.diffusion.text import encode
from engine.diffusion.training.adapters import AdapterSettings
from engine.diffusion.training.base import open_base
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.dreambooth import dreambooth_dataset
from engine.diffusion.training.finetune import FineTune
from engine.diffusion.training.job import train
from engine.diffusion.training.methods import FullTraining, Lora, Method, TextualInversion
from tests.diffusion.training.tiny_runs import SETTINGS, dataset_of, places_of
from tests.tiny_families import write_family

pytestmark = pytest.mark.slow

FAMILIES = {"sd2": "v", "sdxl": "eps"}
POOL = ModelPool()
LORA = Lora(shape=AdapterSettings(rank=2, alpha=2.0), trains_text=True)


@pytest.fixture(scope="module", params=FAMILIES)
def parts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> CheckpointParts:
    family: str = request.param
    path = tmp_path_factory.mktemp(family) / "tiny.safetensors"
    said: dict[str, Any] = {"modelspec.prediction_type": FAMILIES[family]}
    write_family(path, family, **said)
    return open_checkpoint(path, hashlib.sha256(path.read_bytes()).hexdigest(), family)


def trained(
    folder: Path, parts: CheckpointParts, method: Method, dataset: Dataset | None = None
) -> Path:
    job = FineTune(
        method=method,
        model=parts.model,
        clip=parts.clip,
        vae=parts.vae,
        dataset=dataset or dataset_of(folder / "pictures"),
        steps=2,
        seed=5,
        settings=replace(SETTINGS, average=0.0),
    )
    losses: list[float] = []
    path = train(job, POOL, places_of(folder), lambda telling: losses.append(telling.loss))
    assert len(losses) == 2 and all(0 < loss < 1e3 for loss in losses)
    return path


def test_the_file_says_what_is_predicted(parts: CheckpointParts) -> None:
    base = open_base(POOL, parts.model, parts.clip, parts.vae)
    assert base.prediction == FAMILIES[parts.model.family]


def test_a_lora_changes_model_and_all_text_encoders(tmp_path: Path, parts: CheckpointParts) -> None:
    assert parts.clip is not None
    path = trained(tmp_path, parts, LORA)
    file = open_lora(path, str(path), "made")
    with POOL.use(parts.clip) as plain, POOL.use(add_lora(parts.clip, file, 1.0)) as changed:
        for name, tower in plain.towers.items():
            ids = torch.arange(77)[None]
            before, after = (
                t.model(t.model.look_up(ids), -1)[1] for t in (tower, changed.towers[name])
            )
            assert not torch.equal(before, after), name
    model = add_lora(parts.model, file, 1.0)
    assert len(model.patches) == 1
    layer = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"
    weights = [POOL.own_copy(r).unet.get_submodule(layer).weight for r in (parts.model, model)]
    assert not torch.equal(*weights)


def test_a_whole_model_keeps_its_layout(tmp_path: Path, parts: CheckpointParts) -> None:
    subject = dataset_of(tmp_path / "own")
    of_class = dataset_of(tmp_path / "class", count=4)
    of_class = replace(
        of_class, examples=tuple(replace(e, digest=f"class {e.digest}") for e in of_class.examples)
    )
    data = dreambooth_dataset(subject, "a photo of sks dog", of_class, "a photo of a dog")
    path = trained(tmp_path, parts, FullTraining(trains_text=True), data)
    base, made = load_file(parts.model.files[0].path), load_file(path)
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in base.items()}
    changed = {k.split(".")[0] for k in base if not torch.equal(base[k], made[k])}
    text = "conditioner" if parts.model.family == "sdxl" else "cond_stage_model"
    assert changed == {"model", text}
    again = open_checkpoint(path, str(path), "made").model
    assert (again.family, dict(again.options)) == (parts.model.family, dict(parts.model.options))


def test_an_embedding_has_vectors_for_each_text_encoder(
    tmp_path: Path, parts: CheckpointParts
) -> None:
    assert parts.clip is not None
    method = TextualInversion(word="<thing>", initializer="dog", vectors=2)
    path = trained(tmp_path, parts, method)
    names = {"sdxl": {"clip_l", "clip_g"}, "sd2": {"emb_params"}}[parts.model.family]
    vectors = load_file(path)
    assert set(vectors) == names
    assert all(v.shape == (2, 16) for v in vectors.values())
    with POOL.use(parts.clip) as clip:
        own = encode(clip, "embedding:result", find_embedding=lambda _: path)
        plain = encode(clip, "dog dog")
    assert not torch.equal(own.embeds, plain.embeds)
