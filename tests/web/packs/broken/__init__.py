"""A pack that cannot be loaded."""

raise RuntimeError("this pack needs <b>another</b> one")
