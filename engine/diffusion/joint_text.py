"""One prompt for each text encoder of SD3 and Flux."""

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

TITLES = {"sd3": "SD3", "flux": "Flux"}


def encode_joint(
    text: LoadedText,
    prompts: Mapping[str, str],
    family: str,
    *,
    drops_empty: bool = False,
    find_embedding: FindEmbedding | None = None,
    log: Callable[[str], None] | None = None,
) -> Encoded:
    """The embeds of a prompt for each encoder; those that the model lacks are passed over.

    `drops_empty`: an empty prompt gives no tokens at all rather than padding; CLIP-L and CLIP-G
    stand side by side, so that they are dropped together. Raises: NodeError, for another family.
    """
    if text.family != family:
        raise NodeError(
            f"The CLIP is that of the family {text.family}; this node is for {TITLES[family]}.",
            hint="Use CLIPTextEncode, or load the text encoders of that family.",
        )
    tokens: dict[str, Chunks] = {}
    for tower, prompt in prompts.items():
        if tower in text.towers:
            one = LoadedText(family=family, towers={tower: text.towers[tower]}, device=text.device)
            tokens |= tokenize(one, prompt, find_embedding=find_embedding, log=log)
    if drops_empty:
        dropped = [name for name in tokens if not prompts[name]]
        if not all(name in dropped for name in ("l", "g") if name in tokens):
            dropped = [name for name in dropped if name not in ("l", "g")]
        tokens |= {name: [] for name in dropped}
    return encode_tokens(text, tokens)
