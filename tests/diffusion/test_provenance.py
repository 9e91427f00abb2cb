"""Which pictures are marked as made by a model, and how."""

from typing import Any
from xml.etree import ElementTree

import pytest

from engine.diffusion.provenance import EDITED, MADE, source_type, xmp_packet

LOADER = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}}
PICTURE = {"class_type": "LoadImage", "inputs": {"image": "a.png"}}


def graph(**nodes: Any) -> dict[str, Any]:
    return {**nodes, "save": {"class_type": "SaveImage", "inputs": {"images": ["last", 0]}}}


@pytest.mark.parametrize(
    ("nodes", "source"),
    [
        ({"last": {"class_type": "VAEDecode", "inputs": {"vae": ["1", 2]}}, "1": LOADER}, MADE),
        (
            {
                "last": {"class_type": "K", "inputs": {"model": ["1", 0], "pixels": ["2", 0]}},
                "1": LOADER,
                "2": PICTURE,
            },
            EDITED,
        ),
        (
            {  # the picture only guides
                "last": {"class_type": "K", "inputs": {"model": ["1", 0], "positive": ["3", 0]}},
                "3": {"class_type": "ControlNetApply", "inputs": {"image": ["2", 0]}},
                "1": LOADER,
                "2": PICTURE,
            },
            MADE,
        ),
        (
            {  # nothing but a smaller copy
                "last": {"class_type": "ImageScale", "inputs": {"image": ["2", 0]}},
                "2": PICTURE,
            },
            None,
        ),
        ({"last": {"class_type": "Loop", "inputs": {"image": ["last", 0]}}}, None),
    ],
)
def test_the_source_of_a_picture(nodes: dict[str, Any], source: str | None) -> None:
    assert source_type(graph(**nodes), "save") == source


def test_the_packet_is_the_standards_property() -> None:
    root = ElementTree.fromstring(xmp_packet(MADE).decode().split("?>", 1)[1].rsplit("<?", 1)[0])
    (description,) = root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    found = description.get("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
    assert found == "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def test_graphs_that_are_no_graphs_are_read_to_an_end() -> None:
    assert source_type({}, "9") is None
    assert source_type({"1": {"inputs": None}, "2": 3}, "1") is None
