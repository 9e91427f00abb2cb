"""What the fine-tuning methods make works in a graph; bad input is told before anything runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from engine.api.errors import EngineError, ModelError, NodeError, OutOfMemory, StorageError
from engine.diffusion.checkpoint import open_checkpoint
from engine.diffusion.lora import add_lora, open_lora
from engine.diffusion.residency import ModelPool
from engine.diffusion.text import encode
from engine.diffusion.training import result_files
from engine.diffusion.training.data.batches import BatchOptions
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.denoising import DenoisingLoss
from engine.diffusion.training.job import train
from engine.diffusion.training.optimizers import OptimizerSettings
from engine.diffusion.training.report import Telling
from engine.diffusion.training.settings import SampleSettings
from tests.diffusion.training.tiny_runs import METHODS, SETTINGS, job_of, places_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pool() -> ModelPool:
    return ModelPool()


def assert_equal(left: dict[str, Tensor], right: dict[str, Tensor]) -> None:
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert torch.equal(value, right[key]), key


def test_a_finished_run_is_answered_from_its_file_and_others_get_a_name_of_their_own(
    tmp_path: Path, pool: ModelPool
) -> None:
    job, places = job_of(tmp_path, METHODS["lora"], steps=2), places_of(tmp_path)
    first = train(job, pool, places)
    steps: list[int] = []
    assert train(job, pool, places, lambda t: steps.append(t.step)) == first
    assert steps == []
    other = train(replace(job, seed=6), pool, places)
    assert (first.name, other.name) == ("result.safetensors", "result-2.safetensors")


def test_file_and_card_say_what_they_are(tmp_path: Path, pool: ModelPool) -> None:
    job = job_of(tmp_path, METHODS["lora"], steps=2)
    path = train(job, pool, places_of(tmp_path))
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["ss_network_dim"] == "2"
    assert metadata["weft.training.run"] == job.run
    assert metadata["weft.training.data_digest"] == job.dataset.digest
    assert json.loads(metadata["weft.training.settings"])["steps"] == 2
    card = path.with_suffix(".md").read_text()
    for text in ("LoRA", job.dataset.digest, "tiny", "| steps | 2 |", "| loss | "):
        assert text in card


def test_a_lora_flows_into_model_and_clip(tmp_path: Path, pool: ModelPool) -> None:
    job = job_of(tmp_path, METHODS["lora_text"], steps=2)
    file = open_lora(train(job, pool, places_of(tmp_path)), "trained", "result")
    model = add_lora(job.model, file, 1.0)
    assert job.clip is not None
    clip = add_lora(job.clip, file, 1.0)
    with pool.use(job.clip) as plain, pool.use(clip) as changed:
        assert not torch.equal(encode(plain, "a cat").embeds, encode(changed, "a cat").embeds)
    x, t, context = torch.ones(1, 4, 8, 8), torch.ones(1), torch.ones(1, 77, 16)
    with pool.use(job.model) as plain, pool.use(model) as changed:
        assert not torch.equal(plain.predict(x, t, context), changed.predict(x, t, context))


def test_an_embedding_is_found_by_its_name_in_a_prompt(tmp_path: Path, pool: ModelPool) -> None:
    job = job_of(tmp_path, METHODS["textual_inversion"], steps=2)
    path = train(job, pool, places_of(tmp_path))
    assert load_file(path)["emb_params"].shape == (2, 16)
    lines: list[str] = []
    assert job.clip is not None
    with pool.use(job.clip) as clip:
        own = encode(clip, "embedding:result", find_embedding=lambda _: path, log=lines.append)
        plain = encode(clip, "dog dog")
    assert lines == []
    assert not torch.equal(own.embeds, plain.embeds)


def test_a_checkpoint_opens_like_its_base(tmp_path: Path, pool: ModelPool) -> None:
    job = job_of(tmp_path, METHODS["full"], steps=1)
    path = train(job, pool, places_of(tmp_path))
    parts = open_checkpoint(path, "new", "new")
    base = load_file(job.model.files[0].path)
    made = load_file(path)
    assert {k: v.shape for k, v in made.items()} == {k: v.shape for k, v in base.items()}
    assert_equal(*({k: v for k, v in t.items() if "first_stage" in k} for t in (base, made)))
    changed = [k for k, v in base.items() if not torch.equal(v, made[k])]
    assert any("model.diffusion_model" in k for k in changed)
    assert any("cond_stage_model" in k for k in changed)
    with pool.use(parts.model) as loaded:
        assert loaded.native_size == 64


def test_sample_pictures_come_at_fixed_seeds(tmp_path: Path, pool: ModelPool) -> None:
    samples = SampleSettings(prompts=("a cat", "a dog"), every=2, steps=2)
    job = job_of(tmp_path, METHODS["lora"], steps=4, settings=replace(SETTINGS, samples=samples))
    told: list[Telling] = []
    train(job, pool, places_of(tmp_path), told.append)
    pictures = {t.step: t.pictures for t in told if t.pictures is not None}
    assert list(pictures) == [2, 4]
    assert all(p.shape == (2, 64, 64, 3) for p in pictures.values())
    assert told[-1].curve.points[-1][0] == 4
    plain = train(replace(job, settings=SETTINGS), pool, places_of(tmp_path / "plain"), told.append)
    with_samples = load_file(places_of(tmp_path).result)
    assert_equal(load_file(plain), with_samples)


# Bad input ----------------------------------------------------------------------------------------


def test_divergence_stops_the_run_and_says_what_to_lower(tmp_path: Path, pool: ModelPool) -> None:
    settings = replace(SETTINGS, optimizer=OptimizerSettings(lr=1e25), clip_norm=0.0)
    job = job_of(tmp_path, METHODS["full"], settings=settings)
    with pytest.raises(EngineError, match=r"diverged.*Lower the learning rate") as caught:
        train(job, pool, places_of(tmp_path))
    assert caught.value.code == "training_diverged"
    assert not places_of(tmp_path).result.exists()


def test_a_full_disk_is_told_before_anything_is_trained(
    tmp_path: Path, pool: ModelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(result_files.shutil, "disk_usage", lambda _: usage)
    steps: list[int] = []
    with pytest.raises(StorageError, match="are free"):
        job = job_of(tmp_path, METHODS["lora"])
        train(job, pool, places_of(tmp_path), lambda t: steps.append(t.step))
    assert steps == []


def test_out_of_memory_says_what_to_lower_of_these_settings(
    tmp_path: Path, pool: ModelPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(DenoisingLoss, "__call__", full)
    with pytest.raises(OutOfMemory) as caught:
        train(job_of(tmp_path, METHODS["lora"]), pool, places_of(tmp_path))
    assert caught.value.hint.startswith("Lower the batch size from 2 (and raise accumulation")
    assert "picture size from 64 pixels. Switch gradient checkpointing on." in caught.value.hint
    frugal = replace(SETTINGS, gradient_checkpointing=True, batches=BatchOptions(size_px=0))
    assert frugal.what_to_lower().startswith("Lower the picture size. Adafactor")


def test_models_that_cannot_be_trained_are_refused(tmp_path: Path, pool: ModelPool) -> None:
    job, places = job_of(tmp_path, METHODS["lora"]), places_of(tmp_path)
    with pytest.raises(ModelError, match="cannot be trained yet"):
        train(replace(job, model=replace(job.model, family="flux")), pool, places)
    with pytest.raises(NodeError, match="CLIP input is empty"):
        train(replace(job, clip=None), pool, places)
    flow = job.model.with_option("sampling", ("flow", 1.0, 1000.0))
    with pytest.raises(NodeError, match="samples as flow"):
        train(replace(job, model=flow), pool, places)
    with pytest.raises(NodeError, match="no pictures"):
        train(replace(job, dataset=Dataset(examples=())), pool, places)
    silent = tuple(replace(e, text="") for e in job.dataset.examples)
    with pytest.raises(NodeError, match="No picture has a caption"):
        train(replace(job, dataset=Dataset(examples=silent)), pool, places)
    other = replace(METHODS["textual_inversion"], word="<other>")  # pyright: ignore[reportArgumentType, reportCallIssue] - a dataclass
    with pytest.raises(NodeError, match="No caption holds the word"):
        train(replace(job, method=other), pool, places)
