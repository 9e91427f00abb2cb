"""Training a ControlNet on pictures with condition pictures; the base model stays as it is.

Source: Zhang et al. 2023, "Adding Conditional Control to Text-to-Image Diffusion Models"
(arXiv:2302.05543), sections 3.1 to 3.3.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from engine.api.errors import NodeError
from engine.api.recipe import FileRef, Recipe
from engine.diffusion.control_link import ControlLink
from engine.diffusion.controlnet import LoadedControl, fit_hint, new_control
from engine.diffusion.families.base import UnetLayout
from engine.diffusion.keymap import to_ldm
from engine.diffusion.training.base import Base
from engine.diffusion.training.data.dataset import Dataset
from engine.diffusion.training.data.pictures import read_rgb, to_pixels
from engine.diffusion.training.denoising import Noisy
from engine.diffusion.training.methods import FrozenText, Prepared, require_captions
from engine.diffusion.training.samples import sample_pictures
from engine.diffusion.training.settings import SampleSettings

HINT_WIDTHS = (16, 32, 96, 256)  # of the hint network, as all published ControlNets have them
_SHOWN = 3
_PREFIX = "control_model."


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A copy of the base's encoder half that learns to follow condition pictures.

    `condition_dropout` is the share of condition pictures that are left black.
    """

    condition_dropout: float = 0.0

    title = "ControlNet"
    folder = "controlnet"
    factors = ()
    extra_channels = (0,)

    def check(self, dataset: Dataset) -> None:
        require_conditions(dataset)
        require_captions(dataset)

    def prepare(self, base: Base, generator: torch.Generator) -> Prepared:
        layout = base.denoiser.layout
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(generator.initial_seed())
            control: Any = new_control(layout, 3, HINT_WIDTHS)
            scale_hint_weights(control)
        control.to(base.device)
        copy_encoder(base, control)
        control.requires_grad_(True)
        encode = FrozenText(base)
        loaded = LoadedControl(
            layout=layout, model=control, device=base.device, dtype=torch.float32
        )

        def predict(noisy: Noisy, generator: torch.Generator) -> Tensor:
            hint = noisy.data.conditions(noisy.draws)
            assert hint is not None, "checked before the run"
            is_dropped = torch.rand(len(hint), generator=generator) < self.condition_dropout
            hint[is_dropped] = 0
            down, middle = control(
                noisy.x.to(base.device),
                noisy.t.to(base.device),
                noisy.context,
                hint.to(base.device),
                class_labels=noisy.y,
                return_dict=False,
            )
            return base.predict(noisy.x, noisy.t, noisy.context, noisy.y, (down, middle))

        return Prepared(
            net=control,
            encode=encode,
            tensors=lambda: {
                key: value.detach().half().cpu()
                for key, value in to_ldm("control", control.state_dict()).items()
            },
            metadata=control_metadata(layout),
            predict=predict,
            pictures=lambda dataset, samples: _pictures(base, encode, loaded, dataset, samples),
        )


def require_conditions(dataset: Dataset) -> None:
    """Raises: NodeError, naming a picture that has no condition picture."""
    without = [e.path.name for e in dataset.examples if e.condition_path is None]
    if without:
        raise NodeError(
            f"{len(without)} of {len(dataset)} pictures have no condition picture, such as "
            f"{without[0]}: a ControlNet learns what to make of them.",
            hint="Give each one in the column 'conditioning_image' of metadata.jsonl, or make "
            "them of the pictures: Dataset to Images, Canny, Set Condition Images.",
        )


def copy_encoder(base: Base, control: Any) -> None:
    """Starts a ControlNet as the base's encoder half; its hint network stays as it is."""
    own = control.state_dict()
    unet = base.unet.state_dict()
    shared = {name: value for name, value in unet.items() if name in own}
    control.load_state_dict(shared, strict=False)


def scale_hint_weights(control: Any) -> None:
    """Weights of the hint network that let thin lines through: with torch's own, what differs
    between two edge maps is a thousandth of its output, and a short training never finds it.

    SiLU halves small values, so each layer doubles them. Source: He et al. 2015 (arXiv:1502.01852)
    eq. 10, with that gain.
    """
    hints = control.controlnet_cond_embedding
    for layer in (hints.conv_in, *hints.blocks):
        nn.init.normal_(layer.weight, std=2 / layer.weight[0].numel() ** 0.5)
        nn.init.zeros_(layer.bias)


def control_metadata(layout: UnetLayout) -> dict[str, str]:
    """What a loader of the file cannot infer from shapes."""
    sizes = {"weft.unet.norm_num_groups": str(layout.groups)}
    if layout.heads is not None:
        sizes["weft.unet.attention_heads"] = str(layout.heads)
    if layout.head_width is not None:
        sizes["weft.unet.head_width"] = str(layout.head_width)
    return sizes


def _pictures(
    base: Base,
    encode: FrozenText,
    loaded: LoadedControl,
    dataset: Dataset,
    samples: SampleSettings,
) -> Tensor:
    """Condition and result side by side, for the first pictures. Shapes: (N, H, 2 W, 3)."""
    recipe = Recipe(
        part="control", family="control", files=(FileRef(path="", digest="in training", name=""),)
    )
    space = base.denoiser.latent
    cells = (samples.size_px or base.denoiser.native_size) // space.factor
    rows: list[Tensor] = []
    for n, example in enumerate(dataset.examples[:_SHOWN]):
        assert example.condition_path is not None, "checked before the run"
        image = to_pixels(read_rgb(example.condition_path)).movedim(0, -1)[None]
        link = ControlLink(control=recipe, image=image, strength=1.0)
        options: Mapping[str, Any] = {"control": link, "control_apply_to_uncond": True}
        prompt = samples.prompts[n] if n < len(samples.prompts) else example.text
        picture = sample_pictures(
            base,
            encode,
            replace(samples, prompts=(prompt,)),
            options=options,
            controls={recipe.key: loaded},
        )
        rows.append(torch.cat([fit_hint(image, cells, cells).movedim(1, -1), picture], 2))
    return torch.cat(rows)
