"""What packs import from `comfy_api.latest`."""

from engine.plugins.model_facade import MissingHostSymbol
from engine.plugins.schema_api import io, ui

__all__ = ["ComfyExtension", "io", "ui"]

IO = io
UI = ui


class ComfyExtension:
    """A pack's list of nodes, given back by its `comfy_entrypoint()`."""

    async def on_load(self) -> None:
        """Called once when the pack is loaded."""

    async def get_node_list(self) -> "list[type[io.ComfyNode]]":
        """The node classes of the pack."""
        raise NotImplementedError(f"{type(self).__name__} has no get_node_list().")


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(name)
    raise MissingHostSymbol(f"comfy_api.latest.{name} is not offered (missing host symbol).")
