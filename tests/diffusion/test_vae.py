"""Pictures to latents and back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion import vae
from engine.diffusion.checkpoint import open_checkpoint, open_vae
from engine.diffusion.residency import ModelPool
from engine.diffusion.vae import LoadedVae
from tests.tiny_checkpoint import write_tiny_checkpoint


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedVae]:
    path = write_tiny_checkpoint(tmp_path_factory.mktemp("vae") / "tiny.safetensors")
    with ModelPool().use(open_vae(path, "tiny", "tiny")) as part:
        yield part


def picture(height: int, width: int, batch: int = 1) -> Tensor:
    return torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(height))


def test_shapes_and_range(loaded: LoadedVae):
    latent = vae.encode(loaded, picture(64, 48, 2))
    assert latent.shape == (2, 4, 8, 6)
    image = vae.decode(loaded, latent)
    assert image.shape == (2, 64, 48, 3)
    assert image.dtype == torch.float32
    assert 0 <= image.min() <= image.max() <= 1


def test_encode_is_the_mean_and_repeats(loaded: LoadedVae):
    image = picture(32, 32)
    assert torch.equal(vae.encode(loaded, image), vae.encode(loaded, image))
    with torch.no_grad():
        moments = loaded.model.encode(image.movedim(-1, 1) * 2 - 1).latent_dist  # pyright: ignore
    torch.testing.assert_close(vae.encode(loaded, image), moments.mean)


def test_edges_are_cropped_from_the_middle(loaded: LoadedVae):
    image = picture(37, 44)
    assert torch.equal(vae.encode(loaded, image), vae.encode(loaded, image[:, 2:34, 2:42]))


def test_alpha_is_left_out(loaded: LoadedVae):
    image = torch.cat([picture(16, 16), torch.rand(1, 16, 16, 1)], -1)
    assert torch.equal(vae.encode(loaded, image), vae.encode(loaded, image[..., :3]))


def test_a_batch_is_its_single_items(loaded: LoadedVae, monkeypatch: pytest.MonkeyPatch):
    images = picture(24, 16, 5)
    whole = vae.encode(loaded, images)
    monkeypatch.setattr(vae, "BATCH_PIXELS", 24 * 16 * 2)
    torch.testing.assert_close(vae.encode(loaded, images), whole)
    torch.testing.assert_close(vae.decode(loaded, whole)[3:4], vae.decode(loaded, whole[3:4]))


def test_one_tile_is_the_plain_way(loaded: LoadedVae):
    image = picture(64, 64)
    latent = vae.encode(loaded, image)
    torch.testing.assert_close(vae.encode_tiled(loaded, image, tile=128, overlap=32), latent)
    torch.testing.assert_close(
        vae.decode_tiled(loaded, latent, tile=128), vae.decode(loaded, latent)
    )


def test_tiles_give_a_picture_of_the_same_size(loaded: LoadedVae):
    ticks: list[None] = []
    image = picture(136, 104)
    latent = vae.encode_tiled(
        loaded, image, tile=64, overlap=16, on_tile=lambda: ticks.append(None)
    )
    assert latent.shape == (1, 4, 17, 13)
    assert len(ticks) == 8 * 1 + 2 * 6 + 3 * 2  # rows and columns of the three passes
    out = vae.decode_tiled(loaded, latent, tile=64, overlap=16)
    assert out.shape == (1, 136, 104, 3)


def test_unfit_inputs_are_errors(loaded: LoadedVae):
    with pytest.raises(NodeError, match="too small"):
        vae.encode(loaded, picture(7, 64))
    with pytest.raises(NodeError, match="channels"):
        vae.decode(loaded, torch.zeros(1, 16, 8, 8))
    with pytest.raises(NodeError, match="overlap"):
        vae.encode_tiled(loaded, picture(128, 128), tile=64, overlap=64)


def test_checkpoint_and_vae_loader_give_the_same(loaded: LoadedVae, tmp_path: Path):
    path = write_tiny_checkpoint(tmp_path / "same.safetensors")
    recipe = open_checkpoint(path, "same", "same").vae
    assert recipe is not None
    image = picture(16, 16)
    with ModelPool().use(recipe) as part:
        assert torch.equal(vae.encode(part, image), vae.encode(loaded, image))
