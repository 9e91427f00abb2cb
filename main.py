"""Weft's one command: `python3 main.py` sets itself up, starts, and makes a picture."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - says so in words, before the first import
    sys.exit(f"Weft needs Python 3.11 or newer; this is {sys.version.split()[0]}.")

from engine.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
