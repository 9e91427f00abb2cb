"""Changes to captions: fixed edits before training, tag shuffle and dropout while it runs."""

from dataclasses import dataclass, replace

import numpy as np

from engine.api.errors import NodeError
from engine.diffusion.training.data.dataset import Dataset, Example, change


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionEdit:
    """What to do with each caption, in this order: replace, template, prefix and suffix.

    `template` may hold {caption} and {name} (the file's name without its ending).
    """

    find: str = ""
    replace_with: str = ""
    template: str = ""
    prefix: str = ""
    suffix: str = ""


def edited(dataset: Dataset, edit: CaptionEdit) -> Dataset:
    """The dataset with its captions changed."""
    return change(dataset, lambda example: replace(example, text=_text(example, edit)))


def _text(example: Example, edit: CaptionEdit) -> str:
    text = example.text.replace(edit.find, edit.replace_with) if edit.find else example.text
    if edit.template:
        # No str.format: braces in captions and templates are only text.
        text = edit.template.replace("{name}", example.path.stem).replace("{caption}", text)
    return f"{edit.prefix}{text}{edit.suffix}".strip()


def with_texts(dataset: Dataset, texts: list[str]) -> Dataset:
    """The dataset with new captions, one for each picture in its order, or one for all.

    Raises: NodeError when there are more or fewer.
    """
    if len(texts) == 1:
        texts = texts * len(dataset)
    if len(texts) != len(dataset):
        raise NodeError(
            f"There are {len(texts)} captions for {len(dataset)} pictures.",
            hint="Give one caption, or as many as there are pictures.",
        )
    pairs = zip(dataset.examples, texts, strict=True)
    return replace(dataset, examples=tuple(replace(e, text=text.strip()) for e, text in pairs))


def shuffled_tags(text: str, keep: int, random: np.random.Generator) -> str:
    """A caption of comma-separated tags in another order; the first `keep` stay where they are."""
    tags = [tag.strip() for tag in text.split(",") if tag.strip()]
    order = random.permutation(max(0, len(tags) - keep))
    return ", ".join((*tags[:keep], *(tags[keep + int(i)] for i in order)))
