"""`python3 main.py models`: the model files that Weft sees, with family, size and hash."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.api.errors import EngineError, ModelError
from engine.diffusion.families import identify
from engine.diffusion.weightfile import open_weights
from engine.launch_flags import add_folder_flags, config_of
from engine.run.digests import Digests
from engine.run.folders import Folders
from engine.run.settings import folders_of

CHECKPOINTS = ("checkpoints",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model folder. `family` is empty where only checkpoints have one."""

    kind: str
    name: str
    family: str
    size_bytes: int
    sha256: str
    path: str
    problem: str = ""


def main(argv: Sequence[str]) -> int:
    """List the model files, or print the header of one (for reports and test fixtures)."""
    parser = argparse.ArgumentParser(prog="main.py models", description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-hash", action="store_true", help="do not compute SHA-256")
    parser.add_argument("--header", type=Path, metavar="FILE", help="print keys, types and shapes")
    add_folder_flags(parser)
    options = parser.parse_args(argv)
    if options.header:
        sys.stdout.write(json.dumps(header(options.header), indent=1) + "\n")
        return 0
    config = config_of(options)
    folders = folders_of(config)
    digests = Digests(config.state_dir / "digests.sqlite")
    try:
        files = list(model_files(folders, None if options.no_hash else digests))
    finally:
        digests.close()
    if options.json:
        sys.stdout.write(json.dumps([asdict(f) for f in files], indent=2) + "\n")
        return 0
    for file in files:
        size = f"{file.size_bytes / 1e6:,.1f} MB"
        text = f"{file.kind:16} {file.name:44} {file.family:10} {size:>12}  {file.sha256[:16]}"
        sys.stdout.write(f"{text}  {file.problem}".rstrip() + "\n")
    if not files:
        sys.stdout.write(f"No model files in {config.models_dir}.\n")
    return 0


def model_files(folders: Folders, digests: Digests | None) -> Iterator[ModelFile]:
    """Every file of every model folder."""
    for kind in folders.kinds():
        for name in folders.list_files(kind):
            path = folders.resolve(kind, name)
            family, problem = family_of(path) if kind in CHECKPOINTS else ("", "")
            yield ModelFile(
                kind=kind,
                name=name,
                family=family,
                size_bytes=path.stat().st_size,
                sha256=digests.digest(path) if digests else "",
                path=str(path),
                problem=problem,
            )


def family_of(path: Path) -> tuple[str, str]:
    """(family, problem) of a checkpoint."""
    try:
        return identify(open_weights(path)).family, ""
    except ModelError as error:
        return "", error.message


def header(path: Path) -> dict[str, object]:
    """Metadata, and type and shape of each tensor, of a weight file. Raises: EngineError."""
    if not path.is_file():
        raise EngineError(f"{path} is no file.")
    file = open_weights(path)
    tensors = {
        name: {"dtype": str(info.dtype).removeprefix("torch."), "shape": list(info.shape)}
        for name, info in file.infos.items()
    }
    return {"metadata": dict(file.metadata), "tensors": tensors}
