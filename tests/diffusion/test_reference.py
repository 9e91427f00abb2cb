"""Text, VAE and network answers against the recorded answers of the reference engine."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.api.recipe import Recipe
from engine.diffusion import text, vae
from engine.diffusion.checkpoint import CheckpointParts, open_checkpoint
from engine.diffusion.lora import add_lora, open_lora
from engine.diffusion.residency import ModelPool
from tests.tiny_checkpoint import Keys, fill, write_reference_checkpoint, write_reference_lora

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent.parent / "fixtures" / "reference"
CLIP = json.loads((FOLDER / "clip.0.prompt.json").read_text())


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference in units of the wanted tensor's standard deviation."""
    assert found.shape == wanted.shape
    return float((found - wanted).abs().max() / wanted.std())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    write_reference_checkpoint(folder / "tiny.safetensors")
    write_reference_lora(folder / "lora.safetensors")
    torch.save(reference_embedding(), folder / "reference_embedding.pt")
    return folder


def reference_embedding() -> Tensor:
    return fill(Keys({"emb_params": ((3, 768), 0.03, 0.0)}), seed=20251)["emb_params"]


@pytest.fixture(scope="module")
def parts(folder: Path) -> CheckpointParts:
    return open_checkpoint(folder / "tiny.safetensors", "tiny", "tiny")


@pytest.fixture(scope="module")
def pool() -> ModelPool:
    return ModelPool()


def with_lora(recipe: Recipe, folder: Path, strength: float) -> Recipe:
    return add_lora(recipe, open_lora(folder / "lora.safetensors", "lora", "lora"), strength)


def dumped_texts() -> dict[str, dict[str, Any]]:
    """Dump name -> the text node whose output it caught."""
    dumps = (n["inputs"] for n in CLIP.values() if n["class_type"] == "ReferenceDump")
    found = {d["name"]: CLIP[d["value"][0]] for d in dumps}
    return {k: v["inputs"] for k, v in found.items() if v["class_type"] == "CLIPTextEncode"}


@pytest.mark.parametrize("name", dumped_texts())
def test_text(name: str, parts: CheckpointParts, folder: Path, pool: ModelPool):
    node = dumped_texts()[name]
    source = CLIP[node["clip"][0]]
    recipe = parts.clip
    assert recipe is not None
    if source["class_type"] == "CLIPSetLastLayer":
        recipe = recipe.with_option("clip_skip", source["inputs"]["stop_at_clip_layer"])
    if source["class_type"] == "LoraLoader":
        recipe = with_lora(recipe, folder, source["inputs"]["strength_clip"])

    def find(name: str) -> Path | None:
        return next(iter(folder.glob(f"{name}.pt")), None)

    with pool.use(recipe) as loaded:
        found = text.encode(loaded, node["text"], find_embedding=find)
    recorded = load_file(FOLDER / "clip_every_32nd.safetensors")
    assert difference(found.embeds[..., ::32], recorded[f"{name}|value.0.0"]) < 1e-5
    pooled = recorded[f"{name}|value.0.1.pooled_output"]
    assert difference(found.pooled[..., ::32], pooled) < 1e-5


def pattern(height: int, width: int, channels: int, batch: int, phase: float) -> Tensor:
    """The reference engine's analytic test picture."""
    y = torch.arange(height, dtype=torch.float64).view(1, height, 1, 1)
    x = torch.arange(width, dtype=torch.float64).view(1, 1, width, 1)
    k = torch.arange(channels, dtype=torch.float64)
    n = torch.arange(batch, dtype=torch.float64).view(batch, 1, 1, 1)
    wave = torch.sin(0.37 * x + 0.9 * k + phase)
    value = wave + torch.cos(0.23 * y * (1 + 0.1 * k) + 0.7 * n + 0.011 * x * y)
    return (0.5 + 0.25 * value).clamp(0, 1).float()


def latent_pattern(rows: int, columns: int) -> Tensor:
    return (pattern(rows, columns, 4, 1, 2.35) - 0.5).movedim(-1, 1) * 12.0


def test_vae(parts: CheckpointParts, pool: ModelPool):
    recorded = load_file(FOLDER / "vae.safetensors")
    image = pattern(128, 128, 3, 1, 0.35)
    assert parts.vae is not None
    with pool.use(parts.vae) as loaded:
        latent = vae.encode(loaded, image)
        answers = {
            "encode|value.samples": latent,
            "decode_of_encode|value": vae.decode(loaded, latent),
            "decode|value": vae.decode(loaded, latent_pattern(16, 16)),
            "encode_odd_batch|value.samples": vae.encode(loaded, pattern(100, 140, 3, 2, 0.35)),
            "decode_tiled|value": vae.decode_tiled(
                loaded, latent_pattern(24, 24), tile=128, overlap=32
            ),
            "encode_tiled|value.samples": vae.encode_tiled(
                loaded, pattern(192, 192, 3, 1, 0.35), tile=128, overlap=32
            ),
        }
    for name, found in answers.items():
        assert difference(found, recorded[f"vae/{name}"]) < 2e-4, name


@pytest.mark.parametrize(
    ("name", "cfg", "model_strength", "clip_strength"),
    [("one_step", 1.0, 0, 0), ("lora1.0", 5.5, 1.0, 1.0), ("lora0.4", 5.5, 0.4, 1.0)],
)
def test_one_step_from_pure_noise(
    name: str,
    cfg: float,
    model_strength: float,
    clip_strength: float,
    parts: CheckpointParts,
    folder: Path,
    pool: ModelPool,
):
    """One Euler step to sigma 0 is the denoised latent at the highest sigma."""
    assert parts.clip is not None
    with pool.use(with_lora(parts.clip, folder, clip_strength)) as loaded:
        positive = text.encode(loaded, "an old wooden boat").embeds
    with pool.use(parts.clip) as loaded:
        negative = text.encode(loaded, "grainy").embeds
    noise = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(2024))
    with pool.use(with_lora(parts.model, folder, model_strength)) as denoiser:
        alpha = float(denoiser.alphas_cumprod[-1])
        sigma = math.sqrt((1 - alpha) / alpha)
        eps = [denoiser.predict(noise, torch.tensor([999.0]), c) for c in (positive, negative)]
        guided = eps[1] + cfg * (eps[0] - eps[1])
        found = (noise * math.sqrt(1 + sigma**2) - sigma * guided) / denoiser.latent.scale
    wanted = load_file(FOLDER / "unet.safetensors")[f"unet/{name}|value.samples"]
    assert difference(found, wanted) < 2e-3
