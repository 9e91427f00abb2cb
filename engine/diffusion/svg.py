"""SVG values of node packs: documents as bytes, and metadata inside them."""

import json
import re
from collections.abc import Mapping
from typing import Any

from engine.api.errors import NodeError

_ROOT = re.compile(rb"<svg\b[^>]*>", re.IGNORECASE)


def documents(value: Any) -> list[bytes]:
    """The documents of an SVG value: an object whose `data` is a list of open byte files.

    Raises: NodeError.
    """
    try:
        found = [bytes(item.getvalue()) for item in value.data]
    except AttributeError as error:
        raise NodeError(
            f"The svg input holds a {type(value).__name__}, not vector graphics.",
            hint="It takes the SVG output of a node; pictures are saved with Save Image.",
        ) from error
    if not all(_ROOT.search(item) for item in found):
        raise NodeError("The svg input holds a document without an <svg> element.")
    return found


def with_metadata(document: bytes, parts: Mapping[str, Any]) -> bytes:
    """A document with JSON in a metadata element, right after its root element begins."""
    text = json.dumps(parts).replace("]]>", "]]\\u003e")
    element = f"<metadata><![CDATA[{text}]]></metadata>".encode()
    root = _ROOT.search(document)
    assert root is not None, "documents() has looked for it"
    if root.group().endswith(b"/>"):
        head = root.group()[:-2] + b">" + element + b"</svg>"
        return document[: root.start()] + head + document[root.end() :]
    return document[: root.end()] + element + document[root.end() :]
