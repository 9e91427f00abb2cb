"""`python3 main.py nodes`: list node types, explain one, and allow packs."""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence

from engine.api.errors import EngineError
from engine.api.spec import NodeSpec
from engine.cli import say
from engine.config import Config
from engine.launch_flags import add_folder_flags, add_run_flags, config_of
from engine.local import Weft
from engine.plugins.packs import PackState, allow_packs
from engine.text.suggest import suggest


def main(argv: Sequence[str]) -> int:
    """List node types, or one with all of its inputs; or allow packs to be loaded."""
    parser = argparse.ArgumentParser(prog="main.py nodes", description=__doc__)
    parser.add_argument("name", nargs="?", help="explain this node type")
    parser.add_argument("--allow", nargs="+", metavar="PACK", help="allow packs as they are now")
    parser.add_argument("--json", action="store_true", help="specs as JSON")
    add_folder_flags(parser)
    add_run_flags(parser)
    options = parser.parse_args(argv)
    config = config_of(options)
    if options.allow:
        return allow(config, options.allow)
    with Weft(config) as weft:
        specs = list(weft.specs)
        for report in weft.packs:
            if report.state is not PackState.LOADED:
                say(f"pack {report.name}: {report.state}. {report.error} {report.hint}".rstrip())
    if options.name:
        specs = [find(specs, options.name)]
    if options.json:
        sys.stdout.write(json.dumps([s.to_json() for s in specs], indent=2) + "\n")
    elif options.name:
        sys.stdout.write(explain(specs[0]))
    else:
        sys.stdout.write(overview(specs))
    return 0


def allow(config: Config, names: Sequence[str]) -> int:
    """Allow packs with their present contents."""
    allowed = allow_packs([config.custom_nodes_dir], config.state_dir, names)
    sys.stdout.write(f"Allowed: {', '.join(allowed)}. Restart a running server to load them.\n")
    return 0


def find(specs: Iterable[NodeSpec], name: str) -> NodeSpec:
    """The spec of a node type by name or alias. Raises: EngineError with close names."""
    by_name = {n: s for s in specs for n in (s.name, *s.aliases)}
    if name not in by_name:
        close = ", ".join(suggest(name, by_name))
        raise EngineError(
            f"There is no node type {name}.", hint=f"Did you mean {close}?" if close else ""
        )
    return by_name[name]


def overview(specs: Iterable[NodeSpec]) -> str:
    """All node types by category, each with the first line of its help."""
    categories: dict[str, list[NodeSpec]] = defaultdict(list)
    for spec in specs:
        categories[spec.category].append(spec)
    lines: list[str] = []
    for category in sorted(categories):
        lines.append(category)
        for spec in sorted(categories[category], key=lambda s: s.name):
            help_line = spec.description.partition("\n")[0]
            lines.append(f"  {spec.name:32} {help_line}"[:118].rstrip())
    return "\n".join(lines) + "\n"


def explain(spec: NodeSpec) -> str:
    """One node type with its help, inputs and outputs."""
    lines = [f"{spec.name} ({spec.category}, pack {spec.pack})", "", spec.description, ""]
    for item in spec.inputs:
        limits = {k: v for k, v in item.options.items() if k in ("default", "min", "max", "step")}
        text = " ".join(f"{k}={v!r}" for k, v in limits.items())
        lines.append(f"  in   {item.name:20} {item.type:14} {item.kind:9} {text}".rstrip())
    lines += [f"  out  {o.name:20} {o.type}" for o in spec.outputs]
    return "\n".join(lines) + "\n"
