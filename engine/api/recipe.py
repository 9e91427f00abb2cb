"""Model recipes: what MODEL, CLIP, VAE and CONTROL_NET sockets carry instead of live networks."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

Option = str | int | float | bool | None | tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """A weight file: where it lies and what it holds. Only the digest is part of its identity."""

    path: str
    digest: str
    name: str = ""

    @property
    def identity(self) -> tuple[object, ...]:
        return ("file", self.digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightPatch:
    """A change of weights: a LoRA file at a strength, a merge with another recipe …

    `kind` names the entry of the table in `engine.diffusion.patches` that applies it.
    """

    kind: str
    strength: float = 1.0
    file: FileRef | None = None
    other: "Recipe | None" = None
    options: tuple[tuple[str, Option], ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        file = self.file.identity if self.file else None
        other = self.other.identity if self.other else None
        return ("patch", self.kind, self.strength, file, other, self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A Python callable in a named slot of the denoiser; known only within the process."""

    slot: str
    function: Callable[..., Any]
    key: str = ""

    @property
    def identity(self) -> tuple[object, ...]:
        return ("hook", self.slot, self.key or f"process:{id(self.function)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to get a network part: weight files, ordered patches, options, hooks.

    Frozen and cheap to send; `ctx.models.use(recipe)` finds or loads the live part.
    `part` is one of denoiser, text, vae, control, clip_vision, upscaler.
    """

    part: str
    family: str
    files: tuple[FileRef, ...]
    patches: tuple[WeightPatch, ...] = ()
    options: tuple[tuple[str, Option], ...] = ()
    hooks: tuple[Hook, ...] = ()

    def with_patch(self, patch: WeightPatch) -> "Recipe":
        """The same recipe with one patch more, applied last."""
        return replace(self, patches=(*self.patches, patch))

    def with_option(self, name: str, value: Option) -> "Recipe":
        """The same recipe with an option set (clip_skip, prediction, sampling shift …)."""
        kept = tuple((k, v) for k, v in self.options if k != name)
        return replace(self, options=(*kept, (name, value)))

    def with_hook(self, hook: Hook, *, append: bool = False) -> "Recipe":
        """The same recipe with a hook; replaces the hooks of that slot unless `append`."""
        kept = tuple(h for h in self.hooks if append or h.slot != hook.slot)
        return replace(self, hooks=(*kept, hook))

    def option(self, name: str, default: Option = None) -> Any:
        """The value of an option, or `default`."""
        return next((v for k, v in self.options if k == name), default)

    def hooks_of(self, slot: str) -> tuple[Callable[..., Any], ...]:
        """The callables in a slot, in the order in which they were added."""
        return tuple(h.function for h in self.hooks if h.slot == slot)

    @property
    def weights_identity(self) -> tuple[object, ...]:
        """What decides the weights: files and patches, but no options and hooks."""
        files = tuple(f.identity for f in self.files)
        return (self.part, self.family, files, tuple(p.identity for p in self.patches))

    @property
    def identity(self) -> tuple[object, ...]:
        return (*self.weights_identity, self.options, tuple(h.identity for h in self.hooks))

    @property
    def key(self) -> str:
        """A short digest of the identity, for logs and look-ups."""
        return hashlib.sha256(repr(self.identity).encode()).hexdigest()[:16]
