"""How values of wires are told to people."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from engine.api.recipe import FileRef, Hook, Recipe, WeightPatch
from engine.diffusion.peek import MAX_CHANNELS, MAX_ENTRIES, PICTURE_PX, described


def entry_of(value: object, kind: str = "*") -> dict:
    told = described([value], kind)
    json.dumps(told)  # it goes over a link of JSON
    return told["entries"][0]


def picture_of(told: dict) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(told["data"])))


def test_an_image_is_shown_small_with_its_true_size():
    image = torch.zeros(2, 100, 640, 3)
    image[0, :, :, 0] = 1.0
    told = entry_of(image, "IMAGE")
    assert ("Size", "640 × 100") in told["facts"]
    first, second = (picture_of(p) for p in told["pictures"])
    assert first.size == (PICTURE_PX, 50)
    red, green, blue = np.asarray(first)[25, 100].tolist()
    assert red > 250 and green < 6 and blue < 6
    assert np.asarray(second.convert("RGB"))[25, 100].max() < 6
    assert told["pictures"][1]["words"] == "picture 2 of 2"


def test_a_mask_tells_how_much_it_covers():
    mask = torch.zeros(1, 8, 8)
    mask[:, :, :2] = 1
    told = entry_of(mask, "MASK")
    assert ("Covered", "25.0 %") in told["facts"]
    assert np.asarray(picture_of(told["pictures"][0]).convert("L"))[4, 0] > 250


@pytest.mark.parametrize("shape", [(1, 4, 8, 8), (2, 16, 4, 6), (1, 32, 3, 8, 8)])
def test_a_latent_shows_each_channel(shape: tuple[int, ...]):
    torch.manual_seed(0)
    samples = torch.randn(shape)
    told = entry_of({"samples": samples, "batch_index": [0]}, "LATENT")
    assert told["facts"][0] == ("Shape", f"{' × '.join(map(str, shape))} (float32)")
    assert f"{samples.std(correction=0):.3f}" in dict(told["facts"])["Mean, std"]
    assert dict(told["facts"])["Also holds"] == "batch_index"
    assert len(told["pictures"]) == min(shape[1], MAX_CHANNELS)
    assert picture_of(told["pictures"][0]).getextrema() == (0, 255)


def test_a_latent_with_a_noise_mask_shows_it_last():
    told = entry_of({"samples": torch.zeros(1, 4, 2, 2), "noise_mask": torch.ones(1, 1, 4, 4)})
    assert told["pictures"][-1]["words"] == "mask 1 of 1"


def test_sigmas_are_a_curve():
    told = entry_of(torch.tensor([14.6, 3.0, float("inf"), 0.0]), "SIGMAS")
    assert told["curve"][0] == pytest.approx(14.6)
    assert told["curve"][1:] == [3.0, None, 0.0]
    assert ("Steps", "3") in told["facts"]
    assert len(entry_of(torch.linspace(1, 0, 5000), "SIGMAS")["curve"]) <= 400


def test_a_conditioning_tells_shape_area_and_range():
    options = {
        "pooled_output": torch.zeros(1, 8),
        "area": (8, 16, 0, 4),
        "strength": 0.5,
        "start_percent": 0.25,
        "end_percent": 1.0,
        "mask": torch.ones(1, 4, 4),
        "of_a_pack": object(),
    }
    told = entry_of([(torch.zeros(1, 77, 8), options)], "CONDITIONING")
    facts = dict(told["facts"])
    assert facts["Text"] == "1 × 77 × 8 (float32)"
    assert facts["Area"] == "128 × 64 pixels from 32, 0"
    assert facts["Steps"] == "25 % to 100 %"
    assert facts["strength"] == "0.5"
    assert facts["Also holds"] == "of_a_pack"
    assert len(told["pictures"]) == 1
    both = entry_of([(torch.zeros(1, 77, 8), {}), (torch.zeros(1, 77, 8), {})])
    assert {"1: Text", "2: Text"} <= dict(both["facts"]).keys()


def test_a_recipe_tells_family_file_and_patches():
    file = FileRef(path="/m/loras/style.safetensors", digest="d" * 64)
    model = FileRef(path="/m/a.safetensors", digest="e" * 64, name="a.safetensors")
    recipe = (
        Recipe(part="denoiser", family="sdxl", files=(model,))
        .with_patch(WeightPatch(kind="lora", strength=0.8, file=file))
        .with_option("sampling_shift", 3.0)
        .with_hook(Hook(slot="cfg", function=print))
    )
    facts = entry_of(recipe, "MODEL")["facts"]
    assert ("Family", "sdxl") in facts
    assert ("File", "a.safetensors") in facts
    assert ("Patch", "lora style.safetensors at 0.8") in facts
    assert ("sampling shift", "3") in facts
    assert ("Hook", "cfg") in facts


@pytest.mark.parametrize(
    ("value", "fact"),
    [
        (7, ("Value", "7")),
        (True, ("Value", "True")),
        ("a cat", ("Letters", "5")),
        (object(), ("Kind", "object")),
        (torch.tensor(3.0), ("Shape", "a single number (float32)")),
        (torch.zeros(0, 3), ("Values", "none")),
        ({"a": torch.zeros(2)}, ("a", "2 (float32)")),
    ],
)
def test_anything_else_is_told_in_words(value: object, fact: tuple[str, str]):
    assert fact in entry_of(value)["facts"]


def test_plain_data_is_shown_as_json_and_long_text_is_cut():
    assert json.loads(entry_of({"a": [1, None]})["text"]) == {"a": [1, None]}
    assert len(entry_of("x" * 100_000)["text"]) < 5000


def test_of_many_values_the_first_are_shown():
    told = described(list(range(100)), "INT")
    assert told["count"] == 100
    assert len(told["entries"]) == MAX_ENTRIES


def test_the_value_stays_as_it_is():
    image = torch.full((1, 4, 4, 3), 2.0)
    described([image], "IMAGE")
    assert torch.equal(image, torch.full((1, 4, 4, 3), 2.0))
