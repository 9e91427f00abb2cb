"""Packs that misbehave on the very first start, and pack nodes that list files."""

import json
from pathlib import Path

import pytest

from tests.e2e.server_process import ServerProcess

pytestmark = pytest.mark.e2e

LISTER = """
from pathlib import Path

class Lister:
    @classmethod
    def INPUT_TYPES(cls):
        files = sorted(p.name for p in Path(__file__).parent.glob("*.txt"))
        return {"required": {"file": (files,)}}
    RETURN_TYPES = ()
    FUNCTION = "show"
    OUTPUT_NODE = True

    def show(self, file):
        return {"ui": {"text": [file]}}

NODE_CLASS_MAPPINGS = {"Lister": Lister}
"""
DYING = 'NODE_CLASS_MAPPINGS = {"Dying": object}\nimport os\nos._exit(7)\n'


def test_a_pack_that_ends_the_process_costs_only_its_own_nodes(tmp_path: Path):
    for name, code in (("dying", DYING), ("lister", LISTER)):
        (tmp_path / "custom_nodes" / name).mkdir(parents=True)
        (tmp_path / "custom_nodes" / name / "__init__.py").write_text(code)
    with ServerProcess(tmp_path, "--allow-packs", "all") as server:
        states = {pack["name"]: pack["state"] for pack in server.get("/packs")["packs"]}
        assert states == {"dying": "quarantined", "lister": "loaded"}
        needs_it = {"1": {"class_type": "Dying", "inputs": {}}}
        status, answer = server.call("POST", "/prompt", {"prompt": needs_it})
        assert status == 400
        assert "in quarantine" in json.dumps(answer)
        (tmp_path / "custom_nodes" / "lister" / "new.txt").touch()
        entry = server.run({"1": {"class_type": "Lister", "inputs": {"file": "new.txt"}}})
        assert entry["outputs"]["1"]["text"] == ["new.txt"]
