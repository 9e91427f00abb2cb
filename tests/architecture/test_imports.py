"""What each room may load, checked in a fresh interpreter."""

import json
import subprocess
import sys

import pytest

from engine.config import ROOT

HEAVY = ("torch", "diffusers", "transformers")


def loaded_by(module: str) -> set[str]:
    code = f"import sys, json, {module}; print(json.dumps([m.split('.')[0] for m in sys.modules]))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "module", ["engine.bootstrap", "engine.server.app", "engine.plugins.loader"]
)
def test_server_side_loads_no_torch(module: str):
    assert not loaded_by(module) & set(HEAVY)


def test_a_worker_starts_without_the_network_libraries():
    assert not loaded_by("nodes") & {"diffusers", "transformers"}  # some seconds


def test_api_needs_only_the_standard_library():
    third_party = loaded_by("engine.api") - set(sys.stdlib_module_names) - {"engine"}
    assert not {m for m in third_party if not m.startswith(("_", "sitecustomize", "distutils"))}


def test_diffusion_loads_no_server_package():
    assert not loaded_by("engine.diffusion.checkpoint") & {"networkx", "aiohttp"}
