"""Editor documents become the prompts that the editor itself would send."""

import json
from pathlib import Path

import pytest

from engine.graph.catalogue import Catalogue, from_wire
from engine.graph.workflow import is_workflow, to_prompt

CORPUS = Path(__file__).parent.parent / "fixtures" / "workflows"
NAMES = sorted(p.name.removesuffix(".prompt.json") for p in CORPUS.glob("*.prompt.json"))


def read(name):
    return json.loads((CORPUS / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def catalogue():
    return Catalogue({name: from_wire(name, w) for name, w in read("object_info").items()})


@pytest.mark.parametrize("name", NAMES)
def test_corpus(name, catalogue):
    document = read(name)
    assert is_workflow(document)
    assert to_prompt(document, catalogue) == read(f"{name}.prompt")
