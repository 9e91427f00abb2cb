"""Reads the text encoders of SD3 and Flux: CLIP-L, CLIP-G and T5."""

from dataclasses import replace

from engine.api.errors import NotThisFamily
from engine.diffusion.families.base import T5Layout, TextLayout
from engine.diffusion.families.ldm import read_clip, read_open_clip, sizes
from engine.diffusion.weightfile import WeightFile

START = "text_encoders."


def read_t5(file: WeightFile, prefix: str, *, min_length: int) -> T5Layout | None:
    """The T5 v1.1 encoder under `prefix`, or None. Raises: NotThisFamily, for other T5s."""
    first = f"{prefix}encoder.block.0.layer."
    if f"{first}0.SelfAttention.q.weight" not in file:
        return None
    if f"{first}1.DenseReluDense.wi_0.weight" not in file:
        raise NotThisFamily("has a T5 of another version than 1.1 (its layers are not gated)")
    tokens = next(
        (n for n in T5_TOKENS if f"{prefix}{n}" in file),
        T5_TOKENS[0],
    )
    vocabulary, width = sizes(file, f"{prefix}{tokens}", 2)
    inner = sizes(file, f"{first}0.SelfAttention.q.weight", 2)[0]
    heads = sizes(file, f"{first}0.SelfAttention.relative_attention_bias.weight", 2)[1]
    if inner % heads:
        raise NotThisFamily(f"has a T5 of inner width {inner} for {heads} heads")
    layers = 0
    while f"{prefix}encoder.block.{layers}.layer.0.SelfAttention.q.weight" in file:
        layers += 1
    return T5Layout(
        name="t5xxl",
        prefix=prefix,
        width=width,
        layers=layers,
        heads=heads,
        head_width=inner // heads,
        mlp=sizes(file, f"{first}1.DenseReluDense.wi_0.weight", 2)[0],
        vocabulary=vocabulary,
        min_length=min_length,
    )


# The token table goes by either name; files may hold both.
T5_TOKENS = ("shared.weight", "encoder.embed_tokens.weight")


def sd3_towers(file: WeightFile, start: str = START) -> tuple[TextLayout | T5Layout, ...]:
    """The text encoders of SD3, as many as the file has, under its names for them.

    CLIP-L's pooled output is not projected.
    Source: Stability AI, sd3-ref (MIT), `SD3Tokenizer` and the text encoders beside it.
    """
    l_prefix, g_prefix = f"{start}clip_l.transformer.", f"{start}clip_g.transformer."
    small = read_clip(file, l_prefix, name="l")
    large = read_clip(file, g_prefix, name="g") or read_open_clip(file, g_prefix, name="g")
    t5 = read_t5(file, f"{start}t5xxl.transformer.", min_length=77)
    habits = {"layer": -2, "normalizes": False}
    towers = [
        None if small is None else replace(small, projection=None, **habits),
        None if large is None else replace(large, activation="gelu", pad_token=0, **habits),
        t5,
    ]
    return tuple(tower for tower in towers if tower is not None)


def flux_towers(file: WeightFile, start: str = START) -> tuple[TextLayout | T5Layout, ...]:
    """The text encoders of Flux, as many as the file has."""
    small = read_clip(file, f"{start}clip_l.transformer.", name="l")
    t5 = read_t5(file, f"{start}t5xxl.transformer.", min_length=256)
    towers = (None if small is None else replace(small, projection=None), t5)
    return tuple(tower for tower in towers if tower is not None)
