"""A process that helps to train: `python -m engine.diffusion.training.follower` of a leader."""

import pickle
import sys
from dataclasses import replace
from typing import Any

import torch

from engine.diffusion.residency import ModelPool
from engine.diffusion.training.loop import follow
from engine.diffusion.training.run import loop_config, state_path
from engine.diffusion.training.team import Follower, Order


def main() -> None:
    """Read the order, prepare the same job with noise and pictures of its own, and follow."""
    torch.set_grad_enabled(False)  # as nodes are called
    order: Order = pickle.load(sys.stdin.buffer)
    device = torch.device(order.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    job = replace(order.job, seed=order.job.seed + order.rank)
    prepared = job.prepare(ModelPool(device=device, precision=order.precision), order.places)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    follow(
        prepared.net,
        prepared.loss,
        loop_config(job, prepared),
        seed=job.seed,
        path=state_path(order.job, order.places),
        data=_Data(prepared.data),
        team=Follower(order=order, pipe=sys.stdin.buffer),
    )


class _Data:
    """The position in the leader's data as one in our own, whose order is another."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def state(self) -> Any:
        return self._own.state() if self._own is not None else None

    def load_state(self, state: Any) -> None:
        if self._own is not None:
            self._own.load_state({**state["data"], "options": self._own.state()["options"]})


if __name__ == "__main__":
    main()
