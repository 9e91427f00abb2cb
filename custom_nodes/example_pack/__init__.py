"""The pack example_pack: two small nodes and their test, made to be copied.

A pack is a folder in `custom_nodes/` with an `__init__.py` that lists its nodes:

- `nodes.py` has the nodes. A node is a typed function with `@node`: its parameters are the inputs,
  its return type the output, its docstring the help that the editor shows.
- `test_nodes.py` calls them like any other function; it is run by
  `python3 main.py test custom_nodes/example_pack`.

`python3 main.py pack new NAME` copies this folder under a new name, `python3 main.py pack check
custom_nodes/NAME` tries its nodes, and `python3 main.py --dev` loads it again whenever you save a
file. Import only `engine.api` from Weft: it stays stable, everything else may move.
`docs/node-packs.md` tells the rest.
"""

from .nodes import mean_color, sharpen

NODES = [sharpen, mean_color]
