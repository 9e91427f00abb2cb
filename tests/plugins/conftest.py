"""The fixture packs, loaded once, and a context for node calls."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.plugins.check_values import CheckContext
from engine.plugins.host_modules import remove_host_modules
from engine.plugins.loader import PackLoader
from engine.plugins.packs import Policy
from engine.plugins.registry import NodeRegistry

PACKS = Path(__file__).parents[1] / "fixtures" / "packs"


@pytest.fixture(scope="session")
def loader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PackLoader]:
    loader = PackLoader(
        registry=NodeRegistry(),
        folders=(PACKS,),
        state_dir=tmp_path_factory.mktemp("state"),
        policy=Policy.ALL,
    )
    loader.load_all()
    yield loader
    remove_host_modules()


@pytest.fixture
def registry(loader: PackLoader) -> NodeRegistry:
    return loader.registry


@pytest.fixture
def ctx(tmp_path: Path) -> CheckContext:
    context = CheckContext(tmp_path)
    context.node_id = "5:1"
    context.prompt = {"5": {"class_type": "X", "inputs": {}}}
    context.extra_pnginfo = {"workflow": {}}
    return context
