"""What does not fit together, as a user meets it: by `run` and by `POST /prompt`.

Each case says which node has to tell it, and in which words; nothing is sampled before.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.config import Config
from engine.diffusion.families import FAMILIES
from engine.local import RunFailed, Weft
from tests.e2e.server_process import ServerProcess
from tests.tiny_checkpoint import TINY_METADATA, write_tiny_control
from tests.tiny_families import write_family

pytestmark = pytest.mark.slow

Nodes = dict[str, dict[str, Any]]


def n(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def picture(checkpoint: str, more: Nodes, **links: Any) -> Nodes:
    """Text to image; `links` go into the sampler, or with `vae` and `clip` to those inputs."""
    how = {"seed": 1, "steps": 2, "cfg": 2.0, "sampler_name": "euler", "scheduler": "normal"}
    sampled = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "denoise": 1.0}
    clip, vae = links.pop("clip", ["4", 1]), links.pop("vae", ["4", 2])
    return {
        "3": n("KSampler", **how, **{**sampled, "latent_image": ["5", 0], **links}),
        "4": n("CheckpointLoaderSimple", ckpt_name=f"{checkpoint}.safetensors"),
        "5": n("EmptyLatentImage", width=64, height=64, batch_size=1),
        "6": n("CLIPTextEncode", text="a boat", clip=clip),
        "7": n("CLIPTextEncode", text="", clip=clip),
        "8": n("VAEDecode", samples=["3", 0], vae=vae),
        "9": n("SaveImage", images=["8", 0], filename_prefix="x"),
        **more,
    }


@dataclass(frozen=True, kw_only=True)
class Case:
    """A conflict: the node that tells it, and what it has to say."""

    name: str
    node: str
    words: tuple[str, ...]
    checkpoint: str = "sd1"
    more: Nodes = field(default_factory=dict)
    links: dict[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> Nodes:
        return picture(self.checkpoint, self.more, **self.links)


PICTURE = n("EmptyImage", width=64, height=64, batch_size=1, color=0)
EMPTY = n("EmptyLatentImage", width=64, height=64, batch_size=1)
OF_SD3 = n("EmptySD3LatentImage", width=64, height=64, batch_size=1)
XL = n("CheckpointLoaderSimple", ckpt_name="sdxl.safetensors")
TOKENIZER = ("T5 needs its tokenizer", "models/text_encoders/", "spiece.model")

CASES = (
    Case(
        name="a file of no family",
        checkpoint="odd",
        node="4",
        words=tuple(f"{family.title}: it has" for family in FAMILIES),
    ),
    Case(
        name="a LoRA of another family",
        checkpoint="sdxl",
        node="10",
        more={
            "10": n(
                "LoraLoader",
                model=["4", 0],
                clip=["4", 1],
                lora_name="sd1.safetensors",
                strength_model=1.0,
                strength_clip=1.0,
            )
        },
        links={"model": ["10", 0]},
        words=(
            "made for Stable Diffusion 1.x",
            "is Stable Diffusion XL",
            "0 fit (0%)",
            "Use a LoRA",
        ),
    ),
    Case(
        name="a ControlNet of another family",
        checkpoint="sdxl",
        node="3",
        more={
            "10": n("ControlNetLoader", control_net_name="sd1.safetensors"),
            "11": PICTURE,
            "12": n(
                "ControlNetApply",
                conditioning=["6", 0],
                control_net=["10", 0],
                image=["11", 0],
                strength=1.0,
            ),
        },
        links={"positive": ["12", 0]},
        words=(
            "sd1.safetensors was made for another family",
            "texts of 16",
            "texts of 32",
            "Use a",
        ),
    ),
    Case(
        name="a text of another family",
        node="3",
        more={"20": XL},
        links={"clip": ["20", 1]},
        words=("positive conditioning", "[1, 77, 32]", "[batch, tokens, 16]", "Encode the text"),
    ),
    Case(
        name="two texts of different families",
        node="22",
        more={
            "20": XL,
            "21": n("CLIPTextEncode", text="x", clip=["20", 1]),
            "22": n(
                "ConditioningAverage",
                conditioning_to=["6", 0],
                conditioning_from=["21", 0],
                conditioning_to_strength=0.5,
            ),
        },
        links={"positive": ["22", 0]},
        words=("[1, 77, 16]", "[1, 77, 32]", "same CLIP"),
    ),
    Case(
        name="a latent for another VAE",
        node="8",
        more={"5": OF_SD3, "8": n("VAEDecode", samples=["5", 0], vae=["4", 2])},
        words=("[1, 16, 8, 8]", "[batch, 4, height, width]", "Make the latent"),
    ),
    Case(
        name="a latent for another model",
        node="3",
        more={"5": n("LoadLatent", latent="of_flux.latent")},
        words=("[1, 16, 8, 8]", "[batch, 4, height, width]", "Make the latent"),
    ),
    Case(
        name="two latents of different kinds",
        node="5",
        more={
            "10": EMPTY,
            "11": OF_SD3,
            "5": n("LatentAdd", samples1=["10", 0], samples2=["11", 0]),
        },
        words=("[1, 4, 8, 8]", "[1, 16, 8, 8]", "same kind"),
    ),
    Case(
        name="two models of different families",
        node="21",
        more={"20": XL, "21": n("ModelMergeSimple", model1=["4", 0], model2=["20", 0], ratio=0.5)},
        links={"model": ["21", 0]},
        words=("sd1.safetensors", "sdxl.safetensors", "one family"),
    ),
    Case(
        name="NaN in a latent file",
        node="5",
        more={"5": n("LoadLatent", latent="nan.latent")},
        words=("nan.latent holds", "NaN"),
    ),
    Case(name="NaN from a UNet", checkpoint="nan_unet", node="3", words=("Step 1 of 2", "NaN")),
    Case(name="NaN from a decoder", checkpoint="nan_decoder", node="8", words=("Decoding", "NaN")),
    Case(
        name="NaN from an encoder",
        checkpoint="nan_encoder",
        node="5",
        more={"11": PICTURE, "5": n("VAEEncode", pixels=["11", 0], vae=["4", 2])},
        words=("Encoding gave", "NaN"),
    ),
    Case(name="NaN from a text encoder", checkpoint="nan_text", node="6", words=("text", "NaN")),
    Case(name="SD3 without T5's tokenizer", checkpoint="sd3", node="6", words=TOKENIZER),
    Case(name="Flux without T5's tokenizer", checkpoint="flux", node="6", words=TOKENIZER),
)

BROKEN = {
    "nan_unet": "model.diffusion_model.",
    "nan_decoder": "first_stage_model.decoder.",
    "nan_encoder": "first_stage_model.encoder.",
    "nan_text": "cond_stage_model.",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("conflicts")
    models = base / "models"
    for folder in ("models/loras", "models/controlnet", "input"):
        (base / folder).mkdir(parents=True)
    for family in ("sd1", "sdxl", "sd3", "flux"):
        write_family(models / "checkpoints" / f"{family}.safetensors", family)
    whole = load_file(models / "checkpoints/sd1.safetensors")
    for name, start in BROKEN.items():
        key = next(key for key in whole if key.startswith(start) and key.endswith("weight"))
        torn = {**whole, key: whole[key] * math.nan}
        save_file(torn, models / f"checkpoints/{name}.safetensors", metadata=TINY_METADATA)
    save_file({"a": torch.zeros(2)}, models / "checkpoints/odd.safetensors")
    write_tiny_control(models / "controlnet/sd1.safetensors")
    module = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k"
    ones = {"lora_up": torch.ones(64, 2), "lora_down": torch.ones(2, 768)}
    lora = {f"{module}.{role}.weight": tensor for role, tensor in ones.items()}
    save_file(lora, models / "loras/sd1.safetensors")
    for name, samples in (
        ("nan", torch.full((1, 4, 8, 8), math.nan)),
        ("of_flux", torch.ones(1, 16, 8, 8)),
    ):
        tensors = {"latent_tensor": samples, "latent_format_version_0": torch.zeros(0)}
        save_file(tensors, base / f"input/{name}.latent")
    return base


@pytest.fixture(scope="module")
def weft(base: Path) -> Iterator[Weft]:
    with Weft(Config(base_dir=base, precision="fp32", load_packs=False)) as weft:
        yield weft


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[ServerProcess]:
    with ServerProcess(base, "--precision", "fp32") as process:
        yield process


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_run_tells_it(weft: Weft, case: Case) -> None:
    with pytest.raises(RunFailed) as caught:
        weft.load(case.prompt).run()
    told = str(caught.value)
    assert told.startswith(f"Node {case.node} ({case.prompt[case.node]['class_type']})")
    for words in case.words:
        assert words in told


@pytest.mark.e2e
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_server_tells_it(server: ServerProcess, case: Case) -> None:
    entry = server.run(case.prompt)
    assert entry["status"]["status_str"] == "error"
    error = next(d for kind, d in entry["status"]["messages"] if kind == "execution_error")
    assert error["node_id"] == case.node
    told = f"{error['exception_message']} {error.get('weft_hint', '')}"
    for words in case.words:
        assert words in told


FITTED: dict[str, Nodes] = {
    "InpaintModelConditioning": {
        "10": n(
            "InpaintModelConditioning",
            positive=["6", 0],
            negative=["7", 0],
            vae=["4", 2],
            pixels=["11", 0],
            mask=["12", 0],
            noise_mask=True,
        ),
        "5": n("LatentFromBatch", samples=["10", 2], batch_index=0, length=1),
    },
    "VAEEncodeForInpaint": {
        "5": n(
            "VAEEncodeForInpaint", pixels=["11", 0], vae=["4", 2], mask=["12", 0], grow_mask_by=6
        )
    },
    "SetLatentNoiseMask": {
        "10": EMPTY,
        "5": n("SetLatentNoiseMask", samples=["10", 0], mask=["12", 0]),
    },
}


@pytest.mark.parametrize("name", FITTED)
def test_masks_of_another_size_are_fitted(weft: Weft, name: str) -> None:
    """As in the ecosystem, a mask of 32 x 48 pixels is no conflict with a picture of 64 x 64."""
    mask = n("SolidMask", value=1.0, width=32, height=48)
    result = weft.load(picture("sd1", {"11": PICTURE, "12": mask, **FITTED[name]})).run()
    assert result.images[0].size == (64, 64)
