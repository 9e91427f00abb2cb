"""What a node may ask of the engine while it runs: progress, cancel, models, files, log."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, Protocol

if TYPE_CHECKING:
    from engine.api.types import Image
    from engine.diffusion.residency import ModelPool


class Files(Protocol):
    """Input files, model files and output files, by names that can never leave their folders."""

    def resolve(self, folder: str, name: str) -> Path:
        """The file `name` of a model folder (`checkpoints` …), `input`, `output` or `temp`.

        Those of `datasets` are folders. `name` may end in an annotation ` [input]`, ` [output]`
        or ` [temp]`.
        Raises: MissingModel with the closest names; UnsafePath.
        """
        ...

    def below(self, folder: str, name: str) -> Mapping[str, Path]:
        """All files in the sub-folder `name` of a folder, by their names below it; {} if none.

        Raises: UnsafePath.
        """
        ...

    def place(self, folder: str, name: str) -> Path:
        """Where a new file of that name belongs in a model folder (`loras` …).

        Raises: UnsafePath.
        """
        ...

    def digest(self, path: Path) -> str:
        """SHA-256 of a file (hex), remembered by path, size and times."""
        ...

    def work_folder(self, name: str) -> Path:
        """A folder of that name for caches and unfinished work, under the user's folder.

        It may not exist yet, and may be deleted at any time between runs. Raises: UnsafePath.
        """
        ...

    def save(
        self,
        write: Callable[[BinaryIO], None],
        *,
        prefix: str,
        extension: str,
        folder: str = "output",
        index: int = 0,
        size_px: tuple[int, int] | None = None,
    ) -> dict[str, str]:
        """Save one file under the next customary name (`prefix_00001_.ext`), atomically.

        `prefix` may hold sub-folders and the customary %date%, %width%, %height% marks
        (`size_px` is (width, height)). `index` tells several files of one node apart. A retry of
        the same job gets the same name.
        Returns {"filename", "subfolder", "type"} as it goes into the node's `ui`.
        Raises: StorageError (disk full …), UnsafePath.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Saving:
    """What saved files may tell about themselves.

    `writes_metadata`: the prompt and workflow go into them. `marks_origin`: pictures say that a
    model made them (IPTC digital source type).
    """

    writes_metadata: bool = True
    marks_origin: bool = True


class RunContext(Protocol):
    """The engine as one node call sees it. A parameter of this type is no socket."""

    @property
    def job_id(self) -> str: ...

    @property
    def node_id(self) -> str: ...

    @property
    def prompt(self) -> Mapping[str, Any]:
        """The whole prompt in API form, expanded nodes included."""
        ...

    @property
    def extra_pnginfo(self) -> Mapping[str, Any]:
        """What is to be kept in pictures: {"workflow": …} and whatever else the client sent.

        `texts` holds what prompts were made of that a node before made: {node: {input: text}}.
        """
        ...

    @property
    def saving(self) -> Saving: ...

    @property
    def models(self) -> "ModelPool": ...

    @property
    def files(self) -> Files: ...

    @property
    def wants_previews(self) -> bool: ...

    def progress(self, value: float, maximum: float, preview: "Image | None" = None) -> None:
        """Report progress; also the place where a cancelled job stops.

        `preview` is a picture (1, H, W, 3) 0..1. Raises: Cancelled.
        """
        ...

    def text(self, message: str) -> None:
        """Show a line of text on the node while it runs."""
        ...

    def show(self, ui: Mapping[str, Any]) -> None:
        """Show on the node what there is so far, as `NodeOutput.ui` does at the end.

        The newest wins; send what a page needs that is opened only now, not a difference.
        """
        ...

    @property
    def is_overtaken(self) -> bool:
        """Whether a job waits that goes before this one: queued in front, or moved there."""
        ...

    def give_way(self) -> NoReturn:
        """Let those jobs run first; this node is called again after them, with the same inputs.

        For nodes that run for long: store where you are, so that the next call goes on from there.
        Raises: GaveWay.
        """
        ...

    def check_cancelled(self) -> None:
        """Raises: Cancelled, if the job was cancelled or interrupted."""
        ...

    def log(self, message: str) -> None:
        """Write a line to the log, with the node's id."""
        ...
