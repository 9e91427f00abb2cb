"""`python3 main.py models scan`, `add` and `remove`: models where other programs keep them."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.api.errors import EngineError
from engine.cli import say
from engine.launch_flags import add_folder_flags, config_of
from engine.run.added_folders import AddedFolder, count_models, read_added, write_added
from engine.run.folders import KINDS
from engine.run.model_layouts import Source
from engine.run.model_places import Machine, scan


def scan_main(argv: Sequence[str]) -> int:
    """Look in the usual places of other programs and offer what is there; nothing is copied."""
    parser = argparse.ArgumentParser(prog="main.py models scan", description=scan_main.__doc__)
    parser.add_argument("--add", action="store_true", help="add all that is found")
    parser.add_argument("--json", action="store_true")
    add_folder_flags(parser)
    options = parser.parse_args(argv)
    config = config_of(options)
    machine = Machine(platform=sys.platform, home=Path.home(), environment=os.environ)
    added = list(read_added(config.user_dir))
    known = {_real(folder.path) for folder in added}
    own = _real(config.models_dir)
    found: list[tuple[Source, dict[str, int], bool]] = []
    for source in scan(machine):
        if own in (_real(source.root), _real(source.root / "models")):
            continue
        found.append((source, count_models(source), _real(source.root) in known))
    if options.json:
        rows = [
            {"program": s.title, "path": str(s.root), "files": counts, "is_added": is_added}
            for s, counts, is_added in found
        ]
        sys.stdout.write(json.dumps(rows, indent=2) + "\n")
        return 0
    for source, counts, is_added in found:
        mark = "added" if is_added else ""
        sys.stdout.write(f"{source.title}: {source.root}\n    {_words(counts)}  {mark}".rstrip())
        sys.stdout.write("\n")
    new = [source for source, counts, is_added in found if counts and not is_added]
    if options.add and new:
        write_added(config.user_dir, [*added, *(AddedFolder(path=s.root) for s in new)])
        say(f"Added {len(new)}. They are used in place; nothing is copied or changed.")
    elif new:
        say("\nTo use them in place (nothing is copied or changed):")
        for source in new:
            say(f"    python3 main.py models add {_quoted(source.root)}")
        say("or all at once:\n    python3 main.py models scan --add")
    elif not found:
        say("No other program's models are in the usual places. Name a folder yourself:")
        say("    python3 main.py models add DIR")
    return 0


def add_main(argv: Sequence[str]) -> int:
    """Use the models of another program's folder, or of any folder, in place."""
    parser = argparse.ArgumentParser(prog="main.py models add", description=add_main.__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--kind", choices=sorted(KINDS), help="all files in it are of this kind")
    add_folder_flags(parser)
    options = parser.parse_args(argv)
    config = config_of(options)
    path = _real(options.folder.expanduser())
    if not path.is_dir():
        what = "a file" if path.is_file() else "not there"
        raise EngineError(f"{path} is {what}.", hint="Name a folder that holds models.")
    folder = AddedFolder(path=path, kind=options.kind)
    source = folder.source()
    assert source is not None, "the folder is there"
    if path == _real(config.models_dir) or path == _real(config.models_dir.parent):
        raise EngineError("That is Weft's own folder, which is used anyway.")
    counts = count_models(source)
    if not counts:
        raise EngineError(
            f"{path} holds no model files that can be told apart.",
            hint="Add the program's own folder, or a folder of one kind with --kind, for example "
            "--kind loras.",
        )
    others = [a for a in read_added(config.user_dir) if _real(a.path) != path]
    write_added(config.user_dir, [*others, folder])
    sys.stdout.write(f"{source.title}: {source.root}\n    {_words(counts)}\n")
    say("Used in place; nothing is copied or changed. A running server sees it after a new start.")
    return 0


def remove_main(argv: Sequence[str]) -> int:
    """Use a folder no more; its files stay as they are."""
    parser = argparse.ArgumentParser(prog="main.py models remove", description=remove_main.__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    add_folder_flags(parser)
    options = parser.parse_args(argv)
    config = config_of(options)
    added = read_added(config.user_dir)
    path = _real(options.folder.expanduser())
    left = [folder for folder in added if _real(folder.path) != path]
    if len(left) == len(added):
        there = ", ".join(str(folder.path) for folder in added) or "none"
        raise EngineError(f"{path} was not added.", hint=f"Added folders: {there}.")
    write_added(config.user_dir, left)
    say(f"{path} is used no more. Its files were not touched.")
    return 0


def _real(path: Path) -> Path:
    return path.absolute().resolve()


def _words(counts: Mapping[str, int]) -> str:
    """`3 checkpoints, 1 loras`."""
    parts = [f"{count} {kind.replace('_', ' ')}" for kind, count in counts.items()]
    return ", ".join(parts) or "no model files"


def _quoted(path: Path) -> str:
    return f'"{path}"' if " " in str(path) else str(path)
