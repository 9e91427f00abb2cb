"""The configuration as folders and as JSON."""

from pathlib import Path

from engine.config import Config
from engine.run.settings import SHIPPED_CHECKPOINTS, folders_of


def test_the_built_in_model_is_found_last_whatever_the_base_folder(tmp_path: Path):
    paths = folders_of(Config(base_dir=tmp_path)).paths("checkpoints")
    assert paths == (tmp_path / "models" / "checkpoints", SHIPPED_CHECKPOINTS)


def test_the_checkouts_own_folder_is_searched_once():
    assert folders_of(Config()).paths("checkpoints") == (SHIPPED_CHECKPOINTS,)
