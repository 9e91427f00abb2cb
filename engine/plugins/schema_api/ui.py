"""`ui`: what a declarative node shows; pictures are stored when the node's output is taken in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engine.api.context import Files
from engine.plugins.model_facade import MissingHostSymbol
from engine.plugins.schema_api.io import FolderType


class Shown(Protocol):
    """Something that a node can give as `ui`."""

    def shown(self, files: Files) -> Mapping[str, Any]:
        """Its JSON form, after storing what has to be a file."""
        ...


@dataclass(frozen=True, slots=True)
class SavedResult:
    """A file that the node has written itself."""

    filename: str
    subfolder: str
    type: FolderType | str

    def as_dict(self) -> dict[str, str]:
        """Its JSON form."""
        return {
            "filename": self.filename,
            "subfolder": self.subfolder,
            "type": FolderType(self.type).value,
        }


@dataclass(frozen=True, slots=True)
class SavedImages:
    """Pictures that the node has written itself."""

    results: Sequence[SavedResult]
    is_animated: bool = False

    def shown(self, files: Files) -> Mapping[str, Any]:
        shown: dict[str, Any] = {"images": [r.as_dict() for r in self.results]}
        return shown | ({"animated": (True,)} if self.is_animated else {})


class PreviewImage:
    """Pictures (B, H, W, C) 0..1 to show; they are stored in the folder for temporary files."""

    def __init__(self, image: Any, cls: Any = None, animated: bool = False, **_more: Any) -> None:
        self._image = image
        self._is_animated = animated

    def shown(self, files: Files) -> Mapping[str, Any]:
        saved = [
            files.save(
                lambda target, picture=picture: _write_png(target, picture),
                prefix="preview",
                extension="png",
                folder="temp",
                index=index,
                size_px=(picture.shape[1], picture.shape[0]),
            )
            for index, picture in enumerate(self._image)
        ]
        return {"images": saved, "animated": (self._is_animated,)}


class PreviewMask(PreviewImage):
    """Masks (B, H, W) 0..1 to show in grey."""

    def __init__(self, mask: Any, cls: Any = None, animated: bool = False, **_more: Any) -> None:
        grey = mask.reshape(-1, *mask.shape[-2:], 1)
        super().__init__(grey.expand(-1, -1, -1, 3), cls, animated)


@dataclass(frozen=True, slots=True)
class PreviewText:
    """A text to show."""

    value: str

    def shown(self, files: Files) -> Mapping[str, Any]:
        return {"text": (self.value,)}


def _write_png(target: Any, picture: Any) -> None:
    """Write one picture (H, W, C) 0..1 as PNG."""
    from PIL import Image

    pixels = (picture.detach().cpu().float().clamp(0, 1) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(target, format="PNG", compress_level=1)


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    raise MissingHostSymbol(f"comfy_api.latest.ui.{name} is not offered (missing host symbol).")
