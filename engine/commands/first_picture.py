"""The first picture: the default workflow, sent to the running server like any client would."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, TCPConnector

from engine.api.errors import EngineError
from engine.config import ROOT, Config

DEFAULT_WORKFLOW = ROOT / "engine" / "default_workflow.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """The saved file, and the seconds from sending the prompt to having it."""

    path: Path
    seconds: float
    is_new: bool


async def make_first_picture(config: Config, address: str) -> Picture:
    """Run the default workflow through the server's queue.

    The job's id follows from the workflow, so that a later start gets the same job and picture
    back; only when the file is gone it is made again. Raises: EngineError with the server's words.
    """
    prompt = json.loads(DEFAULT_WORKFLOW.read_text(encoding="utf-8"))
    job_id = str(uuid.uuid5(uuid.NAMESPACE_URL, "weft:" + json.dumps(prompt, sort_keys=True)))
    async with _client(config, address) as client:
        started = time.monotonic()
        entry = await _history(client, job_id)
        path = _picture_path(config, entry)
        if path is not None and path.exists():
            return Picture(path=path, seconds=0.0, is_new=False)
        body = {"prompt": prompt, "prompt_id": str(uuid.uuid4()) if entry else job_id}
        async with client.post("/prompt", json=body) as answer:
            result = await answer.json()
        if answer.status != 200:
            raise EngineError(f"The default workflow was refused: {json.dumps(result)}")
        entry = await _ended(client, result["prompt_id"])
        path = _picture_path(config, entry)
        if path is None:
            raise EngineError(
                f"The default workflow made no picture: {_message(entry)}",
                hint="The page shows what happened.",
            )
        return Picture(path=path, seconds=time.monotonic() - started, is_new=True)


@asynccontextmanager
async def _client(config: Config, address: str) -> AsyncIterator[ClientSession]:
    headers = {"Authorization": f"Bearer {config.token}"} if config.token else {}
    connector = TCPConnector(ssl=False)
    async with ClientSession(address, headers=headers, connector=connector) as client:
        yield client


async def _history(client: ClientSession, job_id: str) -> dict[str, Any]:
    async with client.get(f"/history/{job_id}") as answer:
        return (await answer.json()).get(job_id, {})


async def _ended(client: ClientSession, job_id: str) -> dict[str, Any]:
    """The history entry of a job, once it has ended."""
    while not (entry := await _history(client, job_id)):
        await asyncio.sleep(0.05)
    return entry


def _picture_path(config: Config, entry: dict[str, Any]) -> Path | None:
    for output in entry.get("outputs", {}).values():
        for image in output.get("images", ()):
            return config.output_dir / image["subfolder"] / image["filename"]
    return None


def _message(entry: dict[str, Any]) -> str:
    for kind, data in entry.get("status", {}).get("messages", ()):
        if kind == "execution_error":
            return str(data.get("exception_message", ""))
    return str(entry.get("status", {}).get("status_str", "no answer"))
