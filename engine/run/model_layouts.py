"""Where other programs keep their models: layouts as data, recognised by what lies in a folder.

A layout maps our kinds of models to folders of a program. Only names are compared (in any case,
as some disks do); nothing is ever written there.
"""

import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

from engine.run.folders import KINDS, WEIGHTS
from engine.run.loose_files import LooseLister
from engine.run.weight_header import kind_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One program's way: `marks` are paths that are there together, `folders` its places.

    `list_loose` gives files that lie in no folder of one kind.
    """

    name: str
    title: str
    marks: tuple[tuple[str, ...], ...]
    folders: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    list_loose: LooseLister | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A folder of models that was recognised: its folders by kind, or its loose files."""

    title: str
    root: Path
    folders: Mapping[str, tuple[Path, ...]]
    list_loose: LooseLister | None = None


def recognise(root: Path) -> Source | None:
    """The source that a folder is, or that its `Data` is; None when it fits no layout."""
    data = find(root, "Data")  # of a portable Stability Matrix
    if data is not None and find(data, "Models/StableDiffusion"):
        root = data
    for layout in LAYOUTS:
        if any(all(find(root, mark) for mark in marks) for marks in layout.marks) or (
            layout.name == "hub" and _is_hub(root)
        ):
            return _source(layout, root)
    return None


def plain_source(root: Path, kind: str | None) -> Source:
    """A folder of no known layout: all of one kind, or each file by what its header tells."""
    if kind is not None:
        return Source(title="folder", root=root, folders={kind: (root,)})
    return Source(title="folder", root=root, folders={}, list_loose=_sorted_by_header)


def find(root: Path, relative: str) -> Path | None:
    """The entry of that relative path, in any case; None when there is none."""
    here = root
    for part in relative.split("/"):
        exact = here / part
        if not exact.exists():
            try:
                entries = list(here.iterdir())
            except OSError:
                return None
            same = next((e for e in entries if e.name.casefold() == part.casefold()), None)
            if same is None:
                return None
            exact = same
        here = exact
    return here


def _source(layout: Layout, root: Path) -> Source:
    folders: dict[str, tuple[Path, ...]] = {}
    for kind, names in layout.folders.items():
        found = [path for name in names for path in _matches(root, name)]
        if found:
            folders[kind] = tuple(dict.fromkeys(found))
    return Source(title=layout.title, root=root, folders=folders, list_loose=layout.list_loose)


def _matches(root: Path, pattern: str) -> Iterator[Path]:
    """Folders of a relative path; a part `*` stands for any one folder."""
    before, star, after = pattern.partition("*/")
    if not star:
        found = find(root, pattern)
        if found is not None and found.is_dir():
            yield found
        return
    parent = find(root, before.rstrip("/")) if before else root
    try:
        entries = sorted(parent.iterdir()) if parent else []
    except OSError:
        return
    for entry in entries:
        if entry.is_dir():
            yield from _matches(entry, after)


# Loose files --------------------------------------------------------------------------------------


def _is_hub(root: Path) -> bool:
    try:
        return any(
            entry.name.startswith("models--") and (entry / "snapshots").is_dir()
            for entry in root.iterdir()
        )
    except OSError:
        return False


def _hub_files(root: Path) -> Iterator[tuple[str, str, Path]]:
    """Weight files of the current snapshot of each repository, as `owner/name/file`."""
    for repository in sorted(root.glob("models--*")):
        snapshot = _snapshot(repository)
        if snapshot is None:
            continue
        owner_and_name = "/".join(repository.name.split("--")[1:])
        for path in _weights_below(snapshot):
            kind = _kind_of_file(path)
            if kind is not None:
                yield kind, f"{owner_and_name}/{path.relative_to(snapshot).as_posix()}", path


def _snapshot(repository: Path) -> Path | None:
    """The snapshot of `main`, or else the one that changed last."""
    snapshots = repository / "snapshots"
    try:
        main = snapshots / (repository / "refs" / "main").read_text(encoding="utf-8").strip()
        if main.is_dir():
            return main
    except (OSError, UnicodeError):
        pass
    try:
        return max(snapshots.iterdir(), key=lambda path: path.stat().st_mtime, default=None)
    except OSError:
        return None


def _sorted_by_header(root: Path) -> Iterator[tuple[str, str, Path]]:
    for path in _weights_below(root):
        kind = _kind_of_file(path)
        if kind is not None:
            yield kind, path.relative_to(root).as_posix(), path


