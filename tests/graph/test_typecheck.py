"""Which output fits which input, and which names are typing errors."""

import pytest

from engine.graph.typecheck import fits, is_link_only
from engine.text.suggest import is_likely_typo, suggest


@pytest.mark.parametrize(
    ("output", "input", "does_fit"),
    [
        ("IMAGE", "IMAGE", True),
        ("IMAGE", "MASK", False),
        ("INT", "FLOAT", False),
        ("*", "MODEL", True),
        ("MODEL", "*", True),
        ("IMAGE", "IMAGE,MASK", True),
        ("MASK", "IMAGE, MASK", True),
        ("LATENT", "IMAGE,MASK", False),
        ("IMAGE,MASK", "MASK", True),
        ("IMAGE,MASK", "MASK,LATENT", True),
        ("IMAGE,MASK", "LATENT,MODEL", False),
        ("LATENT", "IMAGE,*", True),
        ("IMAGE,*", "LATENT", True),
        ("", "", True),
        ("IMAGE", "", False),
        ("IMAGE", ",", False),
    ],
)
def test_fits(output: str, input: str, does_fit: bool) -> None:
    assert fits(output, input) is does_fit


def test_link_only() -> None:
    assert is_link_only("IMAGE,MASK")
    assert not is_link_only("IMAGE,STRING")
    assert not is_link_only("PACK_COLOUR")
    assert not is_link_only("*")
    assert not is_link_only("")


@pytest.mark.parametrize(
    ("wrong", "right", "is_typo"),
    [
        ("stpes", "steps", True),
        ("Steps", "steps", True),
        ("negatve", "negative", True),
        ("sampler", "sampler_name", False),
        ("tekst", "text", True),
        ("max", "mask", False),
        ("a", "b", False),
        ("cgf", "cfg", True),
        ("image1", "image2", False),
        ("guidance_", "guidance", True),
        ("x" * 500, "y" * 500, False),
    ],
)
def test_typing_errors(wrong: str, right: str, is_typo: bool) -> None:
    assert is_likely_typo(wrong, right) is is_typo


def test_suggestions() -> None:
    known = ["KSampler", "KSamplerAdvanced", "SaveImage"]
    assert suggest("ksampler", known)[0] == "KSampler"
    assert suggest("SvaeImage", known) == ("SaveImage",)
    assert suggest("zzz", known) == ()
    assert suggest("", known) == ()
    assert suggest("x" * 10_000, known) == ()
