"""Where files lie, and names inside folders that can never leave them.

Model folders have one path in `models/` and more from `--extra-model-paths-config`. Listing is
recursive and is repeated only for folders that changed.
"""

import os
import re
import time
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from engine.api.errors import LaunchError, MissingModel, UnsafePath
from engine.run.loose_files import LooseFiles
from engine.text.suggest import suggest

WEIGHTS = frozenset(
    (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".pkl", ".gguf")
)
PLACES = ("input", "output", "temp", "user")
DATASETS = "datasets"  # its entries are folders: those of pictures to train on

# Kind of model -> the folders under models/ that hold it.
KINDS: Mapping[str, tuple[str, ...]] = {
    "checkpoints": ("checkpoints",),
    "clip_vision": ("clip_vision",),
    "configs": ("configs",),
    "controlnet": ("controlnet", "t2i_adapter"),
    "diffusers": ("diffusers",),
    "diffusion_models": ("unet", "diffusion_models"),
    "embeddings": ("embeddings",),
    "gligen": ("gligen",),
    "hypernetworks": ("hypernetworks",),
    "loras": ("loras",),
    "pixel_diffusion": ("pixel_diffusion",),
    "style_models": ("style_models",),
    "text_encoders": ("text_encoders", "clip"),
    "upscale_models": ("upscale_models",),
    "vae": ("vae",),
    "vae_approx": ("vae_approx",),
    "vq_autoencoders": ("vq_autoencoders",),
}
ALIASES: Mapping[str, str] = {"clip": "text_encoders", "unet": "diffusion_models"}
# Where nodes save models, below the output folder; loaders find them there again.
SAVED: Mapping[str, str] = {
    "checkpoints": "checkpoints",
    "diffusion_models": "diffusion_models",
    "loras": "loras",
    "text_encoders": "clip",
    "vae": "vae",
}
EXTENSIONS: Mapping[str, frozenset[str]] = {
    "configs": frozenset((".yaml",)),
    "diffusers": frozenset((".json",)),
}
INDEX = "/model_index.json"  # what makes a folder a model in diffusers' layout

