"""Bad input to a running server: a clear error with its code, nothing lost, the server alive."""

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.config import ROOT
from engine.run.settings import SHIPPED_CHECKPOINTS
from tests.e2e.conftest import Start
from tests.e2e.server_process import ServerProcess

pytestmark = pytest.mark.e2e

Prompt = dict[str, Any]


def refused(server: ServerProcess, prompt: Any, code: str) -> dict[str, Any]:
    """The error list entry of that code; the server answers 400 and stays alive."""
    status, answer = server.call("POST", "/prompt", {"prompt": prompt, "strict": True})
    assert status == 400, answer
    assert server.call("GET", "/queue")[0] == 200
    entries = [e for node in answer["node_errors"].values() for e in node["errors"]]
    found = [e for e in [*entries, answer["error"]] if e["type"] == code]
    assert found, answer
    return found[0]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad-input")


@pytest.fixture(scope="module")
def server(base: Path):
    folder = base / "models" / "checkpoints"
    folder.mkdir(parents=True)
    whole = (SHIPPED_CHECKPOINTS / "weft-builtin.safetensors").read_bytes()
    (folder / "truncated.safetensors").write_bytes(whole[:100_000])
    header = json.dumps({"a": {"dtype": "F16", "shape": [2**40], "data_offsets": [0, 2**41]}})
    lying = struct.pack("<Q", len(header)) + header.encode()
    (folder / "lying.safetensors").write_bytes(lying)
    (folder / "giant_header.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    (folder / "evil.ckpt").write_bytes(b"cos\nsystem\n(S'touch /tmp/weft-was-here'\ntR.")
    (base / "input").mkdir()
    (base / "input" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 50)
    with ServerProcess(base) as process:
        yield process


def test_unknown_node_type_suggests_the_right_one(server: ServerProcess, default_prompt: Prompt):
    default_prompt["3"]["class_type"] = "KSamplr"
    error = refused(server, default_prompt, "missing_node_type")
    assert "KSampler" in json.dumps(error)


def test_all_problems_come_at_once(server: ServerProcess, default_prompt: Prompt):
    default_prompt["3"]["inputs"]["cfg"] = 1000
    default_prompt["3"]["inputs"]["steps"] = "many"
    del default_prompt["8"]["inputs"]["vae"]
    default_prompt["5"]["inputs"]["width"] = float("nan")
    status, answer = server.call("POST", "/prompt", {"prompt": default_prompt})
    assert status == 400
    codes = {e["type"] for node in answer["node_errors"].values() for e in node["errors"]}
    assert {"value_bigger_than_max", "invalid_input_type", "required_input_missing"} <= codes
    assert set(answer["node_errors"]) >= {"3", "5", "8"}


def test_a_cycle_is_named_node_by_node(server: ServerProcess, default_prompt: Prompt):
    default_prompt["3"]["inputs"]["latent_image"] = ["13", 0]
    default_prompt["13"] = json.loads(json.dumps(default_prompt["3"]))
    default_prompt["13"]["inputs"]["latent_image"] = ["3", 0]
    error = json.dumps(refused(server, default_prompt, "dependency_cycle"))
    assert "13" in error
    assert "3" in error


def test_a_missing_model_names_what_is_there(server: ServerProcess, default_prompt: Prompt):
    default_prompt["4"]["inputs"]["ckpt_name"] = "weft-buildin.safetensors"
    assert "weft-builtin.safetensors" in json.dumps(
        refused(server, default_prompt, "value_not_in_list")
    )


@pytest.mark.parametrize(
    "name", ["truncated.safetensors", "lying.safetensors", "giant_header.safetensors", "evil.ckpt"]
)
def test_a_damaged_or_hostile_checkpoint_fails_with_words(
    server: ServerProcess, default_prompt: Prompt, name: str
):
    default_prompt["4"]["inputs"]["ckpt_name"] = name
    entry = server.run(default_prompt)
    assert entry["status"]["status_str"] == "error"
    error = next(d for kind, d in entry["status"]["messages"] if kind == "execution_error")
    assert error["node_id"] == "4"
    assert name in error["exception_message"]
    assert not Path("/tmp/weft-was-here").exists()


def test_a_broken_picture_fails_with_words(server: ServerProcess):
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "broken.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
    }
    entry = server.run(prompt)
    error = next(d for kind, d in entry["status"]["messages"] if kind == "execution_error")
    assert "broken.png" in error["exception_message"]


@pytest.mark.parametrize(
    "prefix", ["../../escape", "/tmp/escape", "a/../../b", "C:\\escape", "..\\..\\escape", "x\0y"]
)
def test_a_file_name_never_leaves_its_folder(
    server: ServerProcess, default_prompt: Prompt, prefix: str
):
    default_prompt["9"]["inputs"]["filename_prefix"] = prefix
    status, answer = server.call("POST", "/prompt", {"prompt": default_prompt})
    if status == 200:
        entry = server.wait_for(answer["prompt_id"])
        if entry["status"]["status_str"] == "success":
            (image,) = entry["outputs"]["9"]["images"]
            path = (server.base / "output" / image["subfolder"] / image["filename"]).resolve()
            assert path.is_relative_to((server.base / "output").resolve())
    assert not list(server.base.parent.glob("*escape*"))
    assert not list(Path("/tmp").glob("escape*"))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"[" * 50_000,
        b'{"prompt": 1}',
        b'{"prompt": {"1": null}}',
    ],
)
def test_broken_json_is_refused(server: ServerProcess, body: bytes):
    status, answer = server.call("POST", "/prompt", body)
    assert status == 400
    assert answer["error"]["message"]


def test_a_hundred_megabytes_are_refused_without_harm(server: ServerProcess):
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(
            b"POST /prompt HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 209715200\r\n\r\n"
        )
        assert b" 413 " in client.recv(100)
    assert server.call("GET", "/queue")[0] == 200


def test_an_unknown_job_is_not_done(server: ServerProcess):
    assert server.get("/history/no-such-job") == {}
    assert server.call("GET", "/jobs/no-such-job")[0] == 404


def launch(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "main.py"), "--no-first-picture", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_taken_port_says_which_flag_helps(server: ServerProcess, tmp_path: Path):
    result = launch("--base-directory", str(tmp_path), "--port", str(server.port))
    assert result.returncode == 1
    assert f"--port {server.port + 1}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_second_server_on_the_same_folder_is_refused(server: ServerProcess, base: Path):
    result = launch("--base-directory", str(base), "--port", "0")
    assert result.returncode == 1
    assert str(server.port) in result.stderr or "already" in result.stderr
    assert "Traceback" not in result.stderr
    assert server.call("GET", "/queue")[0] == 200


def test_an_output_folder_that_cannot_be_written_fails_the_node(
    start_server: Start, default_prompt: Prompt
):
    server = start_server("--output-directory", "/dev/full")
    entry = server.run(default_prompt)
    assert entry["status"]["status_str"] == "error"
    error = next(d for kind, d in entry["status"]["messages"] if kind == "execution_error")
    assert error["node_id"] == "9"
    assert server.call("GET", "/queue")[0] == 200
