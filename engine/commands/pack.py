"""`python3 main.py pack`: make a node pack with a test, or check one."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.api.errors import EngineError
from engine.launch_flags import add_folder_flags, config_of
from engine.plugins.pack_tools import check_pack, new_pack


def main(argv: Sequence[str]) -> int:
    """Make or check a pack; 1 when the check finds something to mend."""
    parser = argparse.ArgumentParser(prog="main.py pack", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    new = commands.add_parser("new", help="make custom_nodes/NAME with a node and its test")
    new.add_argument("name")
    add_folder_flags(new)
    check = commands.add_parser("check", help="try purity, determinism, types and docs")
    check.add_argument("path", type=Path, help="the pack's folder, or its name")
    add_folder_flags(check)
    options = parser.parse_args(argv)
    config = config_of(options)
    if options.command == "new":
        folder = new_pack(config.custom_nodes_dir, options.name)
        sys.stdout.write(f"{folder}\nAllow it with: python3 main.py nodes --allow {options.name}\n")
        return 0
    path = options.path if options.path.exists() else config.custom_nodes_dir / options.path
    findings = check_pack(path, round_trip=stored_and_read)
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    sys.stdout.write(f"{len(findings)} findings.\n" if findings else "Nothing to complain about.\n")
    return 1 if any(finding.severity != "note" for finding in findings) else 0


def stored_and_read(value: object) -> object:
    """A value as the disk store gives it back. Raises: EngineError when it cannot be stored."""
    from engine.diffusion import codecs  # only the check needs torch

    if not codecs.can_dump(value):
        raise EngineError(f"There is no codec for a {type(value).__name__}.")
    return codecs.load_value(codecs.dump_value(value))
