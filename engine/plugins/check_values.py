"""Made-up inputs for trying out nodes, and comparison of what they give."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, cast

from engine.api.context import Saving
from engine.api.errors import GaveWay, MissingModel, NodeError
from engine.api.spec import InputSpec

KNOWN_TYPES = frozenset(
    (
        "*", "INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "IMAGE", "MASK", "LATENT",
        "CONDITIONING", "MODEL", "CLIP", "VAE", "CONTROL_NET", "CLIP_VISION",
        "CLIP_VISION_OUTPUT", "STYLE_MODEL", "GLIGEN", "UPSCALE_MODEL", "SIGMAS", "SAMPLER",
        "NOISE", "GUIDER", "AUDIO", "VIDEO", "HOOKS",
    )
)  # fmt: skip

_PLAIN: Mapping[str, tuple[type, ...]] = {
    "INT": (int,),
    "FLOAT": (float, int),
    "STRING": (str,),
    "BOOLEAN": (bool,),
}


class CheckContext:
    """A run context whose files lie in a folder that is thrown away; it has no models."""

    job_id = "check"
    node_id = "1"
    wants_previews = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.prompt: Mapping[str, Any] = {}
        self.extra_pnginfo: Mapping[str, Any] = {}
        self.saving = Saving()

    @property
    def models(self) -> Any:
        raise NodeError("There are no models while a pack is checked.")

    @property
    def files(self) -> "CheckContext":
        return self

    def resolve(self, folder: str, name: str) -> Path:
        raise MissingModel(f"There is no file {name} while a pack is checked.")

    def below(self, folder: str, name: str) -> Mapping[str, Path]:
        return {}

    def place(self, folder: str, name: str) -> Path:
        return self._folder / folder / name

    def work_folder(self, name: str) -> Path:
        return self._folder / name

    def digest(self, path: Path) -> str:
        return str(path)

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
        self._count += 1
        name = f"{self._count}.{extension}"
        with (self._folder / name).open("wb") as target:
            write(target)
        return {"filename": f"{prefix}_{index}.{extension}", "subfolder": "", "type": folder}

    def progress(self, value: float, maximum: float, preview: Any = None) -> None: ...

    def text(self, message: str) -> None: ...

    def show(self, ui: Mapping[str, Any]) -> None: ...

    @property
    def is_overtaken(self) -> bool:
        return False

    def give_way(self) -> NoReturn:
        raise GaveWay

    def check_cancelled(self) -> None: ...

    def log(self, message: str) -> None: ...


def sample(item: InputSpec) -> Any:
    """A small value that fits an input, the same each time; None where none can be made up."""
    if item.choices is not None:
        first = next(iter(item.choices), None)
        if item.options.get("multiselect"):
            return [] if first is None else [first]
        return item.options.get("default", first)
    for kind in item.type.split(","):
        if kind in _PLAIN or kind == "*":
            return _plain_sample(kind, item.options)
        if kind in ("IMAGE", "MASK", "LATENT", "CONDITIONING", "SIGMAS"):
            return _tensor_sample(kind)
    return None


def _plain_sample(kind: str, options: Mapping[str, Any]) -> Any:
    if kind == "STRING":
        return options.get("default", "") or "a text"
    if kind == "BOOLEAN":
        return bool(options.get("default", False))
    number = options.get("default", options.get("min", 1))
    return float(number) if kind == "FLOAT" else int(number)


def _tensor_sample(kind: str) -> Any:
    torch = importlib.import_module("torch")  # not imported with this package
    generator = torch.Generator().manual_seed(7)
    if kind == "IMAGE":
        return torch.rand(1, 16, 24, 3, generator=generator)
    if kind == "MASK":
        return torch.rand(1, 16, 24, generator=generator)
    if kind == "LATENT":
        return {"samples": torch.randn(1, 4, 2, 3, generator=generator)}
    if kind == "SIGMAS":
        return torch.tensor([14.6, 2.0, 0.5, 0.0])
    return [[torch.randn(1, 77, 32, generator=generator), {}]]


def copy_of(value: Any) -> Any:
    """The value with its own tensors, lists and dicts."""
    if _is_tensor(value):
        return value.clone()
    if isinstance(value, dict):
        return {k: copy_of(v) for k, v in cast(dict[Any, Any], value).items()}
    if isinstance(value, list):
        return [copy_of(v) for v in cast(list[Any], value)]
    if isinstance(value, tuple):
        return tuple(copy_of(v) for v in cast(tuple[Any, ...], value))
    return value


def is_same(a: Any, b: Any) -> bool:
    """Whether two values are equal down to the last bit; NaN equals NaN."""
    if _is_tensor(a) or _is_tensor(b):
        return _is_tensor(a) and _is_tensor(b) and _is_same_tensor(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(
            is_same(v, b[k]) for k, v in cast(dict[Any, Any], a).items()
        )
    if isinstance(a, list | tuple):
        return len(cast(list[Any], a)) == len(b) and all(map(is_same, cast(list[Any], a), b))
    return a is b or bool(a == b) or (a != a and b != b)


def _is_same_tensor(a: Any, b: Any) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return bool(((a == b) | ((a != a) & (b != b))).all())


def differs_from_type(value: Any, kind: str) -> str | None:
    """What a value is, in words, when it is not of the declared type; None when it fits."""
    if kind in _PLAIN:
        fits = isinstance(value, _PLAIN[kind]) and (kind == "BOOLEAN" or type(value) is not bool)
        return None if fits else f"a {type(value).__name__}"
    if kind == "LATENT":
        if isinstance(value, dict) and _is_tensor(cast(dict[str, Any], value).get("samples")):
            return None
        return "no dict with a tensor as samples"
    dims = {"IMAGE": 4, "MASK": 3, "SIGMAS": 1}.get(kind)
    if dims is None:
        return None
    if not _is_tensor(value):
        return f"a {type(value).__name__}"
    if value.dim() != dims:
        return f"a tensor of {value.dim()} dimensions, not {dims}"
    return None if value.is_floating_point() else f"a tensor of {value.dtype}"


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "untyped_storage")
