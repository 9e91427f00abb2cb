"""What a node call may ask of the engine: implements `engine.api.context.RunContext`."""

import io
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any, NoReturn

from engine.api.context import Files, Saving
from engine.api.errors import Cancelled, GaveWay
from engine.api.events import (
    LogLine,
    NodePreview,
    NodeProgress,
    NodeShown,
    NodeText,
    RunEvent,
)

if TYPE_CHECKING:
    from engine.api.types import Image
    from engine.diffusion.residency import ModelPool

_PROGRESS_GAP_S = 0.02
_PREVIEWS_WAITING = 16
_PREVIEW_QUALITY = 85


class Previews:
    """Encodes the preview of each step as JPEG, in one thread beside the run."""

    def __init__(self, emit: Callable[[RunEvent], None]) -> None:
        self._emit = emit
        self._pool: ThreadPoolExecutor | None = None
        self._lock = Lock()
        self._waiting = 0

    def show(self, image: "Image", step: int, job_id: str, node_id: str, display_id: str) -> None:
        """Send a picture (1, H, W, 3) 0..1, unless too many wait to be encoded."""
        with self._lock:
            if self._waiting >= _PREVIEWS_WAITING:
                return
            self._waiting += 1
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, thread_name_prefix="weft-previews")
        pixels = image[0].detach().float().clamp(0, 1).mul(255).byte().cpu().numpy()
        self._pool.submit(self._encode, pixels, step, job_id, node_id, display_id)

    def finish(self) -> None:
        """Wait until what was shown so far is sent, so that it comes before the job's end."""
        if self._pool is not None:
            self._pool.submit(lambda: None).result()

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True)

    def _encode(self, pixels: Any, step: int, job_id: str, node_id: str, display_id: str) -> None:
        from PIL import Image as Pictures

        try:
            buffer = io.BytesIO()
            Pictures.fromarray(pixels).save(buffer, "JPEG", quality=_PREVIEW_QUALITY)
            self._emit(
                NodePreview(
                    job_id=job_id,
                    node_id=node_id,
                    display_id=display_id,
                    mime="image/jpeg",
                    data=buffer.getvalue(),
                    step=step,
                )
            )
        finally:
            with self._lock:
                self._waiting -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class JobScope:
    """What all node calls of one job share."""

    job_id: str
    prompt: Callable[[str], Mapping[str, Any]]  # as the node of that id sees it
    extra_pnginfo: Mapping[str, Any]
    saving: Saving
    texts: Callable[[str], Mapping[str, Any]]  # see engine.run.texts
    models: "ModelPool"
    wants_previews: bool
    previews: Previews
    emit: Callable[[RunEvent], None]
    is_cancelled: Callable[[], bool]
    is_overtaken: Callable[[], bool]


@dataclass(slots=True, kw_only=True)
class NodeContext:
    """The engine as one node call sees it."""

    scope: JobScope
    node_id: str
    display_id: str
    files: Files
    last_progress_s: float = field(default=float("-inf"))

    @property
    def job_id(self) -> str:
        return self.scope.job_id

    @property
    def prompt(self) -> Mapping[str, Any]:
        """The prompt as it came; for a node of an expansion with all expanded nodes."""
        return self.scope.prompt(self.node_id)

    @property
    def extra_pnginfo(self) -> Mapping[str, Any]:
        """What the client sent, and the texts that nodes before made of dynamic prompts."""
        texts = self.scope.texts(self.node_id)
        return {**self.scope.extra_pnginfo, "texts": texts} if texts else self.scope.extra_pnginfo

    @property
    def saving(self) -> Saving:
        return self.scope.saving

    @property
    def models(self) -> "ModelPool":
        return self.scope.models

    @property
    def wants_previews(self) -> bool:
        return self.scope.wants_previews

    def progress(self, value: float, maximum: float, preview: "Image | None" = None) -> None:
        """Report progress (at most 50 times a second) and stop if cancelled. Raises: Cancelled."""
        self.check_cancelled()
        now = time.monotonic()
        if now - self.last_progress_s >= _PROGRESS_GAP_S or value >= maximum:
            self.last_progress_s = now
            self.scope.emit(
                NodeProgress(
                    job_id=self.job_id,
                    node_id=self.node_id,
                    display_id=self.display_id,
                    value=value,
                    maximum=maximum,
                )
            )
        if preview is not None and self.wants_previews:
            self.scope.previews.show(
                preview, int(value), self.job_id, self.node_id, self.display_id
            )

    def text(self, message: str) -> None:
        """Show a line of text on the node while it runs."""
        self.scope.emit(
            NodeText(
                job_id=self.job_id, node_id=self.node_id, display_id=self.display_id, text=message
            )
        )

    def show(self, ui: Mapping[str, Any]) -> None:
        """Show on the node what there is so far; the newest wins."""
        self.scope.emit(
            NodeShown(job_id=self.job_id, node_id=self.node_id, display_id=self.display_id, ui=ui)
        )

    @property
    def is_overtaken(self) -> bool:
        """Whether a job waits that goes before this one."""
        return self.scope.is_overtaken()

    def give_way(self) -> NoReturn:
        """Let those jobs run first. Raises: GaveWay."""
        raise GaveWay

    def check_cancelled(self) -> None:
        """Raises: Cancelled, if the job was cancelled or interrupted."""
        if self.scope.is_cancelled():
            raise Cancelled

    def log(self, message: str) -> None:
        """Write a line to the log, with the node's id."""
        self.scope.emit(LogLine(text=f"[{self.node_id}] {message}"))