_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])( *\..*)?")
_DRIVE = re.compile(r"[A-Za-z]:")
_LONGEST_NAME = 255
_RACY_NS = 2_000_000_000  # a folder changed this shortly before its listing is listed again


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    """The files below one folder, and when each folder in it had last changed."""

    names: tuple[str, ...]
    changed_ns: Mapping[str, int]
    is_final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Folders:
    """The folders of one installation. `models` maps kinds to paths, searched in their order.

    `loose` are files of other programs that lie in no folder of one kind, searched last. `sources`
    names the program that the models below a path belong to.
    """

    base: Path
    input: Path
    output: Path
    temp: Path
    user: Path
    models: Mapping[str, tuple[Path, ...]]
    datasets: tuple[Path, ...] = ()
    custom_nodes: tuple[Path, ...] = ()
    loose: tuple[LooseFiles, ...] = ()
    sources: tuple[tuple[Path, str], ...] = ()
    _listings: dict[Path, _Listing] = field(
        default_factory=dict[Path, _Listing], repr=False, compare=False
    )

    @property
    def state(self) -> Path:
        """Weft's own state: jobs, digests, results, catalogue."""
        return self.user / "weft"

    def kinds(self) -> tuple[str, ...]:
        """The kinds of models that there are folders for."""
        return tuple(sorted(self.models))

    def paths(self, folder: str) -> tuple[Path, ...]:
        """The paths of a kind of models, of datasets, input, output, temp, user; () if unknown."""
        if folder == DATASETS:
            return self.datasets
        places = {
            "input": self.input, "output": self.output, "temp": self.temp, "user": self.user
        }  # fmt: skip
        if folder in places:
            return (places[folder],)
        return self.models.get(ALIASES.get(folder, folder), ())

    def list_files(self, folder: str) -> Sequence[str]:
        """The names of the files in a folder, sorted, with `/` between sub-folders.

        Those of datasets are folders, and so are models in diffusers' layout.
        """
        names: dict[str, None] = {}
        if folder == DATASETS:
            return self._list_datasets()
        extensions = _extensions(folder)
        for root in self.paths(folder):
            for name in self._listing(root).names:
                if extensions is None or f".{name.rpartition('.')[2].lower()}" in extensions:
                    names[name] = None
        if folder == "diffusers":
            return sorted(n.removesuffix(INDEX) for n in names if n.endswith(INDEX))
        for files in self.loose:
            names |= dict.fromkeys(files.of_kind(ALIASES.get(folder, folder)))
        return sorted(names)

    def source_of(self, path: Path) -> str:
        """The program whose folder a model lies in; empty for our own folders."""
        return next((title for root, title in self.sources if path.is_relative_to(root)), "")

    def join(self, folder: str, name: str) -> Path:
        """Where the file of that name is or would be, inside the first path of a folder.

        Raises: UnsafePath.
        """
        roots = self.paths(folder)
        if not roots:
            raise UnsafePath(f"There is no folder {_shown(folder)}.")
        return self.join_under(roots[0], name)

    def join_under(self, root: Path, name: str) -> Path:
        """The path of a name inside `root`, which it cannot leave, not by a link either.

        Raises: UnsafePath.
        """
        return _inside(root, safe_name(name))

    def resolve(self, folder: str, name: str) -> Path:
        """The existing file of that name, or the folder of that name in datasets.

        In model folders it may be a link to anywhere.

        Raises: MissingModel with the closest names; UnsafePath.
        """
        relative = safe_name(name)
        roots = self.paths(folder)
        for root in roots:
            path = _inside(root, relative) if self._is_ours(folder, root) else root / relative
            if folder == "diffusers" and Path(f"{path}{INDEX}").is_file():
                return path
            if path.is_dir() if folder == DATASETS else path.is_file():
                return path
        for files in self.loose:
            found = files.of_kind(ALIASES.get(folder, folder)).get(relative)
            if found is not None and found.is_file():
                return found
        raise self._missing(folder, name, roots)

    def _list_datasets(self) -> Sequence[str]:
        names: set[str] = set()
        for root in self.datasets:
            below = (Path(path) for path in self._listing(root).changed_ns)
            found = {path.relative_to(root).as_posix() for path in below if path != root}
            if root == self.input:  # what lies in input/datasets has a name without it
                found = {name for name in found if name.split("/")[0] != DATASETS}
            names |= found
        return sorted(names)

    def _is_ours(self, folder: str, root: Path) -> bool:
        """Whether clients may write there: then a link is not to be trusted."""
        if folder == DATASETS:
            return root.is_relative_to(self.input)
        return folder in PLACES or root.is_relative_to(self.output)

    def below(self, folder: str, name: str) -> dict[str, Path]:
        """All files in the sub-folder `name` of a folder, by their names below it; {} if none.

        Raises: UnsafePath.
        """
        root = self.join(folder, name)
        return {file: root / file for file in self._listing(root).names}

    def _missing(self, folder: str, name: str, roots: Sequence[Path]) -> MissingModel:
        known = self.list_files(folder)
        base = name.replace("\\", "/").rpartition("/")[2].lower()
        near = [n for n in known if n.rpartition("/")[2].lower() == base][:3]
        near = near or list(suggest(name, known))
        if near:
            hint = f"Did you mean {' or '.join(near)}?"
        else:
            where = " or ".join(str(root) for root in roots) or "a folder of that name"
            hint = f"Put it into {where}."
        kind = "folder" if folder == DATASETS else "file"
        return MissingModel(
            f"There is no {kind} {_shown(name)} in {folder} ({len(known)} {kind}s there).",
            hint=hint,
        )

    def _listing(self, root: Path) -> _Listing:
        known = self._listings.get(root)
        if known is None or not known.is_final or not _is_current(known):
            known = self._listings[root] = _list(root)
        return known


def make_folders(
    *,
    base: Path,
    models: Path,
    input: Path | None = None,
    output: Path | None = None,
    temp: Path | None = None,
    user: Path | None = None,
    custom_nodes: Path | None = None,
    extra_model_paths: Sequence[Path] = (),
) -> Folders:
    """The folders of an installation; those not given have their customary names in `base`.

    Raises: LaunchError when an extra paths file cannot be read.
    """
    paths = {kind: [models / name for name in names] for kind, names in KINDS.items()}
    claimed = {name for names in KINDS.values() for name in names}
    for entry in sorted(models.iterdir()) if models.is_dir() else ():
        if entry.is_dir() and entry.name not in claimed and not entry.name.startswith("."):
            paths[entry.name] = [entry]
    for file in extra_model_paths:
        for kind, path, is_first in _extra_paths(file):
            known = paths.setdefault(ALIASES.get(kind, kind), [])
            if path not in known:
                known.insert(0 if is_first else len(known), path)
    results = output or base / "output"
    for kind, name in SAVED.items():
        paths[kind].append(results / name)
    packs = [custom_nodes or base / "custom_nodes", *paths.pop("custom_nodes", ())]
    inputs = input or base / "input"
    datasets = [inputs / DATASETS, models / DATASETS, *paths.pop(DATASETS, ()), inputs]
    return Folders(
        base=base,
        input=inputs,
        output=results,
        temp=temp or base / "temp",
        user=user or base / "user",
        models={kind: tuple(found) for kind, found in paths.items()},
        datasets=tuple(dict.fromkeys(datasets)),
        custom_nodes=tuple(packs),
    )


# Names --------------------------------------------------------------------------------------------


