"""`python3 main.py models get`: load a model file, after its licence was shown and agreed to."""

import argparse
import hashlib
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from engine.api.errors import EngineError
from engine.cli import say
from engine.commands.download import (
    Download,
    DownloadError,
    Loaded,
    check_url,
    fetch,
    name_in_url,
)
from engine.config import Config
from engine.launch_flags import add_folder_flags, config_of
from engine.run.assets import storage_error
from engine.run.digests import Digests
from engine.run.folders import WEIGHTS, Folders
from engine.run.known_models import FILE, KnownModel, known_models
from engine.run.settings import folders_of
from engine.run.weight_header import SAFE, kind_of, read_header
from engine.text.suggest import suggest

REFUSED = 1
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be loaded, from the catalogue or from an address."""

    url: str
    file: str
    kind: str | None
    sha256: str | None
    known: KnownModel | None = None


def main(argv: Sequence[str]) -> int:
    """Load one file, or list what can be loaded by name."""
    parser = argparse.ArgumentParser(prog="main.py models get", description=__doc__)
    parser.add_argument("what", nargs="?", metavar="NAME|URL", help="left out: list the names")
    parser.add_argument("--sha256", help="what the file's SHA-256 has to be")
    parser.add_argument("--kind", help="kind of models (checkpoints, loras …); else by its header")
    parser.add_argument("--name", help="call the file so")
    parser.add_argument(
        "--yes", action="store_true", help="agree to the licence without a question"
    )
    parser.add_argument("--catalogue", type=Path, default=FILE, help=argparse.SUPPRESS)
    add_folder_flags(parser)
    options = parser.parse_args(argv)
    models = known_models(options.catalogue)
    if options.what is None:
        for model in models:
            sys.stdout.write(f"{model.name:10} {model.bytes / 1e9:5.2f} GB  {model.title}\n")
        return 0
    config = config_of(options)
    folders = folders_of(config)
    wish = wish_for(options.what, models, options.sha256, options.kind, options.name)
    _check(wish, folders)
    with closing(Digests(config.state_dir / "digests.sqlite")) as digests:
        here = _already_here(wish, folders, digests)
        if here is not None:
            say(f"{wish.file} is here already: {here}")
            return 0
        _show(wish)
        if not (options.yes or _agrees(wish)):
            say("Nothing was loaded.")
            return REFUSED
        path = load(wish, config, folders, digests)
    sys.stdout.write(f"{path}\n")
    return 0


def wish_for(
    what: str,
    models: Sequence[KnownModel],
    sha256: str | None = None,
    kind: str | None = None,
    name: str | None = None,
) -> Wish:
    """The wish that the command line tells. Raises: EngineError, DownloadError."""
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise EngineError(f"'{sha256}' is no SHA-256.", hint="It has 64 digits from 0 to f.")
    if "://" in what:
        url = check_url(what)
        return Wish(url=url, file=name or name_in_url(url), kind=kind, sha256=sha256)
    names = {key.lower(): model for model in models for key in (model.name, model.file)}
    model = names.get(what.lower())
    if model is None:
        known = ", ".join(m.name for m in models)
        near = suggest(what, [m.name for m in models])
        meant = f"Did you mean {near[0]}? " if near else ""
        raise EngineError(
            f"No model is called '{what}'.", hint=f"{meant}Known: {known}; or give an address."
        )
    if sha256 is not None and sha256.lower() != model.sha256:
        raise EngineError(
            f"{model.name} has the SHA-256 {model.sha256}, not the one that was given."
        )
    return Wish(
        url=model.url,
        file=name or model.file,
        kind=kind or model.kind,
        sha256=model.sha256,
        known=model,
    )


def load(wish: Wish, config: Config, folders: Folders, digests: Digests) -> Path:
    """Load it and put it into its folder; gives its path. Raises: EngineError."""
    waiting = config.models_dir / ".downloads"
    mark = hashlib.sha256(wish.url.encode()).hexdigest()[:8]
    try:
        waiting.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(waiting, error) from error
    part = folders.join_under(waiting, f"{mark}-{wish.file}")
    with tqdm(unit="B", unit_scale=True, unit_divisor=1000, desc=wish.file, disable=None) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.n = done
            bar.refresh() if done == total else bar.update(0)

        loaded = fetch(Download(url=wish.url, part=part, sha256=wish.sha256), show)
    _tell_hash(loaded)
    _check_content(part)
    kind = wish.kind or kind_of(part)
    if kind is None:
        raise EngineError(
            f"The header of {wish.file} does not tell what kind of model it is.",
            hint="Give the same command again with --kind, for example --kind upscale_models; "
            "it is not loaded twice.",
        )
    target = _target(wish, kind, folders)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(part, target)
    except OSError as error:
        raise storage_error(target, error) from error
    digests.learn(target, loaded.sha256)
    return target


def _check(wish: Wish, folders: Folders) -> None:
    """What is wrong with the name, the kind or the place, before anything is loaded."""
    if "/" in wish.file or "\\" in wish.file:
        raise EngineError(f"'{wish.file}' is no plain file name.")
    suffix = Path(wish.file).suffix.lower()
    if suffix not in WEIGHTS or wish.file.startswith("."):
        raise EngineError(
            f"'{wish.file}' is no name of a model file ({', '.join(sorted(WEIGHTS))}).",
            hint="Give the address of the file itself, or name it with --name.",
        )
    if wish.kind is not None and not folders.paths(wish.kind):
        raise EngineError(
            f"There is no kind of models '{wish.kind}'.",
            hint=f"Kinds: {', '.join(folders.kinds())}.",
        )
    for kind in [wish.kind] if wish.kind else folders.kinds():
        target = _target(wish, kind, folders)
        if wish.kind and target.exists() and wish.sha256 is None:
            raise EngineError(
                f"{target} is there already.", hint="Name the new one otherwise: --name"
            )


def _target(wish: Wish, kind: str, folders: Folders) -> Path:
    """Inside our own folder of that kind, which it cannot leave. Raises: UnsafePath."""
    return folders.join_under(folders.paths(kind)[0], wish.file)


def _already_here(wish: Wish, folders: Folders, digests: Digests) -> Path | None:
    """The same file under any name. Raises: EngineError when another one has its name."""
    if wish.sha256 is None or wish.kind is None:
        return None
    wanted = wish.sha256.lower()
    for name in folders.list_files(wish.kind):
        path = folders.resolve(wish.kind, name)
        if digests.known(path) == wanted:
            return path
    target = _target(wish, wish.kind, folders)
    if not target.exists():
        return None
    if digests.digest(target) == wanted:
        return target
    raise EngineError(
        f"{target} is there already, and it is another file.",
        hint="Name the new one otherwise with --name, or take the old one away.",
    )


def _show(wish: Wish) -> None:
    model = wish.known
    if model is not None:
        say(f"{model.title}: {model.file}, {model.bytes / 1e9:.2f} GB, family {model.family}")
        say(f"Licence: {model.licence}  {model.licence_url}")
        say(f"From:    {model.page}")
    else:
        say(f"{wish.file} from {wish.url}")
        say("Licence: not known here; read the page that you have the address from.")
    say(f"SHA-256: {wish.sha256 or 'none was given; the one that the server tells is checked'}")
    if Path(wish.file).suffix.lower() not in SAFE:
        say(
            "This format can carry code. Weft reads only the weights in it and refuses the rest; "
            "other programs may run it."
        )


def _agrees(wish: Wish) -> bool:
    if not sys.stdin.isatty():
        raise EngineError(
            f"{wish.file} is not loaded without your consent.",
            hint="Add --yes when you agree to the licence.",
        )
    say("Load it, and agree to its licence? [y/N] ")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _tell_hash(loaded: Loaded) -> None:
    told = {
        "given": "as it has to be",
        "server": "as the server told; nobody else vouched for it",
        "": "checked against nothing, since neither you nor the server told one",
    }[loaded.vouched_by]
    say(f"SHA-256 {loaded.sha256}: {told}.")


def _check_content(part: Path) -> None:
    """Refuse a page of a site that came in the file's place. Raises: DownloadError."""
    if part.suffix.lower() not in SAFE:
        return
    try:
        read_header(part)
    except (OSError, ValueError, RecursionError) as error:
        part.unlink(missing_ok=True)
        raise DownloadError(
            "What came is no safetensors file; it may be a page of the site.",
            hint="Give the address of the file itself (on the hub: …/resolve/main/…).",
        ) from error
