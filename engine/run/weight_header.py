"""What the header of a safetensors file tells: the family, and the kind of model it is.

Reads names and shapes only, never weights, and needs no torch.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

Json = dict[str, Any]

SAFE = (".safetensors", ".sft")
_MAX_HEADER_BYTES = 100 * 1024 * 1024

# A tensor that only checkpoints of this family have, the most telling first; the families' names
# are those of engine.diffusion.families.
_MARKS: Mapping[str, str] = {
    "noise_augmentor.data_mean": "sd2_unclip",
    "model.diffusion_model.label_emb.weight": "sd_x4_upscaler",
    "conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight": "sdxl",
    "conditioner.embedders.0.model.transformer.resblocks.0.attn.in_proj_weight": "sdxl_refiner",
    "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight": "sd2",
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight": "sd1",
    "model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": "sd3",
    "model.diffusion_model.double_blocks.0.img_attn.qkv.weight": "flux",
    "double_blocks.0.img_attn.qkv.weight": "flux",
    "joint_blocks.0.x_block.attn.qkv.weight": "sd3",
}
_BASES: Mapping[str, str] = {  # what LoRA files and others say in their metadata
    "stable-diffusion-v1": "sd1",
    "stable-diffusion-v2": "sd2",
    "stable-diffusion-xl-v1-base": "sdxl",
    "sd_v1": "sd1",
    "sd_v2": "sd2",
    "sdxl_base_v1-0": "sdxl",
    "flux-1-dev": "flux",
    "sd1": "sd1",  # what models trained here say
}

# Parts of tensor names that only this kind of model has, the most telling first.
_KIND_MARKS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("loras", re.compile(r"lora_(up|down|A|B)\b|\.hada_w1|\.lokr_w[12]|^lora_(unet|te)")),
    ("controlnet", re.compile(r"^control_model\.|controlnet_|input_hint_block|^body\.0\.in_conv")),
    ("checkpoints", re.compile(r"^(cond_stage_model|conditioner|first_stage_model)\..*")),
    ("gligen", re.compile(r"^position_net\.|\.fuser\.")),
    ("diffusion_models", re.compile(r"^(model\.diffusion_model\.)?(double_blocks|joint_blocks)\.")),
    ("diffusion_models", re.compile(r"^(model\.diffusion_model\.)?input_blocks\.0\.0\.")),
    ("diffusion_models", re.compile(r"^(time_embedding\.|time_text_embed\.)")),
    ("clip_vision", re.compile(r"^(vision_model|visual)\.")),
    ("text_encoders", re.compile(r"text_model\.encoder\.layers|\.SelfAttention\.|resblocks\.")),
    ("vae", re.compile(r"^(decoder\.conv_in|encoder\.conv_in)\.weight")),
    ("upscale_models", re.compile(r"(?i)(^|\.)rdb1\.conv1|\.sub\.0\.")),
    ("embeddings", re.compile(r"^(emb_params|clip_[lg])$")),
)


def read_header(path: Path) -> Json:
    """The header of a safetensors file. Raises: OSError, ValueError, RecursionError."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if not 2 <= size <= min(_MAX_HEADER_BYTES, path.stat().st_size - 8):
            raise ValueError("no header")
        header: object = json.loads(file.read(size))
    if not isinstance(header, dict):
        raise ValueError("no object")
    return cast(Json, header)


def family_of(path: Path) -> tuple[str, str]:
    """(family, problem) as the header of a safetensors file tells; empty where it does not."""
    if path.suffix not in SAFE:
        return "", ""
    try:
        header = read_header(path)
    except (OSError, ValueError, RecursionError):
        return "", "It is no whole safetensors file."
    metadata: object = header.get("__metadata__")
    told = cast(Json, metadata) if isinstance(metadata, dict) else {}
    mark = next((family for key, family in _MARKS.items() if key in header), "")
    names = (
        told.get(k) for k in ("weft.family", "modelspec.architecture", "ss_base_model_version")
    )
    base = next((_BASES[n.split("/")[0]] for n in map(str, names) if n.split("/")[0] in _BASES), "")
    return mark or base, ""


def kind_of(path: Path) -> str | None:
    """The kind of models that a safetensors file belongs to; None where the header tells none."""
    if path.suffix.lower() not in SAFE:
        return None
    try:
        names = [name for name in read_header(path) if name != "__metadata__"]
    except (OSError, ValueError, RecursionError):
        return None
    for kind, mark in _KIND_MARKS:
        if any(mark.search(name) for name in names):
            return _checked(kind, names)
    return None


def _checked(kind: str, names: list[str]) -> str:
    """A VAE saved under a checkpoint's names is a VAE."""
    if kind == "checkpoints" and all(name.startswith("first_stage_model.") for name in names):
        return "vae"
    return kind
