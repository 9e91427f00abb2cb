"""The one error tree: every failure a user can meet, with a code, a message and what to do."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a graph, found before anything runs.

    `code` is one of the wire format's error types (`missing_node_type`, `value_bigger_than_max` …).
    """

    code: str
    message: str
    severity: Severity = "error"
    node_id: str | None = None
    node_type: str | None = None
    input_name: str | None = None
    got: str | None = None
    expected: str | None = None
    hint: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)


class EngineError(Exception):
    """Base of all expected failures: `code` for programs, `message` and `hint` for people."""

    code = "engine_error"

    def __init__(self, message: str, *, hint: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class GraphInvalid(EngineError):
    """A prompt that was refused; carries all of its problems at once."""

    code = "prompt_outputs_failed_validation"

    def __init__(
        self, message: str, *, problems: Sequence[Problem] = (), code: str | None = None
    ) -> None:
        super().__init__(message, code=code)
        self.problems = tuple(problems)


class NodeError(EngineError):
    """A node says that it cannot do what its inputs ask for (shapes, files, ranges)."""

    code = "node_error"


class ModelError(EngineError):
    """A weight file that is missing, damaged, hostile or of a family that does not fit."""

    code = "model_error"


class MissingModel(ModelError):
    code = "missing_model"


class CorruptFile(ModelError):
    """A file that is truncated, damaged or refused because it could execute code."""

    code = "corrupt_file"


class NotThisFamily(ModelError):
    """Raised by a family's `match`; the message is the reason why it declined."""

    code = "unknown_model_family"


class OutOfMemory(EngineError):
    code = "out_of_memory"


class StorageError(EngineError):
    """Disk full, permission denied, a folder that is gone."""

    code = "storage_error"


class UnsafePath(EngineError):
    """A file name that would leave its folder."""

    code = "unsafe_path"


class Cancelled(EngineError):
    """Raised inside a node when its job was cancelled or interrupted."""

    code = "cancelled"

    def __init__(self, message: str = "The job was interrupted.") -> None:
        super().__init__(message)


class GaveWay(Cancelled):
    """Raised by `ctx.give_way`: the job goes on after those that were put before it."""

    code = "gave_way"

    def __init__(self) -> None:
        super().__init__("The job waits for others that go before it.")


class PluginError(EngineError):
    """A node pack that is not allowed, failed, hangs or breaks a convention."""

    code = "plugin_error"


class LaunchError(EngineError):
    """The server or a command cannot start: port taken, folder in use, wrong flag."""

    code = "launch_error"
