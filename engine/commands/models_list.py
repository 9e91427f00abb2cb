"""`python3 main.py models`: the model files that Weft sees, with family, size, hash and source."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.api.errors import EngineError, ModelError
from engine.diffusion.families import identify
from engine.diffusion.weightfile import open_weights
from engine.launch_flags import add_folder_flags, config_of
from engine.run import weight_header
from engine.run.added_folders import read_added
from engine.run.digests import Digests
from engine.run.folders import Folders
from engine.run.known_models import by_digest, known_models
from engine.run.settings import folders_of

CHECKPOINTS = ("checkpoints",)

USAGE = """more:
  models scan          look for models of other programs (ComfyUI, A1111, InvokeAI …)
  models add DIR       use a folder of models in place; models remove DIR
  models get NAME|URL  load a model file, checked by hash
  models verify NAME   a fixed set of pictures of a checkpoint, with a report"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model folder. `family` is empty where the file does not tell one.

    `source` is the program whose folder it lies in; `published_as` what its hash tells it is.
    """

    kind: str
    name: str
    family: str
    size_bytes: int
    sha256: str
    path: str
    source: str = ""
    published_as: str = ""
    problem: str = ""


def main(argv: Sequence[str]) -> int:
    """List the model files, or print the header of one (for reports and test fixtures)."""
    parser = argparse.ArgumentParser(
        prog="main.py models",
        description=__doc__,
        epilog=USAGE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    with closing(Digests(config.state_dir / "digests.sqlite")) as digests:
        files = list(model_files(folders, digests, may_read=not options.no_hash))
    if options.json:
        sys.stdout.write(json.dumps([asdict(f) for f in files], indent=2) + "\n")
        return 0
    for file in files:
        sys.stdout.write(_line(file) + "\n")
    if not files:
        sys.stdout.write(f"No model files in {config.models_dir}. See: main.py models scan\n")
    for added in read_added(config.user_dir):
        if not added.path.is_dir():
            sys.stdout.write(f"Not there now: {added.path}\n")
    return 0


def model_files(folders: Folders, digests: Digests, *, may_read: bool) -> Iterator[ModelFile]:
    """Every file of every model folder; without `may_read` only digests that are known."""
    published = known_models()
    for kind in folders.kinds():
        for name in folders.list_files(kind):
            try:
                path = folders.resolve(kind, name)
                size_bytes = path.stat().st_size
                sha256 = digests.digest(path) if may_read else digests.known(path) or ""
            except (EngineError, OSError):
                continue  # gone meanwhile, or not ours to read
            in_header = weight_header.family_of(path)
            family, problem = family_of(path) if kind in CHECKPOINTS else in_header
            known = by_digest(published, sha256)
            yield ModelFile(
                kind=kind,
                name=name,
                family=family,
                size_bytes=size_bytes,
                sha256=sha256,
                path=str(path),
                source=folders.source_of(path),
                published_as=known.file if known and known.file != path.name else "",
                problem=problem,
            )


def _line(file: ModelFile) -> str:
    size = f"{file.size_bytes / 1e6:,.1f} MB"
    text = f"{file.kind:16} {file.name:44} {file.family:10} {size:>12}  {file.sha256[:16]:16}"
    told = [file.source, f"is {file.published_as}" if file.published_as else "", file.problem]
    return f"{text}  {'  '.join(filter(None, told))}".rstrip()


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
