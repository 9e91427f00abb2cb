"""The configuration as folders and as JSON."""

from pathlib import Path

import pytest

from engine.config import Config
from engine.run.settings import SHIPPED, SHIPPED_KINDS, folders_of


@pytest.mark.parametrize("kind", SHIPPED_KINDS)
def test_what_is_shipped_is_found_last_whatever_the_base_folder(tmp_path: Path, kind: str):
    paths = folders_of(Config(base_dir=tmp_path)).paths(kind)
    assert paths[0] == tmp_path / "models" / kind
    assert paths[-1] == SHIPPED / kind


def test_a_shipped_dataset_is_found_whatever_the_base_folder(tmp_path: Path):
    folders = folders_of(Config(base_dir=tmp_path))
    assert folders.resolve("datasets", "weft-words") == SHIPPED / "datasets" / "weft-words"
    assert folders_of(Config()).paths("datasets").count(SHIPPED / "datasets") == 1


@pytest.mark.parametrize("kind", SHIPPED_KINDS)
def test_the_checkouts_own_folder_is_searched_once(kind: str):
    paths = folders_of(Config()).paths(kind)
    assert paths.count(SHIPPED / kind) == 1
    assert paths[0] == SHIPPED / kind
