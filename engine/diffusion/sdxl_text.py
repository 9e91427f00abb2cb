"""One prompt for each text tower of a model with several (SDXL)."""

from collections.abc import Callable, Mapping

from engine.api.errors import NodeError
from engine.diffusion.text import (
    Chunks,
    Encoded,
    FindEmbedding,
    LoadedText,
    encode_tokens,
    tokenize,
)


def encode_apart(
    text: LoadedText,
    prompts: Mapping[str, str],
    *,
    find_embedding: FindEmbedding | None = None,
    log: Callable[[str], None] | None = None,
) -> Encoded:
    """The embeds of a prompt for each tower; the shorter one is filled up with empty chunks.

    Raises: NodeError, if the model lacks one of the towers.
    """
    tokens: dict[str, Chunks] = {}
    for tower, prompt in prompts.items():
        if tower not in text.towers:
            raise NodeError(
                f"The CLIP has no text tower {tower}; it has {', '.join(text.towers)}.",
                hint="This node is for SDXL; use CLIPTextEncode.",
            )
        tokens[tower] = tokenize(text, prompt, find_embedding=find_embedding, log=log)[tower]
    return encode_tokens(text, tokens)
