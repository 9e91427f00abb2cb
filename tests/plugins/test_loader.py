"""Loading packs: isolation, permission, reload, duplicates."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.api.errors import EngineError, PluginError, StorageError
from engine.api.node import node, node_type_of
from engine.plugins.check_values import CheckContext
from engine.plugins.loader import PackLoader, load_pack
from engine.plugins.packs import (
    SHIPPED,
    PackReport,
    PackSource,
    PackState,
    Policy,
    allow_packs,
    find_packs,
    pack_digest,
    quarantine_pack,
    read_ledger,
)
from engine.plugins.registry import NodeRegistry, add_builtin
from tests.plugins.conftest import PACKS

ROOT = Path(__file__).parents[2]
SIMPLE = """
from engine.api import node

@node("{name}.Add", category="test")
def add(a: int) -> int:
    return a + {number}

NODES = [add]
"""


def write(folder: Path, name: str = "mine", number: int = 1) -> Path:
    pack = folder / name
    pack.mkdir(parents=True, exist_ok=True)
    (pack / "__init__.py").write_text(f"from .nodes import NODES\n__all__ = {['NODES']}\n")
    (pack / "nodes.py").write_text(SIMPLE.format(name=name, number=number))
    return pack


def loader_of(folder: Path, policy: Policy = Policy.LISTED) -> PackLoader:
    return PackLoader(
        registry=NodeRegistry(), folders=(folder,), state_dir=folder / "state", policy=policy
    )


def test_every_pack_gets_a_report(loader: PackLoader) -> None:
    states = {name: report.state for name, report in loader.reports.items()}
    assert states == {
        "breaker": PackState.FAILED,
        "class_features": PackState.LOADED,
        "host_user": PackState.FAILED,
        "leaver": PackState.FAILED,
        "schema_features": PackState.LOADED,
        "uneven": PackState.LOADED,
    }
    for report in loader.reports.values():
        assert PackReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_failures_say_why(loader: PackLoader) -> None:
    errors = {name: report.error for name, report in loader.reports.items()}
    assert errors["breaker"] == "RuntimeError: out of order"
    assert "raise RuntimeError" in loader.reports["breaker"].traceback
    assert "SystemExit: 3" in errors["leaver"]
    assert "imports folder_paths, a module of the reference engine" in errors["host_user"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("import comfy.utils", "imports comfy, a module of the reference engine"),
        ("from comfy_api.latest import InputImpl", "cannot import name 'InputImpl'"),
        ("from comfy_api.latest import io; io.Autogrow", "io.Autogrow is not offered"),
        ("import not_installed_here", "needs the Python package not_installed_here"),
        ("from . import missing", "missing or incomplete"),
        ("NODES = [len]", "Decorate it with @node"),
    ],
)
def test_reason_names_what_a_pack_lacks(tmp_path: Path, line: str, reason: str) -> None:
    pack = write(tmp_path)
    (pack / "__init__.py").write_text(line)
    (report,) = loader_of(tmp_path, Policy.ALL).load_all()
    assert reason in report.error + str(report.refused)


def test_node_types_of_failed_packs_are_known(loader: PackLoader) -> None:
    unavailable = loader.unavailable()
    assert {"BreakerOne", "BreakerTwo", "HostUser", "leaver.Node", "LeaverNode"} <= set(unavailable)
    assert (
        "in the pack breaker, which could not be loaded: RuntimeError"
        in (unavailable["BreakerOne"])
    )
    assert "FUNCTION" in unavailable["FeatureBroken"]


def test_failed_packs_leave_no_modules(loader: PackLoader) -> None:
    assert not [n for n in sys.modules if n.startswith(("weft_pack_breaker", "weft_pack_leaver"))]


def test_new_pack_waits_for_permission(tmp_path: Path) -> None:
    write(tmp_path)
    started: list[str] = []
    loader = PackLoader(
        registry=NodeRegistry(),
        folders=(tmp_path,),
        state_dir=tmp_path / "state",
        on_pack_start=started.append,
    )
    (report,) = loader.load_all()
    assert report.state is PackState.NOT_ALLOWED and started == [] and len(loader.registry) == 0
    assert "python3 main.py nodes --allow mine" in loader.unavailable()["mine.Add"]
    assert allow_packs([tmp_path], tmp_path / "state", ["mine"]) == ("mine",)
    loader.load_all()
    assert started == ["mine"] and "mine.Add" in loader.registry


def test_changed_pack_waits_again_but_not_in_dev_mode(tmp_path: Path) -> None:
    write(tmp_path)
    allow_packs([tmp_path], tmp_path / "state", ["mine"])
    (tmp_path / "mine" / "settings.json").write_text("{}")
    assert loader_of(tmp_path).load_all()[0].state is PackState.LOADED
    write(tmp_path, number=2)
    assert loader_of(tmp_path).load_all()[0].state is PackState.CHANGED
    assert loader_of(tmp_path, Policy.KNOWN).load_all()[0].state is PackState.LOADED
    assert loader_of(tmp_path, Policy.ALL).load_all()[0].state is PackState.LOADED


def test_quarantine_holds_until_change_or_permission(tmp_path: Path) -> None:
    write(tmp_path)
    state = tmp_path / "state"
    quarantine_pack([tmp_path], state, "mine", "It hung for 30 s.")
    report = loader_of(tmp_path, Policy.ALL).load_all()[0]
    assert (report.state, report.error) == (PackState.QUARANTINED, "It hung for 30 s.")
    allow_packs([tmp_path], state, ["mine"])
    assert loader_of(tmp_path).load_all()[0].state is PackState.LOADED
    quarantine_pack([tmp_path], state, "mine", "again")
    write(tmp_path, number=3)
    assert loader_of(tmp_path, Policy.ALL).load_all()[0].state is PackState.LOADED


def test_damaged_list_of_permissions_allows_nothing(tmp_path: Path) -> None:
    write(tmp_path)
    allow_packs([tmp_path], tmp_path / "state", ["mine"])
    (tmp_path / "state" / "packs.json").write_text("[1")
    with pytest.raises(StorageError, match="cannot be read"):
        read_ledger(tmp_path / "state")
    report = loader_of(tmp_path).load_all()[0]
    assert report.state is PackState.NOT_ALLOWED and "cannot be read" in report.error


def test_unknown_pack_cannot_be_allowed(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(PluginError, match="no pack other") as caught:
        allow_packs([tmp_path], tmp_path / "state", ["other"])
    assert "mine" in caught.value.hint


def test_reload_runs_new_sources_at_once(tmp_path: Path, ctx: CheckContext) -> None:
    loader = loader_of(tmp_path, Policy.ALL)
    for number in (1, 2, 3):  # same size, same second: a bytecode cache would answer
        write(tmp_path, number=number)
        loader.load_all()
        output = loader.registry.get("mine.Add").call({"a": 0}, ctx)
        assert output.result == (number,)  # pyright: ignore[reportAttributeAccessIssue]
    assert not list(tmp_path.rglob("*.pyc"))


def test_bytecode_that_came_with_a_pack_is_not_run(tmp_path: Path, ctx: CheckContext) -> None:
    pack = write(tmp_path, number=666)
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(pack)], check=True)
    stat = (pack / "nodes.py").stat()
    write(tmp_path, number=111)
    os.utime(pack / "nodes.py", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    loader = loader_of(tmp_path, Policy.ALL)
    loader.load_all()
    assert loader.registry.get("mine.Add").call({"a": 0}, ctx).result == (111,)  # pyright: ignore[reportAttributeAccessIssue]


def test_pack_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    pack = write(tmp_path)
    loader = loader_of(tmp_path, Policy.ALL)
    loader.load_all()
    pack.rename(tmp_path / "mine.disabled")
    assert loader.load_all()[0].state is PackState.DISABLED and not loader.registry.specs()
    pack.with_name("mine.disabled").rename(tmp_path / "_mine")
    assert loader.load_all() == () and loader.reports == {}


def test_pack_that_was_broken_by_a_change_keeps_its_names(tmp_path: Path) -> None:
    pack = write(tmp_path)
    loader = loader_of(tmp_path, Policy.ALL)
    loader.load_all()
    (pack / "nodes.py").write_text("x = (")
    loader.load_all()
    assert "mine.Add" not in loader.registry
    assert "SyntaxError" in loader.unavailable()["mine.Add"]


def test_loaded_pack_that_did_not_change_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, "one")
    write(tmp_path, "two")
    started: list[str] = []
    loader = PackLoader(
        registry=NodeRegistry(),
        folders=(tmp_path,),
        state_dir=tmp_path / "state",
        policy=Policy.ALL,
        on_pack_start=started.append,
    )
    loader.load_all()
    first = loader.registry.get("one.Add")
    (tmp_path / "two" / "settings.json").write_text("{}")  # part of its version
    write(tmp_path, "three")
    loader.load_all()
    assert started == ["one", "two", "three", "two"]
    assert loader.registry.get("one.Add") is first


async def test_declarative_pack_loads_where_a_loop_runs(tmp_path: Path) -> None:
    registry = NodeRegistry()
    report = load_pack(PackSource(name="schema", path=PACKS / "schema_features.py"), registry)
    assert report.state is PackState.LOADED and "SchemaBlend" in registry


@pytest.mark.parametrize(("declared", "is_taken"), [("web", True), ("../..", False), ("no", False)])
def test_web_folder_lies_inside_the_pack(tmp_path: Path, declared: str, is_taken: bool) -> None:
    pack = write(tmp_path)
    (pack / "web").mkdir()
    (pack / "__init__.py").write_text(f"WEB_DIRECTORY = {declared!r}")
    (report,) = loader_of(tmp_path, Policy.ALL).load_all()
    assert report.web_folder == (str((pack / "web").resolve()) if is_taken else None)


def test_built_in_node_is_never_overridden(tmp_path: Path) -> None:
    @node("mine.Add", category="test")
    def add(a: int) -> int:
        """Adds."""
        return a

    module = type(sys)("builtin")
    vars(module)["NODES"] = [add]
    write(tmp_path)
    loader = loader_of(tmp_path, Policy.ALL)
    add_builtin(loader.registry, [module])
    (report,) = loader.load_all()
    assert report.nodes == ()
    assert (
        "of the pack mine is not used: the built-in nodes already has"
        in (report.refused["mine.Add"])
    )
    assert loader.registry.get("mine.Add").spec.pack == "nodes"


def test_aliases_find_their_node_and_are_taken_too() -> None:
    @node("Long", category="test", aliases=["Short"])
    def long(a: int) -> int:
        return a

    @node("Short", category="test")
    def short(a: int) -> int:
        return a

    registry = NodeRegistry()
    registry.add(node_type_of(long))
    assert registry.get("Short") is registry.get("Long")
    with pytest.raises(PluginError, match="Short"):
        registry.add(node_type_of(short))
    with pytest.raises(EngineError, match="no node type Shirt"):
        registry.get("Shirt")


def test_packs_are_found_by_folder_and_file(tmp_path: Path) -> None:
    for name in ("b", "b.disabled", ".hidden", "_private", "__pycache__", "no_init"):
        (tmp_path / name).mkdir()
        if name != "no_init":
            (tmp_path / name / "__init__.py").touch()
    (tmp_path / "single.py").touch()
    (tmp_path / "off.py.disabled").touch()
    (tmp_path / "notes.txt").touch()
    found = {s.name: s.is_disabled for s in find_packs([tmp_path, tmp_path / "missing"])}
    assert found == {"b": False, "off": True, "single": False}


def test_digest_sees_code_and_data_but_not_line_ends(tmp_path: Path) -> None:
    source = PackSource(name="mine", path=write(tmp_path))
    first = pack_digest(source)
    text = (source.path / "nodes.py").read_bytes()
    (source.path / "nodes.py").write_bytes(text.replace(b"\n", b"\r\n"))
    assert pack_digest(source) == first
    (source.path / "data.yaml").write_text("a: 1")
    second = pack_digest(source)
    assert second.code == first.code and second.version != first.version
    (source.path / "native.so").write_bytes(b"\0")
    assert pack_digest(source).code != first.code


def test_shipped_pack_is_allowed_as_it_was_shipped(tmp_path: Path) -> None:
    source = PackSource(name="example_pack", path=ROOT / "custom_nodes" / "example_pack")
    assert SHIPPED["example_pack"] == pack_digest(source).code, (
        "the example pack changed: put its new code digest into engine.plugins.packs.SHIPPED"
    )


def test_plugins_need_no_torch() -> None:
    code = (
        "import sys, engine.plugins.loader, engine.plugins.pack_tools, "
        "engine.plugins.schema_api.latest, engine.api.graph_builder\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
