"""The set-up's decisions; the real installation is tested end to end from a fresh clone."""

from pathlib import Path

import pytest

from engine import setup
from engine.api.errors import LaunchError


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A machine without torch and GPU, and an empty place for the environment."""
    monkeypatch.setattr(setup, "VENV", tmp_path / "venv")
    monkeypatch.setattr(setup, "STAMP", tmp_path / "venv" / "stamp.json")
    for name in ("_existing_torch", "_has_nvidia", "_has_rocm"):
        monkeypatch.setattr(setup, name, lambda: None)
    return monkeypatch


def test_without_gpu_the_cpu_build_is_chosen_and_small(bare: pytest.MonkeyPatch):
    plan = setup.plan_torch("auto")
    assert plan.kind == "cpu"
    assert "no GPU" in plan.reason
    assert plan.download_mb <= 600


def test_a_gpu_chooses_its_build(bare: pytest.MonkeyPatch):
    bare.setattr(setup, "_has_nvidia", lambda: True)
    assert setup.plan_torch("auto").kind == "cuda"
    assert setup.plan_torch("cpu").kind == "cpu"


def test_an_existing_torch_is_reused_and_never_replaced(bare: pytest.MonkeyPatch, tmp_path: Path):
    bare.setattr(setup, "_existing_torch", lambda: tmp_path)
    bare.setattr(setup, "_has_nvidia", lambda: True)
    plan = setup.plan_torch("auto")
    assert (plan.kind, plan.existing_site, plan.download_mb) == ("existing", tmp_path, 0)


def test_keep_without_torch_says_what_to_do(bare: pytest.MonkeyPatch):
    with pytest.raises(LaunchError, match="has no torch") as error:
        setup.plan_torch("keep")
    assert "--torch auto" in error.value.hint


def test_missing_ensurepip_names_the_one_command(bare: pytest.MonkeyPatch):
    bare.setattr(setup.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LaunchError) as error:
        setup.ensure("auto", lambda text: None)
    assert "apt install python3." in error.value.hint


def test_too_little_disk_is_found_before_any_download(bare: pytest.MonkeyPatch):
    usage = type("Usage", (), {"free": 10 * 2**20})
    bare.setattr(setup.shutil, "disk_usage", lambda path: usage)
    bare.setattr(setup, "_make_venv", lambda say: None)
    with pytest.raises(LaunchError, match="10 MB free"):
        setup.ensure("cpu", lambda text: None)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("NewConnectionError: Failed to establish a new connection", "cannot be reached"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("error: something else", "pip failed"),
    ],
)
def test_pip_failures_become_words(line: str, message: str):
    assert message in setup._pip_error([line]).message  # pyright: ignore[reportPrivateUsage]


def test_every_pin_is_exact():
    for lock in (setup.RUN_LOCK, setup.TEST_LOCK):
        for line in lock.read_text(encoding="utf-8").splitlines():
            assert line.startswith("#") or line.count("==") == 1, line
