"""Several processes that train one net, one for each GPU: each sees batches of its own, and all
take the same step with the mean of their gradients.

Source: Goyal et al. 2017 (arXiv:1706.02677) section 2.3 and 4, synchronous SGD with an allreduce.

The leader is the process that a training runs in: it alone measures, shows, saves and stops. It
starts the others when its state is on the disk, so that they begin with the same weights, and tells
them of each step through a pipe; when that ends, so do they.
"""

import os
import pickle
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import IO, Any

import torch
import torch.distributed as dist
from torch import nn

from engine.api.errors import EngineError, NodeError

_PATIENCE = timedelta(minutes=10)  # of one exchange of gradients
_GO = b"."
_TOLD_BYTES = 3000


class Team:
    """A training in one process: there is nobody to share with."""

    rank = 0

    def begin(self) -> None:
        """The state of the run is on the disk."""

    def goes_on(self) -> bool:
        """Called before each step; False where the run is over."""
        return True

    def shared(self, parameters: Sequence[nn.Parameter], loss: float) -> float:
        """Puts the mean gradient of all processes into each parameter; gives their mean loss."""
        return loss

    def end(self) -> None:
        """Nobody waits any longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What another process must know to help: `job` and `places` as the leader has them.

    Units: `port` is the leader's, on this machine.
    """

    job: Any
    places: Any
    precision: Any
    device: str
    rank: int
    size: int
    port: int


@dataclass(kw_only=True)
class Leader(Team):
    """The process that starts the others; `size` counts it too."""

    job: Any
    places: Any
    precision: Any
    device: torch.device
    size: int
    _others: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _said: list[IO[bytes]] = field(default_factory=list)

    def begin(self) -> None:
        port = _free_port()
        try:
            for rank in range(1, self.size):
                self._start(rank, port)
            for other in self._others:
                assert other.stdout is not None
                if other.stdout.readline().strip() != b"ready":
                    raise self._lost(other)
            _meet(self.device, 0, self.size, port)
        except BaseException:
            self.end()
            raise

    def _start(self, rank: int, port: int) -> None:
        said = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the process
        cores = os.cpu_count() or 1
        other = subprocess.Popen(
            [sys.executable, "-m", "engine.diffusion.training.follower"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env={
                "OMP_NUM_THREADS": str(max(1, cores // self.size)),
                **os.environ,
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
        )
        self._others.append(other)
        self._said.append(said)
        on_cuda = self.device.type == "cuda"
        order = Order(
            job=self.job,
            places=self.places,
            precision=self.precision,
            device=f"cuda:{rank}" if on_cuda else str(self.device),
            rank=rank,
            size=self.size,
            port=port,
        )
        self._tell(other, pickle.dumps(order))

    def goes_on(self) -> bool:
        for other in self._others:
            self._tell(other, _GO)
        return True

    def _tell(self, other: subprocess.Popen[bytes], what: bytes) -> None:
        assert other.stdin is not None
        try:
            other.stdin.write(what)
            other.stdin.flush()
        except OSError:
            raise self._lost(other) from None

    def shared(self, parameters: Sequence[nn.Parameter], loss: float) -> float:
        try:
            return _mean(parameters, loss, self.size)
        except RuntimeError as error:
            for other in self._others:
                if other.poll() is not None:
                    raise self._lost(other) from error
            raise

    def _lost(self, other: subprocess.Popen[bytes]) -> EngineError:
        number = self._others.index(other)
        said = self._said[number]
        said.seek(0)
        lines = said.read().decode(errors="replace")[-_TOLD_BYTES:].strip().splitlines()
        return EngineError(
            f"Process {number + 2} of {self.size} of this training ended: "
            f"{lines[-1] if lines else 'it said nothing'}.",
            hint="The state that was saved last is kept: run it again to go on, with fewer "
            "processes if a GPU has too little memory.",
        )

    def end(self) -> None:
        for other in self._others:
            assert other.stdin is not None
            with suppress(OSError):  # it may have ended before
                other.stdin.close()  # they end at this
        if dist.is_initialized():
            dist.destroy_process_group()
        for other, said in zip(self._others, self._said, strict=True):
            try:
                other.wait(10)
            except subprocess.TimeoutExpired:
                other.kill()
                other.wait()
            said.close()
            assert other.stdout is not None
            other.stdout.close()
        self._others.clear()
        self._said.clear()


@dataclass(kw_only=True)
class Follower(Team):
    """A process that helps: it waits for the leader before each step."""

    order: Order
    pipe: IO[bytes]

    @property
    def rank(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] - read only
        return self.order.rank

    def begin(self) -> None:
        order = self.order
        _meet(torch.device(order.device), order.rank, order.size, order.port)

    def goes_on(self) -> bool:
        return self.pipe.read(len(_GO)) == _GO

    def shared(self, parameters: Sequence[nn.Parameter], loss: float) -> float:
        return _mean(parameters, loss, self.order.size)


def team_of(job: Any, places: Any, precision: Any, device: torch.device) -> Team:
    """As many processes as the job's settings ask for. Raises: NodeError for more than GPUs."""
    size = job.settings.num_processes
    if size == 1:
        return Team()
    there = torch.cuda.device_count() if device.type == "cuda" else os.cpu_count() or 1
    if size > there:
        kind = "GPUs" if device.type == "cuda" else "CPU cores"
        raise NodeError(
            f"A training of {size} processes was asked for, but this machine has {there} {kind}.",
            hint=f"Set num_processes to {there} or less.",
        )
    return Leader(job=job, places=places, precision=precision, device=device, size=size)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _meet(device: torch.device, rank: int, size: int, port: int) -> None:
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=size,
        timeout=_PATIENCE,
    )


def _mean(parameters: Sequence[nn.Parameter], loss: float, size: int) -> float:
    for parameter in parameters:
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= size
    total = torch.tensor(loss, device=parameters[0].device)
    dist.all_reduce(total)
    return float(total) / size
