"""Vector graphics of packs are saved with their workflow inside."""

import io
import json
import xml.etree.ElementTree as Xml
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.api.errors import NodeError
from nodes.svg import save_svg
from tests.nodes.context import context

HEAD = b'<?xml version="1.0"?>'


@pytest.mark.parametrize("body", [b"<svg><g/></svg>", b'<svg width="4"/>'])
def test_a_document_keeps_its_content_and_gets_metadata(body: bytes, tmp_path: Path) -> None:
    prompt = {"1": {"class_type": "Tricky", "inputs": {"text": "a ]]> b <g>"}}}
    ctx = context(tmp_path, prompt=prompt)
    value: Any = SimpleNamespace(data=[io.BytesIO(HEAD + body), io.BytesIO(body)])
    shown = save_svg(value, "drawing", ctx=ctx).ui
    assert shown is not None
    assert len(shown["images"]) == 2
    for item in shown["images"]:
        root = Xml.fromstring((tmp_path / "output" / item["filename"]).read_bytes())
        metadata, *rest = root
        assert json.loads(metadata.text or "")["prompt"] == prompt
        assert [child.tag for child in rest] == (["g"] if b"<g/>" in body else [])


@pytest.mark.parametrize("value", ["text", SimpleNamespace(data=[io.BytesIO(b"<html/>")])])
def test_other_values_are_refused(value: Any, tmp_path: Path) -> None:
    with pytest.raises(NodeError, match="svg input"):
        save_svg(value, "drawing", ctx=context(tmp_path))
