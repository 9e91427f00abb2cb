"""Nodes that make and change masks."""

from typing import Annotated

from engine.api import Choice, Float, Image, Int, Mask, Toggle, node
from engine.diffusion import mask_ops

_Extent = Annotated[int, Int(512, min=1, max=16384, step=1)]
_Place = Annotated[int, Int(0, min=0, max=16384, step=1)]


@node("SolidMask", category="mask")
def solid_mask(
    value: Annotated[float, Float(1.0, min=0.0, max=1.0, step=0.01)],
    width: _Extent,
    height: _Extent,
) -> Mask:
    """A mask of one value."""
    return mask_ops.solid(value, width, height)


@node("InvertMask", category="mask")
def invert_mask(mask: Mask) -> Mask:
    """The opposite of a mask."""
    return 1.0 - mask


@node("CropMask", category="mask")
def crop_mask(mask: Mask, x: _Place, y: _Place, width: _Extent, height: _Extent) -> Mask:
    """Cuts a rectangle out of a mask."""
    return mask_ops.crop(mask, x, y, width, height)


@node("MaskComposite", category="mask")
def mask_composite(
    destination: Mask,
    source: Mask,
    x: _Place,
    y: _Place,
    operation: Annotated[str, Choice(tuple(mask_ops.OPERATIONS))],
) -> Mask:
    """Combines two masks where the second lies over the first."""
    return mask_ops.combine(destination, source, x, y, operation)


@node("FeatherMask", category="mask")
def feather_mask(mask: Mask, left: _Place, top: _Place, right: _Place, bottom: _Place) -> Mask:
    """Lets a mask fade towards its edges."""
    return mask_ops.feather(mask, left, top, right, bottom)


@node("GrowMask", category="mask")
def grow_mask(
    mask: Mask,
    expand: Annotated[int, Int(0, min=-16384, max=16384, step=1)],
    tapered_corners: Annotated[bool, Toggle(True)],
) -> Mask:
    """Grows a mask, or shrinks it with a negative number."""
    return mask_ops.grow(mask, expand, has_tapered_corners=tapered_corners)


@node("ThresholdMask", category="mask")
def threshold_mask(
    mask: Mask, value: Annotated[float, Float(0.5, min=0.0, max=1.0, step=0.01)]
) -> Mask:
    """A mask of 0 and 1: 1 where the value is exceeded."""
    return mask_ops.threshold(mask, value)


@node("MaskToImage", title="Convert Mask to Image", category="mask")
def mask_to_image(mask: Mask) -> Image:
    """Shows a mask as grey pictures."""
    return mask_ops.to_image(mask)


@node("ImageToMask", title="Convert Image to Mask", category="mask")
def image_to_mask(image: Image, channel: Annotated[str, Choice(mask_ops.CHANNELS)]) -> Mask:
    """Takes one channel of pictures as a mask."""
    return mask_ops.from_channel(image, channel)


@node("ImageColorToMask", category="mask")
def image_color_to_mask(
    image: Image,
    color: Annotated[int, Int(0, min=0, max=0xFFFFFF, step=1, display="color")],
) -> Mask:
    """A mask of all pixels that have exactly a colour."""
    return mask_ops.from_colour(image, color)


NODES = [
    solid_mask,
    invert_mask,
    crop_mask,
    mask_composite,
    feather_mask,
    grow_mask,
    threshold_mask,
    mask_to_image,
    image_to_mask,
    image_color_to_mask,
]
