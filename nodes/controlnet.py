"""Nodes that let a picture steer sampling."""

from typing import Annotated

from engine.api import (
    Choice,
    Conditioning,
    ControlNet,
    Float,
    Image,
    Model,
    RunContext,
    Vae,
    node,
)
from engine.diffusion.checkpoint import open_controlnet
from engine.diffusion.control_link import ControlLink, with_control
from engine.diffusion.controlnet import UNION_TYPES, with_union_type
from engine.diffusion.patches import open_control_difference

_CATEGORY = "conditioning/controlnet"
_Strength = Annotated[float, Float(1.0, min=0.0, max=10.0, step=0.01)]


@node("ControlNetLoader", title="Load ControlNet Model", category="loaders")
def load_controlnet(
    control_net_name: Annotated[str, Choice(folder="controlnet")], ctx: RunContext
) -> ControlNet:
    """Opens a ControlNet file."""
    path = ctx.files.resolve("controlnet", control_net_name)
    return open_controlnet(path, ctx.files.digest(path), control_net_name)


@node("DiffControlNetLoader", title="Load ControlNet Model (diff)", category="loaders")
def load_controlnet_difference(
    model: Model,
    control_net_name: Annotated[str, Choice(folder="controlnet")],
    ctx: RunContext,
) -> ControlNet:
    """Opens a ControlNet file that holds only its difference from a model; whole ones stay."""
    path = ctx.files.resolve("controlnet", control_net_name)
    return open_control_difference(path, ctx.files.digest(path), control_net_name, model)


@node("SetUnionControlNetType", title="SetUnionControlNetType", category=_CATEGORY)
def set_union_controlnet_type(
    control_net: ControlNet,
    type: Annotated[str, Choice(UNION_TYPES)],
    ctx: RunContext,
) -> ControlNet:
    """Tells a ControlNet for several kinds of pictures which kind it gets."""
    with ctx.models.use(control_net) as loaded:
        layout = loaded.layout
    return with_union_type(control_net, layout, type)


@node("ControlNetApply", title="Apply ControlNet (OLD)", category=_CATEGORY, is_deprecated=True)
def controlnet_apply(
    conditioning: Conditioning, control_net: ControlNet, image: Image, strength: _Strength
) -> Conditioning:
    """Lets a picture steer a prompt, and the negative prompt with it."""
    if strength == 0:
        return conditioning
    link = ControlLink(control=control_net, image=image, strength=strength)
    (changed,) = with_control([conditioning], link, covers_uncond=True)
    return changed


@node(
    "ControlNetApplyAdvanced",
    title="Apply ControlNet",
    category=_CATEGORY,
    output_names=("positive", "negative"),
)
def controlnet_apply_advanced(
    positive: Conditioning,
    negative: Conditioning,
    control_net: ControlNet,
    image: Image,
    strength: _Strength,
    start_percent: Annotated[float, Float(0.0, min=0.0, max=1.0, step=0.001)],
    end_percent: Annotated[float, Float(1.0, min=0.0, max=1.0, step=0.001)],
    vae: Vae | None = None,
) -> tuple[Conditioning, Conditioning]:
    """Lets a picture steer both prompts, in a part of the sampling process."""
    if strength == 0:
        return positive, negative
    link = ControlLink(
        control=control_net,
        image=image,
        strength=strength,
        start_percent=start_percent,
        end_percent=end_percent,
    )
    first, second = with_control([positive, negative], link, covers_uncond=False)
    return first, second


@node(
    "ControlNetApplySD3",
    title="Apply Controlnet with VAE",
    category=_CATEGORY,
    output_names=("positive", "negative"),
    is_deprecated=True,
)
def controlnet_apply_sd3(
    positive: Conditioning,
    negative: Conditioning,
    control_net: ControlNet,
    vae: Vae,
    image: Image,
    strength: _Strength,
    start_percent: Annotated[float, Float(0.0, min=0.0, max=1.0, step=0.001)],
    end_percent: Annotated[float, Float(1.0, min=0.0, max=1.0, step=0.001)],
) -> tuple[Conditioning, Conditioning]:
    """The older form of Apply ControlNet that asks for a VAE."""
    return controlnet_apply_advanced(
        positive, negative, control_net, image, strength, start_percent, end_percent, vae
    )


NODES = [
    load_controlnet,
    load_controlnet_difference,
    set_union_controlnet_type,
    controlnet_apply,
    controlnet_apply_advanced,
    controlnet_apply_sd3,
]
