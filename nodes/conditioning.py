"""Nodes that make and change conditioning."""

from typing import Annotated

from engine.api import Clip, Conditioning, NodeError, RunContext, Text, node
from engine.api.recipe import Recipe
from engine.diffusion.text import encode


def _encoded(ctx: RunContext, clip: Recipe, text: str) -> Conditioning:
    with ctx.models.use(clip) as loaded:
        found = encode(loaded, text)
    return [(found.embeds, {"pooled_output": found.pooled})]


@node(
    "CLIPTextEncode",
    title="CLIP Text Encode (Prompt)",
    category="conditioning",
    aliases=("CLIPEncode",),
    search=("prompt", "text", "CLIPEncode"),
)
def clip_text_encode(
    text: Annotated[str, Text(multiline=True, dynamicPrompts=True)], clip: Clip, ctx: RunContext
) -> Conditioning:
    """Encodes a prompt, with weights such as `(word:1.2)`, for a model to follow."""
    if clip is None:  # pyright: ignore[reportUnnecessaryComparison] - a checkpoint may lack it
        raise NodeError(
            "The clip input is empty: the checkpoint has no text encoder.",
            hint="Load a checkpoint with a text encoder, or a CLIP file.",
        )
    return _encoded(ctx, clip, text)


NODES = [clip_text_encode]
