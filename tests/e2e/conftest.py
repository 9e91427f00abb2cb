"""Fixtures of the end-to-end tests: data folders and running servers."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.config import ROOT
from tests.e2e.server_process import ServerProcess

Start = Callable[..., ServerProcess]


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Start]:
    """Starts servers on one data folder; ends them after the test."""
    servers: list[ServerProcess] = []

    def start(*flags: str, **environment: str) -> ServerProcess:
        servers.append(ServerProcess(tmp_path, *flags, environment=environment))
        return servers[-1].start()

    yield start
    for server in servers:
        server.__exit__()


@pytest.fixture
def default_prompt() -> dict[str, Any]:
    """The default workflow in API form."""
    return json.loads((ROOT / "engine" / "default_workflow.json").read_text(encoding="utf-8"))
