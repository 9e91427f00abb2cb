"""SIGKILL of server, worker and both at random times: nothing lost, nothing torn, nothing twice."""

import hashlib
import random
import re
import shutil
import sqlite3
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPException
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest

from tests.e2e.server_process import ServerProcess

pytestmark = pytest.mark.e2e

PACK = Path(__file__).parent / "packs" / "counting"
SEED = 20261123
KILLS = 12
STEPS = 4
STEP_S = 0.12  # longer than what makes a result worth storing


def prompt_of(job: str) -> dict[str, Any]:
    """A chain of slow steps that ends in a saved file."""
    prompt: dict[str, Any] = {}
    for step in range(STEPS):
        before = [str(step - 1), 0] if step else job
        inputs = {"before": before, "tag": f"{job}-{step}", "seconds": STEP_S}
        prompt[str(step)] = {"class_type": "CountStep", "inputs": inputs}
    save = {"class_type": "CountSave", "inputs": {"text": [str(STEPS - 1), 0]}}
    return {**prompt, "save": save}


class Victim:
    """A server that is killed and started again, and what is known of its jobs."""

    def __init__(self, base: Path, rng: random.Random) -> None:
        self.base = base
        self.rng = rng
        self.counts_file = base / "counts.txt"
        self.counts_file.touch()
        shutil.copytree(PACK, base / "custom_nodes" / "counting")
        environment = {"COUNT_FILE": str(self.counts_file)}
        self.server = ServerProcess(base, "--allow-packs", "all", environment=environment)
        self.accepted: list[str] = []
        self.unsure: list[str] = []  # sent, and the answer was lost
        self.runs_when_committed: dict[str, int] = {}

    @property
    def lines(self) -> list[str]:
        """The runs so far."""
        return self.counts_file.read_text().splitlines()

    def wait(self) -> None:
        """Let it work for a while: some steps, or shorter than a start takes."""
        if self.rng.random() < 0.3:
            time.sleep(self.rng.uniform(0.0, 1.0))
            return
        enough = len(self.lines) + self.rng.randrange(1, 4)
        deadline = time.monotonic() + 60  # a slow machine takes 10 s to start
        while len(self.lines) < enough and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(self.rng.uniform(0.0, STEP_S))

    def submit(self) -> None:
        """Send a new job, and those again whose answer was lost."""
        self.unsure.append(f"job{len(self.accepted) + len(self.unsure)}")
        for job in list(self.unsure):
            try:
                self.server.queue_prompt(prompt_of(job), prompt_id=job)
            except (urllib.error.URLError, HTTPException, ConnectionError):
                return
            self.unsure.remove(job)
            self.accepted.append(job)

    def kill(self) -> str:
        """Kill one or both processes; the server is started again if it was killed."""
        assert self.server.process is not None
        how = self.rng.choice(["server", "worker", "both"])
        parent = psutil.Process(self.server.process.pid)
        if how == "both":
            self.server.kill_everything()
        elif how == "server":
            parent.kill()
            self.server.process.wait()
        else:
            for child in parent.children(recursive=True):
                child.kill()
        self.note_committed()
        if how != "worker":
            self.server.start()
        return how

    def note_committed(self) -> None:
        """Remember how often each step had run whose result is in the store."""
        committed = set(committed_tags(self.base / "user" / "weft" / "store"))
        runs = Counter(self.lines)
        for tag in committed - self.runs_when_committed.keys():
            self.runs_when_committed[tag] = runs[tag]


def committed_tags(store: Path) -> Iterator[str]:
    """The steps whose results are committed in the store, which nobody writes just now."""
    with TemporaryDirectory() as folder:
        for path in store.glob("index.sqlite*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, folder)
        with sqlite3.connect(Path(folder) / "index.sqlite") as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = [name for (name,) in tables if name.startswith("entries")]
            rows = [connection.execute(f"SELECT digest FROM {n}").fetchall() for n in names]
        connection.close()
    files = {path.name.partition(".")[0]: path for path in store.rglob("*") if path.is_file()}
    for (digest,) in chain.from_iterable(rows):
        found = re.search(rb"done:([\w-]+)\.", files[digest].read_bytes())
        if found:
            yield found[1].decode()


def check_file(path: Path) -> None:
    data = path.read_bytes()
    assert hashlib.sha256(data[32:]).digest() == data[:32], f"{path.name} is torn"


def test_random_kills_lose_nothing_tear_nothing_and_repeat_nothing(tmp_path: Path):
    print(f"seed {SEED}")
    victim = Victim(tmp_path, random.Random(SEED))
    server = victim.server
    with server:
        for _ in range(3):
            victim.submit()
        kinds: Counter[str] = Counter()
        while kinds.total() < KILLS:
            victim.wait()
            kinds[victim.kill()] += 1
            victim.submit()
        print(f"{dict(kinds)}, {len(victim.accepted)} jobs, {len(victim.runs_when_committed)} kept")
        assert min(kinds.values()) >= 3
        victim.submit()
        assert not victim.unsure
        for job in victim.accepted:
            entry = server.wait_for(job)
            assert entry["status"]["status_str"] == "success", entry["status"]
            (saved,) = entry["outputs"]["save"]["files"]
            check_file(tmp_path / "output" / saved["filename"])
        history = server.get("/history")
        assert sorted(history) == sorted(victim.accepted)
        names = [e["outputs"]["save"]["files"][0]["filename"] for e in history.values()]
        assert len(set(names)) == len(names)
        for path in (tmp_path / "output").glob("counted*.bin"):
            check_file(path)
        assert server.stop() == 0
    runs = Counter(victim.lines)
    assert len(victim.runs_when_committed) >= STEPS
    for tag, count in victim.runs_when_committed.items():
        assert runs[tag] == count, f"{tag} ran again after its result was stored"
    with sqlite3.connect(tmp_path / "user" / "weft" / "jobs.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
