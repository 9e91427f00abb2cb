"""Writing a file so that a reader sees its old form or its new one, never a part."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_whole(
    path: Path, write: Callable[[BinaryIO], object], *, is_durable: bool = True
) -> None:
    """Write a file under a name beside it and give it its own then; folders are made.

    `is_durable` waits until the bytes are on the disk; without it a power cut may lose the file.
    Raises: OSError and what `write` raises; the old file is still there then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    near = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with near.open("wb") as file:
            write(file)
            if is_durable:
                file.flush()
                os.fsync(file.fileno())
        near.replace(path)
    finally:
        near.unlink(missing_ok=True)
