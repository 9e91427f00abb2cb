"""One file over HTTP: goes on where it stopped, checked by hash before it takes its name.

What is loaded grows in a file of its own beside a note of the address and of the server's mark for
the version (ETag), so that a later call goes on with the same version only.
"""

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import aiohttp

from engine.api.errors import EngineError, StorageError
from engine.run.assets import storage_error

Progress = Callable[[int, int | None], None]  # bytes done, bytes in all

_BLOCK = 1 << 20
_MOST_REDIRECTS = 10
_MARGIN_BYTES = 64 << 20  # of free disk that stays free
_SHA256 = re.compile(r'"?([0-9a-fA-F]{64})"?')
_OFFLINE_HINT = "Check the network, or load the file in a browser and put it into the folder."


class DownloadError(EngineError):
    """A file that cannot be loaded: no network, no such file, another hash."""

    code = "download_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait for a server, and how often to go on after a cut."""

    connect_s: float = 6.0
    read_s: float = 30.0
    attempts: int = 5
    pause_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What is to be loaded. `part` is where it grows; `sha256` is what it has to be, if known."""

    url: str
    part: Path
    sha256: str | None = None
    patience: Patience = Patience()
    free_bytes: Callable[[Path], int] = lambda folder: shutil.disk_usage(folder).free


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """A whole file under its temporary name, and who vouches for its hash."""

    path: Path
    sha256: str
    vouched_by: str  # "given", "server", or "" when nobody did


def check_url(url: str) -> str:
    """An address of http or https with a host. Raises: DownloadError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DownloadError(
            f"'{url[:200]}' is no address of http or https.",
            hint="Nothing else is loaded; a file on this machine can simply be copied.",
        )
    return url


def name_in_url(url: str) -> str:
    """The file name at the end of an address."""
    return unquote(urlsplit(url).path).rpartition("/")[2]


def fetch(download: Download, progress: Progress) -> Loaded:
    """Load it, or what is left of it. Raises: DownloadError, StorageError."""
    check_url(download.url)
    return asyncio.run(_fetch(download, progress))


