"""Nodes that make and change latents."""

from typing import Annotated

from engine.api import Choice, Float, Int, Latent, Mask, Toggle, node
from engine.diffusion import image_ops, latent_ops
from engine.diffusion.latent_ops import FACTOR, fitted, resized
from nodes.image import ROTATIONS

LATENT_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "bislerp")
_Method = Annotated[str, Choice(LATENT_METHODS)]
_Size = Annotated[int, Int(512, min=16, max=16384, step=8)]
_Side = Annotated[int, Int(512, min=0, max=16384, step=8)]
_CropSide = Annotated[int, Int(512, min=64, max=16384, step=8)]
_Place = Annotated[int, Int(0, min=0, max=16384, step=8)]
_Amount = Annotated[int, Int(1, min=1, max=64)]


@node(
    "EmptyLatentImage",
    title="Empty Latent Image",
    category="latent",
    aliases=("EmptyLatent",),
    search=("EmptyLatent", "size"),
)
def empty_latent_image(
    width: _Size, height: _Size, batch_size: Annotated[int, Int(1, min=1, max=4096)]
) -> Latent:
    """A latent of zeros to start from."""
    return {"samples": latent_ops.empty(width, height, batch_size)}


@node("LatentUpscale", title="Upscale Latent", category="latent", search=("resize",))
def latent_upscale(
    samples: Latent,
    upscale_method: _Method,
    width: _Side,
    height: _Side,
    crop: Annotated[str, Choice(("disabled", "center"))],
) -> Latent:
    """Scales a latent to a picture size; a side of 0 keeps the proportions."""
    scaled = latent_ops.upscale(samples["samples"], width, height, upscale_method, crop)
    return resized(samples, scaled)


@node("LatentUpscaleBy", title="Upscale Latent By", category="latent", search=("resize",))
def latent_upscale_by(
    samples: Latent,
    upscale_method: _Method,
    scale_by: Annotated[float, Float(1.5, min=0.01, max=8.0, step=0.01)],
) -> Latent:
    """Scales a latent by a factor."""
    return resized(samples, latent_ops.upscale_by(samples["samples"], scale_by, upscale_method))


@node("LatentComposite", title="Latent Composite", category="latent")
def latent_composite(
    samples_to: Latent, samples_from: Latent, x: _Place, y: _Place, feather: _Place
) -> Latent:
    """Lays one latent over another, with a soft edge."""
    laid = latent_ops.paste(
        samples_to["samples"],
        samples_from["samples"],
        x // FACTOR,
        y // FACTOR,
        feather // FACTOR,
    )
    return resized(samples_to, laid)


@node("LatentCompositeMasked", category="latent")
def latent_composite_masked(
    destination: Latent,
    source: Latent,
    x: _Place,
    y: _Place,
    resize_source: Annotated[bool, Toggle(False)],
    mask: Mask | None = None,
) -> Latent:
    """Lays one latent over another, where a mask covers it."""
    latent_ops.check_same_channels(destination["samples"], source["samples"])
    laid = image_ops.composite(
        destination["samples"],
        source["samples"],
        x,
        y,
        mask,
        resize_source=resize_source,
        multiplier=FACTOR,
    )
    return resized(destination, laid)


@node("LatentBlend", title="Latent Blend", category="_for_testing")
def latent_blend(
    samples1: Latent,
    samples2: Latent,
    blend_factor: Annotated[float, Float(0.5, min=0, max=1, step=0.01)],
) -> Latent:
    """Mixes two latents; at 1 the first one stays."""
    mixed = latent_ops.blend(samples1["samples"], samples2["samples"], blend_factor)
    return resized(samples1, mixed)


@node("LatentAdd", category="latent/advanced")
def latent_add(samples1: Latent, samples2: Latent) -> Latent:
    """The sum of two latents."""
    first = samples1["samples"]
    return resized(samples1, first + fitted(first, samples2["samples"]))


@node("LatentSubtract", category="latent/advanced")
def latent_subtract(samples1: Latent, samples2: Latent) -> Latent:
    """The difference of two latents."""
    first = samples1["samples"]
    return resized(samples1, first - fitted(first, samples2["samples"]))


@node("LatentMultiply", category="latent/advanced")
def latent_multiply(
    samples: Latent, multiplier: Annotated[float, Float(1.0, min=-10.0, max=10.0, step=0.01)]
) -> Latent:
    """A latent times a number."""
    return resized(samples, samples["samples"] * multiplier)


@node("LatentInterpolate", category="latent/advanced")
def latent_interpolate(
    samples1: Latent,
    samples2: Latent,
    ratio: Annotated[float, Float(1.0, min=0.0, max=1.0, step=0.01)],
) -> Latent:
    """Turns one latent into another; at 1 the first one stays."""
    mixed = latent_ops.interpolate(samples1["samples"], samples2["samples"], ratio)
    return resized(samples1, mixed)


@node("LatentCrop", title="Crop Latent", category="latent/transform")
def latent_crop(
    samples: Latent, width: _CropSide, height: _CropSide, x: _Place, y: _Place
) -> Latent:
    """Cuts a rectangle out of a latent."""
    return resized(samples, latent_ops.crop(samples["samples"], width, height, x, y))


@node("LatentFlip", title="Flip Latent", category="latent/transform")
def latent_flip(
    samples: Latent,
    flip_method: Annotated[str, Choice(("x-axis: vertically", "y-axis: horizontally"))],
) -> Latent:
    """Mirrors a latent."""
    axis = 2 if flip_method.startswith("x") else 3
    return resized(samples, latent_ops.flip(samples["samples"], axis))


@node("LatentRotate", title="Rotate Latent", category="latent/transform")
def latent_rotate(samples: Latent, rotation: Annotated[str, Choice(ROTATIONS)]) -> Latent:
    """Turns a latent clockwise."""
    turned = latent_ops.rotate(samples["samples"], ROTATIONS.index(rotation))
    return resized(samples, turned)


@node("LatentBatch", category="latent/batch")
def latent_batch(samples1: Latent, samples2: Latent) -> Latent:
    """Joins two batches; the second is scaled to the size of the first."""
    return latent_ops.batch(samples1, samples2)


@node("LatentFromBatch", title="Latent From Batch", category="latent/batch")
def latent_from_batch(
    samples: Latent, batch_index: Annotated[int, Int(0, min=0, max=63)], length: _Amount
) -> Latent:
    """Takes some items of a batch; each keeps the noise it had there."""
    return latent_ops.from_batch(samples, batch_index, length)


@node("RepeatLatentBatch", title="Repeat Latent Batch", category="latent/batch")
def repeat_latent_batch(samples: Latent, amount: _Amount) -> Latent:
    """Repeats a batch; the copies get noise of their own."""
    return latent_ops.repeat_batch(samples, amount)


@node("SetLatentNoiseMask", title="Set Latent Noise Mask", category="latent/inpaint")
def set_latent_noise_mask(samples: Latent, mask: Mask) -> Latent:
    """Lets sampling change only what a mask covers."""
    return {**samples, "noise_mask": latent_ops.noise_mask(mask)}


NODES = [
    empty_latent_image,
    latent_upscale,
    latent_upscale_by,
    latent_composite,
    latent_composite_masked,
    latent_blend,
    latent_add,
    latent_subtract,
    latent_multiply,
    latent_interpolate,
    latent_crop,
    latent_flip,
    latent_rotate,
    latent_batch,
    latent_from_batch,
    repeat_latent_batch,
    set_latent_noise_mask,
]
