"""The previews of the newest runs' samplers, step by step, for looking at them after the run."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.api.events import NodePreview

MAX_BYTES = 64 << 20  # of all films; the oldest job's go first
MAX_FRAMES = 100  # of one film; then every second one is left out
MAX_FRAME_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FilmFrame:
    """The picture after one step."""

    step: int
    mime: str
    data: bytes


@dataclass(slots=True)
class Film:
    """The frames of one node. Of very long runs every `stride`-th step is kept."""

    frames: list[FilmFrame] = field(default_factory=list[FilmFrame])
    stride: int = 1
    seen: int = 0


class Films:
    """Films by job and by the user's node, in memory; gone when the server ends."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._jobs: OrderedDict[str, dict[str, Film]] = OrderedDict()
        self.size_bytes = 0

    def add(self, event: NodePreview) -> None:
        """Keep a preview as the next frame of its node."""
        if len(event.data) > MAX_FRAME_BYTES:
            return
        film = self._jobs.setdefault(event.job_id, {}).setdefault(event.display_id, Film())
        film.seen += 1
        if (film.seen - 1) % film.stride:
            return
        film.frames.append(FilmFrame(event.step, event.mime, event.data))
        self.size_bytes += len(event.data)
        if len(film.frames) > MAX_FRAMES:
            self.size_bytes -= sum(len(frame.data) for frame in film.frames[1::2])
            del film.frames[1::2]
            film.stride *= 2
        while self.size_bytes > self._max_bytes:
            self.drop(next(iter(self._jobs)))

    def drop(self, job_id: str) -> None:
        """Forget the films of a job, which starts again or is gone."""
        films = self._jobs.pop(job_id, {})
        frames = (frame for film in films.values() for frame in film.frames)
        self.size_bytes -= sum(len(frame.data) for frame in frames)

    def steps(self, job_id: str) -> Mapping[str, Sequence[int]]:
        """The step of each frame, by node."""
        films = self._jobs.get(job_id, {})
        return {node: [frame.step for frame in film.frames] for node, film in films.items()}

    def frame(self, job_id: str, node_id: str, index: int) -> FilmFrame | None:
        """One frame of a film, if it is kept."""
        film = self._jobs.get(job_id, {}).get(node_id)
        return film.frames[index] if film and 0 <= index < len(film.frames) else None
