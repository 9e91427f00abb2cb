"""`python3 main.py`: start the server, make the first picture through its own queue, stay."""

import asyncio
import contextlib
import os
import secrets
import signal
import ssl
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from engine.api.errors import EngineError, LaunchError
from engine.bootstrap import build_services
from engine.cli import say
from engine.commands.first_picture import make_first_picture
from engine.config import Config
from engine.launch_flags import Launch, parse_serve
from engine.server.app import build_app


def main(argv: Sequence[str]) -> int:
    """Serve until interrupted; 0 after a graceful stop."""
    launch = parse_serve(argv)
    for note in launch.notes:
        say(note)
    if launch.config.cuda_device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = launch.config.cuda_device
    return asyncio.run(serve(replace(launch, config=with_token(launch.config))))


async def serve(launch: Launch) -> int:
    """Run the server with its services until SIGINT or SIGTERM.

    Raises: LaunchError when the port is taken or another server has the data folder.
    """
    config = launch.config
    services = build_services(config)
    runner = web.AppRunner(build_app(services), access_log=None)
    try:
        await runner.setup()
        await _listen(runner, config, launch.tls)
        address = address_of(config, is_tls=launch.tls is not None)
        for device in services.devices:
            say(device["weft_precision_reason"])
        say(f"Weft is at {_with_token(address, config)}")
        first = asyncio.create_task(_first_picture(launch, address))
        await _stop_signal()
        first.cancel()
        say("Stopping; a running job goes back into the queue …")
    finally:
        await runner.cleanup()
    return 0


def address_of(config: Config, *, is_tls: bool = False) -> str:
    """The address a browser on this machine uses."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(config.listen, config.listen)
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{'https' if is_tls else 'http'}://{host}:{config.port}"


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


async def _listen(runner: web.AppRunner, config: Config, tls: tuple[Path, Path] | None) -> None:
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(*tls)
        except (OSError, ssl.SSLError) as error:
            raise LaunchError(
                f"The certificate {tls[0]} with the key {tls[1]} cannot be used: {error}."
            ) from error
    site = web.TCPSite(runner, config.listen, config.port, ssl_context=context)
    try:
        await site.start()
    except OSError as error:
        raise LaunchError(
            f"Port {config.port} on {config.listen} cannot be used: {error.strerror}.",
            hint=f"If another server has it: python3 main.py --port {config.port + 1}",
        ) from error


async def _first_picture(launch: Launch, address: str) -> None:
    config = launch.config
    if launch.makes_first_picture:
        try:
            picture = await make_first_picture(config, address)
        except EngineError as error:
            say(str(error))
        else:
            took = f"{picture.seconds:.1f} s" if picture.is_new else "made earlier"
            sys.stdout.write(f"{picture.path}\n")
            sys.stdout.flush()
            say(f"The first picture is there ({took}). Open {_with_token(address, config)}")
    if launch.opens_browser and _has_display():
        webbrowser.open(_with_token(address, config))


def _with_token(address: str, config: Config) -> str:
    return f"{address}/?token={config.token}" if config.token else address


def _has_display() -> bool:
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


async def _stop_signal() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises instead
            loop.add_signal_handler(number, stop.set)
    await stop.wait()
