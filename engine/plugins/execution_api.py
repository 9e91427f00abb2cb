"""What packs import from `comfy_execution.graph` and `comfy_execution.graph_utils`."""

from engine.api.graph_builder import GraphBuilder, is_link

__all__ = ["ExecutionBlocker", "GraphBuilder", "is_link"]


class ExecutionBlocker:
    """An output value that stops every node that would use it, with or without a message."""

    def __init__(self, message: str | None) -> None:
        self.message = message