def _weights_below(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in WEIGHTS and not name.startswith("."):
                yield Path(folder, name)


def _kind_of_file(path: Path) -> str | None:
    """By its header; `.ckpt` is by its name a checkpoint."""
    try:
        status = path.stat()
    except OSError:
        return None  # a link to nothing
    if path.suffix.lower() == ".ckpt":
        return "checkpoints"
    return _kind_by_header(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4096)
def _kind_by_header(path: Path, _size: int, _mtime_ns: int) -> str | None:
    return kind_of(path)


_INVOKE_KINDS: Mapping[str, str] = {
    "main": "checkpoints",
    "vae": "vae",
    "lora": "loras",
    "controlnet": "controlnet",
    "t2i_adapter": "controlnet",
    "embedding": "embeddings",
    "clip_vision": "clip_vision",
    "spandrel_image_to_image": "upscale_models",
}


def _invoke_files(root: Path) -> Iterator[tuple[str, str, Path]]:
    """The files that InvokeAI's own database lists, by the names that it shows."""
    database = root / "databases" / "invokeai.db"
    if not database.is_file():
        return
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute("SELECT config FROM models").fetchall()
    except sqlite3.Error:
        return  # of another version, or in use
    for (text,) in rows:
        try:
            told = cast(dict[str, Any], json.loads(text))
            path = root / "models" / str(told["path"])  # an absolute path stays as it is
            kind = _INVOKE_KINDS[str(told["type"])]
            name = str(told["name"])
        except (ValueError, KeyError, TypeError):
            continue
        if path.suffix.lower() in WEIGHTS and path.is_file():
            stem = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "-" for c in name)
            yield kind, f"{stem}{path.suffix}", path


# The table ----------------------------------------------------------------------------------------

_OWN_NAMES = {kind: names for kind, names in KINDS.items() if kind != "configs"}
_COMFY = {kind: tuple(f"models/{name}" for name in names) for kind, names in _OWN_NAMES.items()}

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        name="swarmui",
        title="SwarmUI",
        marks=(("Models/Stable-Diffusion", "src"), ("Models/Stable-Diffusion", "Data")),
        folders={
            "checkpoints": ("Models/Stable-Diffusion",),
            "clip_vision": ("Models/clip_vision",),
            "controlnet": ("Models/controlnet",),
            "diffusion_models": ("Models/diffusion_models", "Models/unet"),
            "embeddings": ("Models/Embeddings",),
            "loras": ("Models/Lora",),
            "text_encoders": ("Models/text_encoders", "Models/clip"),
            "upscale_models": ("Models/upscale_models",),
            "vae": ("Models/VAE",),
        },
    ),
    Layout(
        name="a1111",
        title="A1111, Forge or SD.Next",
        marks=(("models/Stable-diffusion",),),
        folders={
            "checkpoints": ("models/Stable-diffusion",),
            "controlnet": ("models/ControlNet", "extensions/sd-webui-controlnet/models"),
            "diffusers": ("models/Diffusers",),
            "diffusion_models": ("models/UNET", "models/diffusion_models"),
            "embeddings": ("embeddings", "models/embeddings"),
            "gligen": ("models/GLIGEN",),
            "hypernetworks": ("models/hypernetworks",),
            "loras": ("models/Lora", "models/LyCORIS"),
            "text_encoders": ("models/text_encoder", "models/Text-encoder"),
            "upscale_models": (
                "models/ESRGAN",
                "models/RealESRGAN",
                "models/SwinIR",
                "models/ScuNET",
                "models/DAT",
                "models/HAT",
            ),
            "vae": ("models/VAE",),
            "vae_approx": ("models/VAE-approx", "models/TAESD"),
        },
    ),
    Layout(
        name="stability-matrix",
        title="Stability Matrix",
        marks=(("Models/StableDiffusion",),),
        folders={
            "checkpoints": ("Models/StableDiffusion",),
            "clip_vision": ("Models/ClipVision", "Models/InvokeClipVision"),
            "controlnet": ("Models/ControlNet", "Models/T2IAdapter"),
            "diffusers": ("Models/Diffusers",),
            "diffusion_models": ("Models/DiffusionModels", "Models/Unet"),
            "embeddings": ("Models/Embeddings", "Models/TextualInversion"),
            "gligen": ("Models/GLIGEN",),
            "hypernetworks": ("Models/Hypernetwork",),
            "loras": ("Models/Lora", "Models/LyCORIS"),
            "style_models": ("Models/StyleModels",),
            "text_encoders": ("Models/TextEncoders", "Models/CLIP"),
            "upscale_models": ("Models/ESRGAN", "Models/RealESRGAN", "Models/SwinIR"),
            "vae": ("Models/VAE",),
            "vae_approx": ("Models/ApproxVAE",),
        },
    ),
    Layout(
        name="invokeai",
        title="InvokeAI",
        marks=(("databases/invokeai.db",), ("invokeai.yaml",), ("invokeai.init",)),
        folders={
            "checkpoints": ("autoimport/main",),
            "controlnet": ("autoimport/controlnet",),
            "embeddings": ("autoimport/embedding",),
            "loras": ("autoimport/lora",),
        },
        list_loose=_invoke_files,
    ),
    Layout(
        name="fooocus",
        title="Fooocus",
        marks=(("models/checkpoints", "fooocus_version.py"), ("models/checkpoints", "presets")),
        folders={**_COMFY, "controlnet": ("models/controlnet",)},
    ),
    Layout(
        name="comfyui",
        title="ComfyUI",
        marks=(("models/checkpoints",), ("models/diffusion_models",), ("models/loras",)),
        folders=_COMFY,
    ),
    Layout(
        name="models",
        title="models folder",
        marks=(("checkpoints",), ("loras", "vae"), ("diffusion_models",)),
        folders=_OWN_NAMES,
    ),
    Layout(name="hub", title="Hugging Face cache", marks=(), list_loose=_hub_files),
)
