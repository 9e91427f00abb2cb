"""DreamBooth: a subject bound to a rare word, and its class kept by prior preservation.

Source: Ruiz et al. 2022 (arXiv:2208.12242) sections 3.1 to 3.3.
"""

from dataclasses import replace

from engine.api.errors import NodeError
from engine.diffusion.training.data.captions import with_texts
from engine.diffusion.training.data.dataset import Dataset, change, merge


def dreambooth_dataset(
    subject: Dataset, prompt: str, class_pictures: Dataset | None, class_prompt: str
) -> Dataset:
    """The subject's pictures and the class's, each under one prompt, or under their own captions
    where that prompt is empty.

    Raises: NodeError, when the class's pictures have neither prompt nor captions.
    """
    own = _captioned(subject, prompt)
    if class_pictures is None:
        return own
    of_class = _captioned(change(class_pictures, lambda e: replace(e, is_class=True)), class_prompt)
    if not any(e.text.strip() for e in of_class.examples):
        raise NodeError(
            "There are class pictures without captions, and class_prompt is empty.",
            hint="Give the prompt they were made with, such as 'a photo of a dog'.",
        )
    return merge((own, of_class))


def _captioned(dataset: Dataset, prompt: str) -> Dataset:
    return with_texts(dataset, [prompt]) if prompt.strip() else dataset
