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
    """The subject's pictures under one prompt, or their own captions where `prompt` is empty; and
    the class's pictures under theirs.

    Raises: NodeError, when the class's pictures have no prompt.
    """
    own = with_texts(subject, [prompt]) if prompt.strip() else subject
    if class_pictures is None:
        return own
    if not class_prompt.strip():
        raise NodeError(
            "There are class pictures, but class_prompt is empty.",
            hint="Give the prompt they were made with, such as 'a photo of a dog'.",
        )
    of_class = change(class_pictures, lambda e: replace(e, is_class=True))
    return merge((own, with_texts(of_class, [class_prompt])))