async def _fetch(download: Download, progress: Progress) -> Loaded:
    patience = download.patience
    timeout = aiohttp.ClientTimeout(
        total=None, connect=patience.connect_s, sock_read=patience.read_s
    )
    transfer = _Transfer(download, progress)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=True, auto_decompress=False) as web:
        for attempt in range(patience.attempts):
            try:
                await transfer.attempt(web)
                return transfer.finish()
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as e:
                is_last = attempt + 1 == patience.attempts
                if is_last or not transfer.has_answered:
                    raise _cut(download, transfer.size_bytes, e) from e
            except aiohttp.ClientError as error:  # an answer that is no HTTP
                raise DownloadError(
                    f"{_host(download.url)} answered something that cannot be read: {error}."
                ) from error
            await asyncio.sleep(patience.pause_s * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


class _Transfer:
    """The part file of one download, and what the server said about the whole."""

    def __init__(self, download: Download, progress: Progress) -> None:
        self._download = download
        self._progress = progress
        self._note = download.part.with_name(download.part.name + ".json")
        self._etag = ""
        self._total: int | None = None
        self._told_sha256: str | None = None
        self.has_answered = False
        self._forget_another_file()

    @property
    def size_bytes(self) -> int:
        try:
            return self._download.part.stat().st_size
        except OSError:
            return 0

    async def attempt(self, web: aiohttp.ClientSession) -> None:
        """Ask for what is missing and write it."""
        have = self.size_bytes
        headers = {"Accept-Encoding": "identity", "User-Agent": "weft"}
        if have:
            headers["Range"] = f"bytes={have}-"
            if self._etag:
                headers["If-Range"] = self._etag
        response = await self._open(web, headers)
        try:
            self.has_answered = True
            if response.status == 416 and have and self._is_whole(response, have):
                return
            if response.status == 416:
                self._drop()
                raise aiohttp.ClientPayloadError("the server has another file now")
            _check_status(response, self._download.url)
            is_rest = response.status == 206
            self._read_head(response, have if is_rest else 0)
            self._check_space(have if is_rest else 0)
            await self._write(response, "ab" if is_rest else "wb", have if is_rest else 0)
        finally:
            response.release()
        if self._total is not None and self.size_bytes < self._total:
            raise aiohttp.ClientPayloadError("the connection was cut")

    def finish(self) -> Loaded:
        """The whole file, if its hash is the right one. Raises: DownloadError."""
        part = self._download.part
        found = _sha256_of(part)
        wanted = self._download.sha256 or self._told_sha256
        if wanted is not None and found != wanted.lower():
            self._drop()
            who = "it should be" if self._download.sha256 else "the server said"
            raise DownloadError(
                f"The file from {_host(self._download.url)} is not the right one: its SHA-256 is "
                f"{found}, {who} {wanted.lower()}.",
                hint="It was deleted. Try again; if it stays so, the file at that address changed.",
            )
        self._note.unlink(missing_ok=True)
        vouched = "given" if self._download.sha256 else "server" if self._told_sha256 else ""
        return Loaded(path=part, sha256=found, vouched_by=vouched)

    async def _open(
        self, web: aiohttp.ClientSession, headers: dict[str, str]
    ) -> aiohttp.ClientResponse:
        """The answer at the end of all redirects, which stay on http and never leave https."""
        url = self._download.url
        for _ in range(_MOST_REDIRECTS):
            response = await web.get(url, headers=headers, allow_redirects=False)
            self._note_hash(response)
            if response.status not in (301, 302, 303, 307, 308):
                return response
            target = urljoin(url, response.headers.get("Location", ""))
            response.release()
            check_url(target)
            if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
                raise DownloadError(
                    f"{_host(url)} sends on to {_host(target)} without encryption; that is refused."
                )
            url = target
        raise DownloadError(f"{_host(url)} sends on in a circle.")

    def _note_hash(self, response: aiohttp.ClientResponse) -> None:
        """The Hugging Face hub tells the SHA-256 of a large file in a header of its own."""
        match = _SHA256.fullmatch(response.headers.get("X-Linked-ETag", ""))
        if match:
            self._told_sha256 = match[1]

    def _read_head(self, response: aiohttp.ClientResponse, have: int) -> None:
        length = response.headers.get("Content-Length", "")
        self._total = have + int(length) if length.isdecimal() else None
        etag = response.headers.get("ETag", "")
        self._etag = etag if not etag.startswith("W/") else ""
        note = {"url": self._download.url, "etag": self._etag}
        try:
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(json.dumps(note), encoding="utf-8")
        except OSError as error:
            raise storage_error(self._note, error) from error

    def _check_space(self, have: int) -> None:
        if self._total is None:
            return
        needed = self._total - have
        free = self._download.free_bytes(self._download.part.parent) - _MARGIN_BYTES
        if needed > free:
            raise StorageError(
                f"There is not enough room in {self._download.part.parent}: {needed / 1e9:.2f} GB "
                f"are needed and {max(0, free) / 1e9:.2f} GB are free.",
                hint="Free some space, or name another folder with --base-directory.",
            )

    async def _write(self, response: aiohttp.ClientResponse, mode: str, done: int) -> None:
        part = self._download.part
        try:
            with part.open(mode) as file:
                await self._pump(response, file, done)
        except aiohttp.ClientError:
            raise
        except TimeoutError:
            raise
        except OSError as error:
            raise storage_error(part, error) from error

    async def _pump(self, response: aiohttp.ClientResponse, file: Any, done: int) -> None:
        self._progress(done, self._total)
        async for block in response.content.iter_chunked(_BLOCK):
            file.write(block)
            done += len(block)
            self._progress(done, self._total)

    def _is_whole(self, response: aiohttp.ClientResponse, have: int) -> bool:
        return response.headers.get("Content-Range", "") == f"bytes */{have}"

    def _forget_another_file(self) -> None:
        """Drop what was begun from another address; without a mark nothing can be gone on with."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            is_same = note["url"] == self._download.url
            self._etag = str(note["etag"]) if is_same else ""
        except (OSError, ValueError, KeyError, TypeError):
            is_same = False
        if not is_same or not (self._etag or self._download.sha256):
            self._drop()

    def _drop(self) -> None:
        with suppress(OSError):
            self._download.part.unlink(missing_ok=True)
            self._note.unlink(missing_ok=True)


def _sha256_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise storage_error(path, error) from error


def _check_status(response: aiohttp.ClientResponse, url: str) -> None:
    if response.status in (200, 206):
        return
    where = _host(url)
    if response.status in (401, 403):
        raise DownloadError(
            f"{where} wants you to sign in, or to agree to its terms, for this file "
            f"({response.status}).",
            hint="Load it in a browser and put it into the folder.",
        )
    if response.status in (404, 410):
        raise DownloadError(
            f"{where} has no such file ({response.status}): {url}",
            hint="It may have moved; look at the model's page.",
        )
    raise DownloadError(f"{where} answered {response.status} {response.reason or ''}.".strip())


def _cut(download: Download, have: int, error: Exception) -> DownloadError:
    where = _host(download.url)
    if have:
        return DownloadError(
            f"The connection to {where} was cut; {have / 1e6:,.1f} MB are here.",
            hint="Give the same command again, and it goes on from there.",
        )
    reason = str(error)
    if isinstance(error, TimeoutError):
        reason = "it does not answer"
    elif isinstance(error, aiohttp.ClientConnectorError):
        reason = error.os_error.strerror or str(error.os_error)
    return DownloadError(f"{where} cannot be reached: {reason}.", hint=_OFFLINE_HINT)


def _host(url: str) -> str:
    return urlsplit(url).hostname or url
