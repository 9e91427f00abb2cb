"""`python3 main.py`: start the server, make the first picture through its own queue, stay."""

import asyncio
import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import time
import uuid
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from engine.api.errors import LaunchError
from engine.cli import say
from engine.config import ROOT, Config
from engine.launch_flags import Launch, parse_serve

if TYPE_CHECKING:
    from engine.bootstrap import Services

DEFAULT_WORKFLOW = ROOT / "engine" / "default_workflow.json"


def main(argv: Sequence[str]) -> int:
    """Serve until interrupted; 0 after a graceful stop."""
    launch = parse_serve(argv)
    for note in launch.notes:
        say(note)
    launch = replace(launch, config=with_token(launch.config))
    return asyncio.run(serve(launch))


def with_token(config: Config) -> Config:
    """The configuration with a token where one is required: given, stored, or made and stored."""
    if config.is_loopback and not config.require_token:
        return config
    path = config.state_dir / "token"
    token = config.token
    if token is None and path.exists():
        token = path.read_text(encoding="utf-8").strip()
    if not token:
        token = secrets.token_urlsafe(24)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(token + "\n", encoding="utf-8")
    return replace(config, token=token, require_token=True)
