"""The server's services as they are built for real, with stub workers."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.api.errors import LaunchError
from engine.bootstrap import build_services
from engine.config import ROOT, Config
from engine.run.settings import config_from_json, config_to_json
from engine.run.worker_session import WorkerOptions
from tests.run.test_supervisor import COMMAND

OPTIONS = WorkerOptions(folder=ROOT, command=COMMAND, start={}, stop_grace_s=2.0)


async def test_the_first_start_waits_for_the_node_types_and_the_next_one_does_not(tmp_path: Path):
    config = Config(base_dir=tmp_path)
    services = build_services(config, options=OPTIONS)
    await services.start()
    assert "Stub" in services.worker.catalogue
    assert (services.packs, services.devices) == (({"name": "p"},), ({"name": "cpu"},))
    await services.stop()
    broken = WorkerOptions(folder=ROOT, command=("no such program",), start={})
    again = build_services(config, options=broken)
    async with asyncio.timeout(10):
        await again.start()
    assert "Stub" in again.worker.catalogue
    assert again.worker.phase == "starting"
    await again.stop()


async def test_a_first_worker_that_cannot_start_is_a_launch_error(tmp_path: Path):
    start = {"broken": True}
    options = WorkerOptions(folder=ROOT, command=COMMAND, start=start)
    services = build_services(Config(base_dir=tmp_path), options=options)
    with pytest.raises(LaunchError, match="no torch here"):
        await services.start()


async def test_a_pack_that_kills_the_first_worker_does_not_keep_the_server_from_starting(
    tmp_path: Path,
):
    jail = tmp_path / "jail"

    def quarantine(pack: str, _reason: str) -> None:
        jail.write_text(pack)

    start = {"packs": {"bad": "die"}, "jail": str(jail)}
    options = WorkerOptions(folder=ROOT, command=COMMAND, start=start, quarantine=quarantine)
    services = build_services(Config(base_dir=tmp_path), options=options)
    await services.start()
    assert "Stub" in services.worker.catalogue
    await services.stop()


async def test_a_second_server_on_the_same_folder_is_refused_and_harms_nothing(tmp_path: Path):
    config = Config(base_dir=tmp_path, port=4711)
    services = build_services(config, options=OPTIONS)
    await services.start()
    second = build_services(Config(base_dir=tmp_path, port=4712), options=OPTIONS)
    with pytest.raises(LaunchError, match="port 4711"):
        await second.start()
    about = json.loads((tmp_path / "user" / "weft" / "server.json").read_text())
    assert about["port"] == 4711
    assert services.worker.phase in ("starting", "ready")
    await services.stop()


async def test_temporary_files_are_gone_at_the_start_but_not_those_of_a_chosen_folder(
    tmp_path: Path,
):
    for folder in ("temp", "mine"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "old.png").touch()
    await started_and_stopped(Config(base_dir=tmp_path, temp_override=tmp_path / "mine"))
    assert (tmp_path / "temp" / "old.png").exists() and (tmp_path / "mine" / "old.png").exists()
    await started_and_stopped(Config(base_dir=tmp_path))
    assert not (tmp_path / "temp" / "old.png").exists()


async def started_and_stopped(config: Config) -> None:
    services = build_services(config, options=OPTIONS)
    await services.start()
    await services.stop()


def test_the_configuration_survives_the_way_to_the_worker_without_its_secret(tmp_path: Path):
    config = Config(
        base_dir=tmp_path / "Zürich",
        extra_model_paths=(tmp_path / "a.yaml",),
        ram_limit_mb=100,
        disk_cache_gb=0.5,
        token="secret",
        argv=("--x",),
    )
    data = json.loads(json.dumps(config_to_json(config)))
    assert "secret" not in json.dumps(data)
    copy = config_from_json(data)
    assert copy.token is None
    assert (copy.base_dir, copy.extra_model_paths) == (config.base_dir, config.extra_model_paths)
    assert (copy.ram_limit_mb, copy.disk_cache_gb, copy.argv) == (100, 0.5, ("--x",))


def test_building_the_services_loads_no_torch_node_or_pack(tmp_path: Path):
    code = (
        "import sys; from pathlib import Path; from engine.config import Config;"
        "from engine.bootstrap import build_services;"
        f"build_services(Config(base_dir=Path({str(tmp_path)!r})));"
        "print({'torch', 'nodes', 'networkx', 'numpy', 'PIL'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
