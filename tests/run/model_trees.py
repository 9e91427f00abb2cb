"""Folders of models as other programs lay them out, with headers of the right kinds."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

KEYS = {
    "checkpoints": "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "loras": "lora_unet_down_blocks_0.lora_up.weight",
    "vae": "decoder.conv_in.weight",
    "controlnet": "control_model.input_hint_block.0.weight",
    "diffusion_models": "double_blocks.0.img_attn.qkv.weight",
    "text_encoders": "text_model.encoder.layers.0.mlp.fc1.weight",
    "clip_vision": "vision_model.encoder.layers.0.mlp.fc1.weight",
    "upscale_models": "body.0.rdb1.conv1.weight",
    "embeddings": "emb_params",
}


def put(path: Path, kind: str = "checkpoints") -> Path:
    """A safetensors file of that kind with one tensor of one number."""
    header = {KEYS[kind]: {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
    body = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(body).to_bytes(8, "little") + body + b"\1")
    return path


def put_hub(hub: Path, repository: str, file: str, digest: str, kind: str = "checkpoints") -> Path:
    """A file of the Hugging Face cache: a link in a snapshot to a blob of that name."""
    root = hub / f"models--{repository.replace('/', '--')}"
    blob = put(root / "blobs" / digest, kind)
    link = root / "snapshots" / "abc" / file
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(Path("../" * len(Path(file).parts), "..", "blobs", blob.name))
    (root / "refs").mkdir(exist_ok=True)
    (root / "refs" / "main").write_text("abc")
    return link


def put_invoke(root: Path, rows: list[dict[str, str]]) -> None:
    """InvokeAI's database with these models."""
    (root / "databases").mkdir(parents=True)
    with closing(sqlite3.connect(root / "databases" / "invokeai.db")) as connection:
        connection.execute("CREATE TABLE models (id TEXT, config TEXT)")
        connection.executemany(
            "INSERT INTO models VALUES (?, ?)",
            [(str(i), json.dumps(r)) for i, r in enumerate(rows)],
        )
        connection.commit()
