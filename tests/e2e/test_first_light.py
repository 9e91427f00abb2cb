"""From a clean checkout to a picture, the same again from the cache, and through kill -9."""

import io
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.config import ROOT
from tests.e2e.conftest import Start
from tests.e2e.server_process import free_port

pytestmark = pytest.mark.e2e


def readme_blocks(language: str = "sh") -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [block.strip() for block in re.findall(rf"```{language}\n(.*?)```", text, re.S)]


def states(entry: dict[str, Any]) -> dict[str, str]:
    return {node: record["state"] for node, record in entry["weft"]["nodes"].items()}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_first_line_of_the_readme_ends_in_a_picture(tmp_path: Path):
    clone = tmp_path / "weft"
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{ROOT}", clone], check=True)
    command = readme_blocks()[0]
    assert command == "python3 main.py"
    port = free_port()  # 8188 may be in use on a developer's machine
    with subprocess.Popen(
        [*shlex.split(command), "--port", str(port)],
        cwd=clone,
        stdout=subprocess.PIPE,
        text=True,
        env=bare_environment(),
    ) as process:
        try:
            assert process.stdout is not None
            picture = Path(process.stdout.readline().strip())
            with Image.open(picture) as image:
                assert image.size == (64, 64)
                assert {"prompt"} <= set(image.info)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0


def bare_environment() -> dict[str, str]:
    """What a person's shell has: the plain Python on the path, nothing of this environment."""
    kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "HOME", "SSL_", "HTTP"))}
    return {**kept, "PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/local/bin:/usr/bin:/bin"}


def test_the_curl_of_the_readme_gives_the_picture_and_again_from_the_cache(
    start_server: Start, tmp_path: Path
):
    server = start_server()
    curl = next(block for block in readme_blocks() if "curl" in block)
    curl = curl.replace("http://127.0.0.1:8188", server.url)
    curl = curl.replace("picture.png", str(tmp_path / "picture.png"))
    for _ in range(2):
        subprocess.run(shlex.split(curl), cwd=ROOT, check=True)
        with Image.open(tmp_path / "picture.png") as image:
            assert (image.format, image.size) == ("PNG", (64, 64))
    first, second = server.get("/history").values()
    assert set(states(first).values()) == {"ran"}
    assert "ran" not in states(second).values()


def test_results_are_found_again_after_a_restart(
    start_server: Start, default_prompt: dict[str, Any]
):
    server = start_server()
    assert states(server.run(default_prompt))["3"] == "ran"
    assert server.stop() == 0
    again = start_server()
    default_prompt["9"]["inputs"]["filename_prefix"] = "other"
    entry = again.run(default_prompt)
    assert states(entry)["9"] == "ran"
    assert states(entry).get("3", "disk") == "disk"
    assert len(again.get("/history")) == 2


def test_a_job_goes_on_by_itself_after_everything_was_killed(
    start_server: Start, default_prompt: dict[str, Any]
):
    server = start_server()
    server.run(default_prompt)
    default_prompt["3"]["inputs"].update(steps=60, seed=8)
    default_prompt["13"] = {
        "class_type": "KSampler",
        "inputs": {
            **default_prompt["3"]["inputs"],
            "latent_image": ["3", 0],
            "steps": 300,
            "denoise": 0.9,
        },
    }
    default_prompt["8"]["inputs"]["samples"] = ["13", 0]
    job = server.queue_prompt(default_prompt, client_id="e2e")
    server.wait_for_message(lambda m: m["type"] == "executing" and m["data"]["node"] == "13")
    time.sleep(0.5)  # results are written behind
    server.kill_everything()
    again = start_server()
    entry = again.wait_for(job)
    assert entry["status"]["status_str"] == "success"
    assert states(entry)["3"] == "disk"
    assert states(entry)["13"] == "ran"
    (image,) = entry["outputs"]["9"]["images"]
    status, data = again.call("GET", f"/view?filename={image['filename']}&type=output")
    assert status == 200
    Image.open(io.BytesIO(data)).load()
