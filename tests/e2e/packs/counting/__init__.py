"""Nodes that count their runs in a file and save files whose wholeness can be checked."""

import hashlib
import os
import time
from typing import Annotated, BinaryIO

import torch

from engine.api import Float, Image, NodeOutput, RunContext, Text, node


@node("CountStep", category="test")
def count_step(
    before: Annotated[str, Text("")],
    tag: Annotated[str, Text("")],
    seconds: Annotated[float, Float(0.0, min=0.0, max=10.0)],
) -> str:
    """Takes some time and gives `done:TAG`; each run adds a line to the count file."""
    note(tag)
    time.sleep(seconds)
    return f"done:{tag}."


@node("CountSave", category="test", is_output=True)
def count_save(text: Annotated[str, Text("")], ctx: RunContext) -> NodeOutput:
    """Saves a large file that begins with the SHA-256 of the rest."""
    note(f"save {text}")
    body = text.encode() * 20_000

    def write(file: BinaryIO) -> None:
        file.write(hashlib.sha256(body).digest())
        for start in range(0, len(body), 10_000):
            file.write(body[start : start + 10_000])

    saved = ctx.files.save(write, prefix="counted", extension="bin")
    return NodeOutput(ui={"files": [saved]})


@node("CountPicture", category="test")
def count_picture(text: Annotated[str, Text("")]) -> Image:
    """A small grey picture."""
    return torch.full((1, 32, 32, 3), len(text) % 10 / 10)


def note(line: str) -> None:
    """Add a line to the count file in one write."""
    file = os.open(os.environ["COUNT_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{line}\n".encode())
    os.close(file)


NODES = [count_step, count_save, count_picture]
