"""Text, denoiser, VAE and file of the built-in model at tiny size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from engine.api.errors import MissingModel
from engine.diffusion.training.autoencoder import (
    decode,
    fold_latent_scale,
    latent_colours,
    moments,
)
from engine.diffusion.training.builtin import Plan, grade_file, main, train
from engine.diffusion.training.dataset import denoiser_scenes, rendered, to_pictures, to_tensor
from engine.diffusion.training.denoiser import LatentSet, denoiser_loss, sample_euler
from engine.diffusion.training.export import (
    Networks,
    read_single_file,
    single_file_tensors,
    write_single_file,
)
from engine.diffusion.training.networks import make_text_encoder, make_unet, make_vae, token_table
from engine.diffusion.training.objectives import scaled_linear_alphas
from engine.diffusion.training.text import (
    CLIP_END,
    CLIP_START,
    END,
    FOREIGN,
    START,
    CompactVocabulary,
    context_of,
    with_foreign_words,
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def test_compact_vocabulary_numbers_known_tokens_and_pins_the_rest() -> None:
    vocabulary = CompactVocabulary.of([[320, 736], [7117]])
    assert vocabulary.clip_ids == (-1, CLIP_START, CLIP_END, 320, 736, 7117)
    row = vocabulary.compact([[736, 9999]])[0]
    assert row[:4].tolist() == [START, 4, FOREIGN, END]
    assert row.shape == (77,)
    assert set(row[3:].tolist()) == {END}


def test_foreign_words_keep_the_others_in_order() -> None:
    rows = CompactVocabulary.of([[1, 2, 3]]).compact([[1, 2, 3]] * 50)
    mixed = with_foreign_words(rows, 1.0, np.random.default_rng(1))
    for row in mixed:
        assert row[0] == START
        assert row[-1] == END
        assert [t for t in row.tolist() if t not in (START, END, FOREIGN)] == [3, 4, 5]
        assert 1 <= int((row == FOREIGN).sum()) <= 2


def test_pictures_survive_the_way_to_tensors_and_back(tmp_path: Path) -> None:
    pictures = rendered(tmp_path / "set.npy", denoiser_scenes(4, 1), 64)
    assert (to_pictures(to_tensor(pictures)) == pictures).all()
    assert (rendered(tmp_path / "set.npy", [], 64) == pictures).all()


def test_folding_the_latent_scale_is_exact_and_normalises() -> None:
    vae = make_vae().eval()
    pictures = torch.rand(2, 3, 32, 32) * 2 - 1
    mean, std = torch.tensor([0.3, -1.0, 2.0, 0.0]), torch.tensor([0.5, 2.0, 1.0, 3.0])
    with torch.no_grad():
        before, logvar = moments(vae, pictures)
        picture = decode(vae, before)
        fold_latent_scale(vae, mean, std, 0.18215)
        after, folded_logvar = moments(vae, pictures)
        expected = (before - mean.view(1, 4, 1, 1)) / std.view(1, 4, 1, 1) / 0.18215
        assert torch.allclose(after, expected, atol=1e-4)
        assert torch.allclose(decode(vae, after), picture, atol=1e-4)
        gain = (1 / (0.18215 * std)).log().view(1, 4, 1, 1)
        assert torch.allclose(folded_logvar, logvar + 2 * gain, atol=1e-4)


class GaussianEps(nn.Module):
    """The exact noise prediction for latents from N(0, s²)."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std
        self.alphas = scaled_linear_alphas()

    def forward(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        return_dict: bool,
    ) -> tuple[torch.Tensor]:
        alpha = self.alphas[t.round().long()]
        return (x * (1 - alpha).sqrt() / (alpha * self.std**2 + 1 - alpha),)


def test_closed_form_euler_ends_at_the_spread_of_the_data() -> None:
    noise = torch.randn(64, 4, 8, 8)
    context = torch.zeros(64, 77, 8)
    unet = GaussianEps(0.7)
    out = sample_euler(unet, context, context[0], noise, steps=200)  # type: ignore[arg-type]
    assert float(out.std()) == pytest.approx(0.7, rel=0.05)


