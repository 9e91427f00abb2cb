"""LoRA tags in a prompt, as A1111 has them: `<lora:name:weight>`."""

import re
from dataclasses import dataclass

from engine.api.errors import NodeError

ENDINGS = (".safetensors", ".pt", ".ckpt", ".bin")
START = "<lora:"
_TAG = re.compile(r"\s*<lora:([^<>]*)>")
_PARTS = ("te", "unet")  # what a tag's numbers are for, in their order


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraTag:
    """A LoRA by name (its path below the folder, without the ending) and its two strengths."""

    name: str
    model: float
    clip: float

    @property
    def file_names(self) -> tuple[str, ...]:
        """What its file may be called."""
        return tuple(self.name + ending for ending in ("", *ENDINGS))


def lora_tags(text: str) -> tuple[LoraTag, ...]:
    """The tags of a text, in its order.

    `<lora:a>` is at strength 1; `<lora:a:0.5>` at 0.5; `<lora:a:0.5:0.8>` at 0.5 for the text
    encoder and 0.8 for the model, as is `<lora:a:te=0.5:unet=0.8>`. Raises: NodeError.
    """
    return tuple(_read(found[1]) for found in _TAG.finditer(text))


def without_lora_tags(text: str) -> str:
    """The text alone."""
    return _TAG.sub("", text).strip()


def _read(inside: str) -> LoraTag:
    name, *values = (part.strip() for part in inside.split(":"))
    strengths: dict[str, float] = {}
    try:
        if not name or len(values) > len(_PARTS):
            raise ValueError
        for part, value in zip(_PARTS, values, strict=False):
            key, is_named, number = value.rpartition("=")
            if is_named and key not in _PARTS:
                raise ValueError
            strengths[key or part] = float(number)
    except ValueError:
        raise NodeError(
            f"{START}{inside}> is no LoRA tag.",
            hint="Write <lora:name:weight>, or <lora:name:text weight:model weight>.",
        ) from None
    clip = strengths.get("te", strengths.get("unet", 1.0))
    return LoraTag(name=name, model=strengths.get("unet", clip), clip=clip)
