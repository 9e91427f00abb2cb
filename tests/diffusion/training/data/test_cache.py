"""Caches on disk: by content, bounded, whole files or none."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from engine.api.errors import StorageError
from engine.diffusion.training.data.cache import ContentStore, LatentCache, TextCache


def test_latents_come_back_without_loss_under_their_recipe_only(tmp_path: Path) -> None:
    cache = LatentCache(tmp_path, "vae 1")
    latent = torch.randn(4, 6, 6).to(torch.bfloat16)
    cache.put("key", {"mean": latent})
    found = LatentCache(tmp_path, "vae 1").get("key")
    assert found is not None and torch.equal(found["mean"], latent)
    assert LatentCache(tmp_path, "vae 2").get("key") is None


def test_only_missing_ones_are_made(tmp_path: Path) -> None:
    cache = TextCache(tmp_path, "clip")
    asked: list[list[int]] = []

    def make(positions: Sequence[int]) -> dict[str, torch.Tensor]:
        asked.append(list(positions))
        return {"embeds": torch.tensor([[float(p)] for p in positions])}

    assert cache.get_all(["a", "b"], make)["embeds"].tolist() == [[0.0], [1.0]]
    assert cache.get_all(["b", "c", "a"], make)["embeds"].tolist() == [[1.0], [1.0], [0.0]]
    assert asked == [[0, 1], [1]]


def test_a_damaged_file_counts_as_absent(tmp_path: Path) -> None:
    cache = LatentCache(tmp_path, "vae")
    cache.put("key", {"mean": torch.ones(8)})
    file = next(tmp_path.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-7])
    assert cache.get("key") is None


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    store = ContentStore(tmp_path, 1000)
    for number, name in enumerate(("aa", "bb", "cc")):
        path = store.put(name, bytes(300))
        os.utime(path, (number, number))
    assert store.get("aa") is not None  # used now
    store.put("dd", bytes(300))
    assert store.get("bb") is None and store.get("aa") and store.get("dd")
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) <= 1000
    assert not list(tmp_path.rglob("*.part"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        ContentStore(tmp_path / "file", 1000).put("aa", b"x")