def test_denoiser_loss_of_an_untrained_net_is_finite_and_drops_prompts() -> None:
    unet = make_unet()
    data = LatentSet(
        latents=torch.randn(6, 4, 8, 8),
        contexts=np.zeros((6, 77, 128), np.float16),
        empty=torch.ones(77, 128),
        weights=torch.ones(6),
    )
    loss = denoiser_loss(unet, data, batch=4)
    first = loss(0.0, torch.Generator().manual_seed(1))
    again = loss(0.0, torch.Generator().manual_seed(1))
    assert torch.isfinite(first)
    assert float(first.detach()) == float(again.detach())


def test_colours_of_latents_are_their_pictures_mean_colours() -> None:
    rows = torch.tensor([[0.5, 0.0, -0.2], [0.0, 0.3, 0.1], [0.1, 0.1, 0.1], [-0.2, 0.4, 0.0]])
    latents = torch.randn(8, 4, 2, 3).clamp(-1, 1)
    colours = torch.einsum("nchw,cr->nhwr", latents, rows)
    tiles = colours.repeat_interleave(4, 1).repeat_interleave(4, 2)
    pictures = ((tiles + 1) * 127.5).round().clamp(0, 255).byte().numpy()
    torch.testing.assert_close(
        torch.tensor(latent_colours(latents, pictures)), rows, atol=0.01, rtol=0
    )


def test_file_has_the_layout_and_reads_back(tmp_path: Path) -> None:
    clip_ids = (-1, CLIP_START, CLIP_END, 320, 736)
    text = make_text_encoder(len(clip_ids)).eval()
    networks = Networks(unet=make_unet(), vae=make_vae(), text=text)
    path = tmp_path / "model.safetensors"
    write_single_file(path, single_file_tensors(networks, clip_ids), 64, {"weft.note": "test"})
    with safe_open(path, "pt") as file:
        names, metadata = set(file.keys()), file.metadata()
    assert "model.diffusion_model.input_blocks.1.1.proj_in.weight" in names
    assert "first_stage_model.decoder.up.0.block.0.conv1.weight" in names
    assert "cond_stage_model.transformer.text_model.final_layer_norm.weight" in names
    assert metadata["weft.native_size"] == "64"
    back = read_single_file(path)
    full = torch.tensor([[CLIP_START, 736, 5, *[CLIP_END] * 74]])
    compact = torch.tensor([[START, 4, FOREIGN, *[END] * 74]])
    with torch.no_grad():
        token_table(text)[FOREIGN] = 0
        expected, got = context_of(text, compact), context_of(back.text, full)
    assert torch.allclose(expected, got, atol=2e-2)
    for name, value in networks.unet.state_dict().items():
        assert torch.allclose(back.unet.state_dict()[name], value, atol=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_the_command_trains_every_stage_grades_and_resumes(tmp_path: Path) -> None:
    plan = Plan(minutes=0.003, folder=tmp_path, scenes=12, pictures=12, text_steps=2)
    output = tmp_path / "model.safetensors"
    said: list[str] = []
    train(plan, output, said.append)
    first = load_file(output)
    train(plan, output, said.append)
    again = load_file(output)
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert [line for line in said if line.endswith(": training")] == [
        f"{stage}: training" for stage in ("vae", "text", "unet", "decoder")
    ]
    grade_file(output, tmp_path, 64, 1, said.append)
    assert (tmp_path / "evaluation.json").exists()
    assert (tmp_path / "samples.png").exists()


@pytest.mark.parametrize("size", ["60", "16", "large"])
def test_a_size_that_no_latent_grid_fits_is_refused(size: str) -> None:
    with pytest.raises(SystemExit):
        main(["--size", size])


def test_grading_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match="nowhere"):
        main(["--evaluate", str(tmp_path / "nowhere.safetensors"), "--folder", str(tmp_path)])
