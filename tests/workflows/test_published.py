"""Workflows in the customary ways, on the customary files, run to a picture.

The documents in `published` are written from the format's rules. Run, they get fewer pixels and
steps than they ask for; what they ask for is only validated.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.config import Config
from engine.local import Weft
from tests.workflows.files import write_all

pytestmark = pytest.mark.slow

DOCUMENTS = sorted((Path(__file__).parent / "published").glob("*.json"))
# The node types that published workflows for SD1.x and SDXL use.
NODE_TYPES = """
    SaveImage CLIPTextEncode VAEDecode CheckpointLoaderSimple EmptyLatentImage KSampler
    LoraLoader KSamplerAdvanced LatentUpscale PreviewImage CLIPSetLastLayer LatentUpscaleBy
    UpscaleModelLoader ImageUpscaleWithModel VAEEncode ImageScale LoadImage
    ImageScaleToTotalPixels VAEEncodeForInpaint ImagePadForOutpaint ControlNetLoader
    ControlNetApplyAdvanced VAELoader Canny ConditioningSetArea ConditioningCombine
    GLIGENLoader GLIGENTextBoxApply CLIPVisionLoader CLIPVisionEncode unCLIPConditioning
    ConditioningZeroOut KSamplerSelect SamplerCustom SDTurboScheduler
"""
SHRINK, LEAST = 8, 64  # the sides in pixels
SIDES = ("width", "height", "x", "y", "top", "bottom")
STEPS = ("steps", "start_at_step", "end_at_step")


@pytest.fixture(scope="module")
def weft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weft]:
    base: Path = tmp_path_factory.mktemp("published")
    write_all(base)
    with Weft(Config(base_dir=base, precision="fp32", load_packs=False)) as weft:
        yield weft


def smaller(prompt: dict[str, Any]) -> None:
    """Fewer pixels and steps, in the same proportions."""
    for node in prompt.values():
        inputs = node["inputs"]
        for name in SIDES:
            if isinstance(inputs.get(name), int):
                least = LEAST if name in ("width", "height") else 0
                inputs[name] = max(inputs[name] // SHRINK, least)
        for name in STEPS:
            if inputs.get(name, 0) > 4:
                inputs[name] = -(-inputs[name] // 10)
        if "megapixels" in inputs:
            inputs["megapixels"] = 0.01


def test_the_set_covers_the_node_types_that_people_use() -> None:
    used: set[str] = set()
    for path in DOCUMENTS:
        document = json.loads(path.read_text())
        nodes = document["nodes"] if "nodes" in document else document.values()
        used |= {node.get("type") or node["class_type"] for node in nodes}
    assert sorted(used - {"Note"}) == sorted(NODE_TYPES.split())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_it_runs_to_a_picture(weft: Weft, path: Path) -> None:
    workflow = weft.load(path)
    assert workflow.problems() == ()
    smaller(workflow.prompt)
    result = workflow.run()
    saves = [
        n for n in workflow.prompt.values() if n["class_type"] in ("SaveImage", "PreviewImage")
    ]
    assert len(result.files) >= len(saves)
    for file in result.files:
        with Image.open(file) as picture:
            assert np.asarray(picture.convert("L")).std() > 1
