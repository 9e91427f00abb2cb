"""Nodes that train new networks in a real run: what they make flows on over wires and works."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.config import ROOT, Config
from engine.local import Weft
from tests.tiny_checkpoint import write_tiny_checkpoint

pytestmark = pytest.mark.slow

Prompt = dict[str, dict[str, Any]]


@pytest.fixture
def weft(tmp_path: Path) -> Iterator[Weft]:
    write_tiny_checkpoint(tmp_path / "models" / "checkpoints" / "tiny.safetensors")
    with Weft(Config(base_dir=tmp_path)) as engine:
        yield engine


def run(weft: Weft, base: Path, prompt: Prompt) -> Any:
    (base / "prompt.json").write_text(json.dumps(prompt))
    return weft.load(base / "prompt.json").run()


def saved_size(base: Path, result: Any, node_id: str) -> tuple[int, int]:
    file = result.outputs[node_id]["images"][0]
    with Image.open(base / file["type"] / file["filename"]) as picture:
        return picture.size


def few(prompt: Prompt) -> Prompt:
    """The same workflow with a handful of pictures and steps."""
    for node in prompt.values():
        inputs = node["inputs"]
        if node["class_type"] == "ShapesDataset":
            inputs["count"] = 4
        if "steps" in inputs:
            inputs["steps"] = 2
        if "batch_size" in inputs:
            inputs["batch_size"] = 2
    return prompt


def test_the_recipe_of_a_new_model_runs_to_a_picture(weft: Weft, tmp_path: Path) -> None:
    recipe = json.loads((ROOT / "web" / "templates" / "new_model.json").read_text())
    result = run(weft, tmp_path, few(recipe))
    assert saved_size(tmp_path, result, "10") == (64, 64)
    assert (tmp_path / "models" / "vae" / "shapes-vae.safetensors").is_file()
    assert (tmp_path / "models" / "checkpoints" / "shapes.safetensors").is_file()
    shown = result.outputs["3"]["training"][0]
    assert (shown["step"], len(shown["samples"])) == (2, 2)


def test_companions_of_a_model_work_where_they_are_made(weft: Weft, tmp_path: Path) -> None:
    base = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "dataset": ["2", 0]}
    more = {"steps": 2, "seed": 1, "learning_rate": 1e-3, "caption_dropout": 0.1}
    sampling = {
        "seed": 1, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal",
        "denoise": 1.0,
    }  # fmt: skip
    prompt: Prompt = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny.safetensors"}},
        "2": {
            "class_type": "ShapesDataset",
            "inputs": {
                "count": 3, "size": 64, "content": "one object", "style": "plain", "shape": "any",
                "colour": "any", "background": "any", "edges": True, "seed": 1,
            },
        },
        "3": {
            "class_type": "TrainUpscaler",
            "inputs": {
                "dataset": ["2", 0], "name": "up", "scale": "2", "width": 8, "growth": 4,
                "blocks": 1, "crop_size": 16, "batch_size": 2, "steps": 2, "learning_rate": 1e-3,
                "seed": 1, "vae": ["1", 2],
            },
        },
        "4": {
            "class_type": "TrainControlNet",
            "inputs": {**base, **more, "name": "edges", "condition_dropout": 0.0},
        },
        "5": {
            "class_type": "TrainInpainting",
            "inputs": {**base, **more, "name": "holes", "masks": "random"},
        },
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a circle", "clip": ["1", 1]}},
        "7": {"class_type": "DatasetToImages", "inputs": {"dataset": ["2", 0]}},
        "8": {"class_type": "ImageFromBatch",
              "inputs": {"image": ["7", 0], "batch_index": 0, "length": 1}},
        "9": {
            "class_type": "ControlNetApplyAdvanced",
            "inputs": {
                "positive": ["6", 0], "negative": ["6", 0], "control_net": ["4", 0],
                "image": ["8", 0], "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0,
            },
        },
        "10": {"class_type": "EmptyLatentImage",
               "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "11": {
            "class_type": "KSampler",
            "inputs": {**sampling, "model": ["5", 0], "positive": ["9", 0], "negative": ["9", 1],
                       "latent_image": ["10", 0]},
        },
        "12": {"class_type": "VAEDecode", "inputs": {"samples": ["11", 0], "vae": ["5", 2]}},
        "13": {"class_type": "ImageUpscaleWithModel",
               "inputs": {"upscale_model": ["3", 0], "image": ["12", 0]}},
        "14": {"class_type": "SaveImage",
               "inputs": {"images": ["13", 0], "filename_prefix": "made"}},
    }  # fmt: skip
    result = run(weft, tmp_path, prompt)
    assert saved_size(tmp_path, result, "14") == (128, 128)
    for folder, name in (("upscale_models", "up"), ("controlnet", "edges"),
                         ("checkpoints", "holes")):  # fmt: skip
        assert (tmp_path / "models" / folder / f"{name}.safetensors").is_file()
        assert (tmp_path / "models" / folder / f"{name}.md").is_file()
    shown = result.outputs["4"]["training"][0]["samples"][-1]["images"]
    assert len(shown) == 3
