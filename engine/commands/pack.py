"""`python3 main.py pack`: make a node pack with a test, or check one."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.launch_flags import add_folder_flags, config_of
from engine.plugins.pack_tools import check_pack, new_pack


def main(argv: Sequence[str]) -> int:
    """Make or check a pack; 1 when the check finds something."""
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
    findings = check_pack(path)
    for finding in findings:
        sys.stdout.write(f"{finding}\n")
    sys.stdout.write(f"{len(findings)} findings.\n" if findings else "Nothing to complain about.\n")
    return 1 if findings else 0