def safe_name(name: str) -> str:
    """A relative name with `/` between its parts, the same on every platform.

    Raises: UnsafePath for anything that could mean a file elsewhere.
    """
    slashed = name.replace("\\", "/")
    plain = slashed if slashed.isascii() else unicodedata.normalize("NFKC", slashed)
    reason = None
    if not slashed.strip() or len(slashed) > 1024:
        reason = "is empty or too long"
    elif any(ord(c) < 32 or 0xD800 <= ord(c) <= 0xDFFF for c in slashed):
        reason = "holds characters that no file name has"
    elif plain.startswith("/") or _DRIVE.match(plain):
        reason = "is an absolute path"
    else:
        for part in plain.replace("\\", "/").split("/"):
            reason = reason or _fault_of_part(part)
    if reason is not None:
        raise UnsafePath(
            f"The file name {_shown(name)} {reason}.", hint="Use a name inside the folder."
        )
    return "/".join(part for part in slashed.split("/") if part not in ("", "."))


def _fault_of_part(part: str) -> str | None:
    if part in ("", "."):
        return None
    if not part.strip(". "):
        return "leaves its folder"
    if len(part.encode()) > _LONGEST_NAME:
        return "is too long"
    if _RESERVED.fullmatch(part):
        return "is a device name on Windows"
    if os.name == "nt" and (":" in part or part[-1] in ". "):
        return "means another file on Windows"
    return None


def _inside(root: Path, relative: str) -> Path:
    path = root / relative
    if not path.resolve().is_relative_to(root.resolve()):
        raise UnsafePath(
            f"The file {_shown(relative)} is a link that leaves its folder.",
            hint="Copy the file into the folder instead.",
        )
    return path


def _shown(name: str) -> str:
    text = name if len(name) <= 120 else name[:119] + "…"
    return repr(text)


# Listing ------------------------------------------------------------------------------------------


def _extensions(folder: str) -> frozenset[str] | None:
    """The file name endings of a kind; None for all."""
    if folder in PLACES or (folder not in KINDS and folder not in ALIASES):
        return None
    return EXTENSIONS.get(folder, WEIGHTS)


def _list(root: Path) -> _Listing:
    names: list[str] = []
    changed: dict[str, int] = {}
    for path, prefix, changed_ns in _walk(root):
        changed[path] = changed_ns
        with os.scandir(path) as entries:
            names += [f"{prefix}{e.name}" for e in entries if _is_listed(e)]
    newest = max(changed.values(), default=0)
    return _Listing(
        names=tuple(sorted(names)),
        changed_ns=changed or {str(root): -1},
        is_final=time.time_ns() - newest > _RACY_NS,
    )


def _walk(root: Path) -> Iterator[tuple[str, str, int]]:
    """Every folder below `root`: its path, its prefix in names, and when it changed last."""
    stack = [(str(root), "")]
    seen: set[tuple[int, int]] = set()
    while stack:
        path, prefix = stack.pop()
        try:
            status = Path(path).stat()
            identity = (status.st_dev, status.st_ino)
            if identity in seen:
                continue  # a circle of links
            seen.add(identity)
            with os.scandir(path) as entries:
                below = [(e.path, f"{prefix}{e.name}/") for e in entries if _is_folder(e)]
        except OSError:
            continue  # gone meanwhile, or not ours to read
        stack.extend(below)
        yield path, prefix, status.st_mtime_ns


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir() and not entry.name.startswith(".")


def _is_listed(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.is_file() and entry.name.isprintable()


def _is_current(listing: _Listing) -> bool:
    for path, changed_ns in listing.changed_ns.items():
        try:
            if Path(path).stat().st_mtime_ns != changed_ns:
                return False
        except OSError:
            if changed_ns != -1:
                return False
    return True


# Extra paths --------------------------------------------------------------------------------------


def _extra_paths(file: Path) -> Iterator[tuple[str, Path, bool]]:
    """Kind, path and whether it goes first, of each path that a YAML file names."""
    import yaml

    try:
        document: object = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise LaunchError(
            f"The file {file} of --extra-model-paths-config cannot be read: {error}",
            hint="It maps section names to {base_path, checkpoints: folder, loras: folder, …}.",
        ) from error
    if document is None:
        return
    if not isinstance(document, dict):
        raise LaunchError(f"The file {file} holds no sections with folders.")
    for section in cast("dict[object, object]", document).values():
        if isinstance(section, dict):
            yield from _section_paths(file.resolve().parent, cast("dict[object, Any]", section))


def _section_paths(
    relative_to: Path, section: Mapping[object, Any]
) -> Iterator[tuple[str, Path, bool]]:
    base = relative_to / _expanded(section.get("base_path") or "")
    is_first = section.get("is_default") is True
    for kind, value in section.items():
        if kind in ("base_path", "is_default") or not isinstance(value, str | list):
            continue
        lines = value.splitlines() if isinstance(value, str) else cast("list[object]", value)
        for line in lines:
            if str(line).strip():
                yield str(kind), Path(os.path.normpath(base / _expanded(line))), is_first


def _expanded(path: object) -> Path:
    return Path(os.path.expandvars(str(path).strip())).expanduser()
