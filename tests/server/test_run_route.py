"""`POST /weft/run` on a real server with a real worker."""

import json
from pathlib import Path

import pytest

from tests.e2e.server_process import ServerProcess
from tests.tiny_checkpoint import write_tiny_checkpoint

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    base = tmp_path_factory.mktemp("run-route")
    folder = base / "models" / "checkpoints"
    folder.mkdir(parents=True)
    write_tiny_checkpoint(folder / "tiny.safetensors")
    with ServerProcess(base) as process:
        yield process


@pytest.fixture
def prompt() -> dict:
    path = Path(__file__).parents[2] / "engine" / "default_workflow.json"
    prompt = json.loads(path.read_text(encoding="utf-8"))
    prompt["4"]["inputs"]["ckpt_name"] = "tiny.safetensors"
    prompt["3"]["inputs"]["steps"] = 1
    return prompt


def test_a_bare_prompt_gives_its_picture(server: ServerProcess, prompt: dict):
    status, data = server.call("POST", "/weft/run", prompt)
    assert status == 200
    assert data.startswith(b"\x89PNG")


def test_json_gives_the_history_entry(server: ServerProcess, prompt: dict):
    status, answer = server.call("POST", "/weft/run?format=json", {"prompt": prompt})
    assert status == 200
    assert server.get(f"/history/{answer['prompt_id']}") == {answer["prompt_id"]: answer["history"]}


def test_a_refused_prompt_answers_with_its_problems(server: ServerProcess, prompt: dict):
    prompt["3"]["inputs"]["steps"] = 0
    status, answer = server.call("POST", "/weft/run", prompt)
    assert status == 400
    assert answer["node_errors"]["3"]["errors"][0]["type"] == "value_smaller_than_min"


def test_a_failed_job_answers_with_the_node_and_its_words(server: ServerProcess, prompt: dict):
    server.base.joinpath("models", "checkpoints", "torn.safetensors").write_bytes(b"x" * 100)
    prompt["4"]["inputs"]["ckpt_name"] = "torn.safetensors"
    status, answer = server.call("POST", "/weft/run", prompt)
    assert status == 422
    assert "Node 4" in answer["error"]["details"]
    assert "torn.safetensors" in answer["error"]["details"]


def test_an_unknown_format_is_refused(server: ServerProcess, prompt: dict):
    assert server.call("POST", "/weft/run?format=gif", prompt)[0] == 400
