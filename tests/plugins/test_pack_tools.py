"""`pack new` and `pack check`, and the example pack that they are made of."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engine.api.errors import EngineError, PluginError
from engine.plugins.loader import import_pack
from engine.plugins.pack_tools import TEMPLATE, check_pack, new_pack
from engine.plugins.packs import PackSource
from tests.plugins.conftest import PACKS


def test_example_pack_is_in_order() -> None:
    assert check_pack(TEMPLATE, round_trip=lambda value: value) == []


def test_new_pack_works_and_its_tests_pass(tmp_path: Path) -> None:
    path = new_pack(tmp_path, "sharper")
    assert check_pack(path) == []
    package = import_pack(PackSource(name="sharper", path=path))
    assert {f.__name__ for f in package.NODES} == {"sharpen", "mean_color"}
    __import__(f"{package.__name__}.test_nodes")
    tests = vars(sys.modules[f"{package.__name__}.test_nodes"])
    ran = [run() for name, run in tests.items() if name.startswith("test_")]
    assert len(ran) == 3
    assert "example" not in (path / "nodes.py").read_text()


@pytest.mark.parametrize("name", ["", "1st", "../up", "with space", "a.b"])
def test_new_pack_needs_a_proper_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(PluginError, match="cannot be called"):
        new_pack(tmp_path, name)


def test_new_pack_overwrites_nothing(tmp_path: Path) -> None:
    new_pack(tmp_path, "mine")
    with pytest.raises(PluginError, match="already a pack mine"):
        new_pack(tmp_path, "mine")


def test_check_finds_what_is_wrong() -> None:
    def store(value: Any) -> Any:
        raise EngineError("no codec")

    found = check_pack(PACKS / "uneven", taken=["uneven.Lies"], round_trip=store)
    assert {(f.code, f.node) for f in found if f.code != "not_storable"} == {
        ("no_test", None),
        ("changes_input", "uneven.Changes"),
        ("not_deterministic", "uneven.Random"),
        ("duplicate_name", "uneven.Lies"),
        ("wrong_type", "uneven.Lies"),
        ("bad_range", "uneven.Ranges"),
        ("unknown_type", "uneven.Ranges"),
        ("no_docs", "uneven.Ranges"),
    }
    assert Counter(f.code for f in found)["not_storable"] == 4


def test_check_of_a_pack_that_fails_shows_its_traceback() -> None:
    (finding,) = check_pack(PACKS / "breaker.py")
    assert finding.code == "import_failed" and "out of order" in finding.message


def test_check_of_a_class_pack_runs_what_it_can() -> None:
    found = check_pack(PACKS / "class_features")
    codes = Counter(f.code for f in found)
    assert codes["not_run"] >= 2 and codes["refused_node"] == 1
    assert {f.node for f in found if f.code == "not_deterministic"} == {"FeatureState"}


def test_check_needs_a_pack(tmp_path: Path) -> None:
    assert [f.code for f in check_pack(tmp_path)] == ["no_pack"]
