"""Nodes that change pictures."""

from typing import Annotated

from engine.api import Choice, Float, Image, Int, Mask, NodeOutput, Toggle, node
from engine.diffusion import image_ops, mask_ops
from engine.diffusion.scaling import METHODS

IMAGE_METHODS = METHODS[:5]
_UPSCALE = "image/upscaling"
_POST = "image/postprocessing"
_TRANSFORM = "image/transform"
_Method = Annotated[str, Choice(IMAGE_METHODS)]
_Side = Annotated[int, Int(512, min=0, max=16384, step=1)]
_Extent = Annotated[int, Int(512, min=1, max=16384, step=1)]
_Place = Annotated[int, Int(0, min=0, max=16384, step=1)]
_Border = Annotated[int, Int(0, min=0, max=16384, step=8)]
_Count = Annotated[int, Int(1, min=1, max=4096)]


@node("ImageScale", title="Upscale Image", category=_UPSCALE, search=("resize",))
def image_scale(
    image: Image,
    upscale_method: _Method,
    width: _Side,
    height: _Side,
    crop: Annotated[str, Choice(("disabled", "center"))],
) -> Image:
    """Scales pictures to a size; a side of 0 keeps the proportions."""
    return image_ops.resize(image, width, height, upscale_method, crop)


@node("ImageScaleBy", title="Upscale Image By", category=_UPSCALE, search=("resize",))
def image_scale_by(
    image: Image,
    upscale_method: _Method,
    scale_by: Annotated[float, Float(1.0, min=0.01, max=8.0, step=0.01)],
) -> Image:
    """Scales pictures by a factor."""
    return image_ops.resize_by(image, scale_by, upscale_method)


@node("ImageScaleToTotalPixels", category=_UPSCALE, search=("resize",))
def image_scale_to_total_pixels(
    image: Image,
    upscale_method: _Method,
    megapixels: Annotated[float, Float(1.0, min=0.01, max=16.0, step=0.01)],
) -> Image:
    """Scales pictures to a number of pixels; one megapixel is 1024 x 1024."""
    return image_ops.resize_to_pixels(image, megapixels, upscale_method)


@node("ImageScaleToMaxDimension", category=_UPSCALE, search=("resize",))
def image_scale_to_max_dimension(
    image: Image,
    upscale_method: Annotated[
        str, Choice(("area", "lanczos", "bilinear", "nearest-exact", "bilinear", "bicubic"))
    ],
    largest_size: _Side,
) -> Image:
    """Scales pictures so that their longer side has a size."""
    return image_ops.resize_longest(image, largest_size, upscale_method)


@node("ImageInvert", title="Invert Image", category="image")
def image_invert(image: Image) -> Image:
    """The negative of pictures."""
    return 1.0 - image


@node("ImageBlend", category=_POST)
def image_blend(
    image1: Image,
    image2: Image,
    blend_factor: Annotated[float, Float(0.5, min=0.0, max=1.0, step=0.01)],
    blend_mode: Annotated[str, Choice(tuple(image_ops.BLENDS))],
) -> Image:
    """Mixes two pictures by a blend mode."""
    return image_ops.blend(image1, image2, blend_factor, blend_mode)


@node("ImageBlur", category=_POST)
def image_blur(
    image: Image,
    blur_radius: Annotated[int, Int(1, min=1, max=31, step=1)],
    sigma: Annotated[float, Float(1.0, min=0.1, max=10.0, step=0.1)],
) -> Image:
    """Blurs pictures."""
    return image_ops.blur(image, blur_radius, sigma)


@node("ImageSharpen", category=_POST)
def image_sharpen(
    image: Image,
    sharpen_radius: Annotated[int, Int(1, min=1, max=31, step=1)],
    sigma: Annotated[float, Float(1.0, min=0.1, max=10.0, step=0.01)],
    alpha: Annotated[float, Float(1.0, min=0.0, max=5.0, step=0.01)],
) -> Image:
    """Sharpens pictures."""
    return image_ops.sharpen(image, sharpen_radius, sigma, alpha)


@node("ImageQuantize", category=_POST)
def image_quantize(
    image: Image,
    colors: Annotated[int, Int(256, min=1, max=256, step=1)],
    dither: Annotated[
        str, Choice(("none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"))
    ],
) -> Image:
    """Limits pictures to a number of colours."""
    return image_ops.quantize(image, colors, dither)


@node("ImageCrop", title="Image Crop", category=_TRANSFORM)
def image_crop(image: Image, width: _Extent, height: _Extent, x: _Place, y: _Place) -> Image:
    """Cuts a rectangle out of pictures."""
    return image_ops.crop(image, width, height, x, y)


_Flip = Annotated[str, Choice(("x-axis: vertically", "y-axis: horizontally"))]
ROTATIONS = ("none", "90 degrees", "180 degrees", "270 degrees")
_Rotation = Annotated[str, Choice(ROTATIONS)]


@node("ImageFlip", category=_TRANSFORM)
def image_flip(image: Image, flip_method: _Flip) -> Image:
    """Mirrors pictures."""
    return image_ops.flip(image, [1] if flip_method.startswith("x") else [2])


@node("ImageRotate", category=_TRANSFORM)
def image_rotate(image: Image, rotation: _Rotation) -> Image:
    """Turns pictures clockwise."""
    return image_ops.rotate(image, ROTATIONS.index(rotation))


@node("ImageBatch", title="Batch Images", category="image")
def image_batch(image1: Image, image2: Image) -> Image:
    """Joins two batches; the second is scaled to the size of the first."""
    return image_ops.batch(image1, image2)


@node("ImageFromBatch", category="image/batch")
def image_from_batch(
    image: Image, batch_index: Annotated[int, Int(0, min=0, max=4095)], length: _Count
) -> Image:
    """Takes some pictures out of a batch."""
    return image_ops.from_batch(image, batch_index, length)


@node("RepeatImageBatch", category="image/batch")
def repeat_image_batch(image: Image, amount: _Count) -> Image:
    """Repeats a batch."""
    return image.repeat(amount, 1, 1, 1)


@node("EmptyImage", category="image")
def empty_image(
    width: _Extent,
    height: _Extent,
    batch_size: _Count,
    color: Annotated[int, Int(0, min=0, max=0xFFFFFF, step=1, display="color")],
) -> Image:
    """Pictures of one colour."""
    return image_ops.solid(width, height, batch_size, color)


@node(
    "GetImageSize",
    title="Get Image Size",
    category="image",
    output_names=("width", "height", "batch_size"),
)
def get_image_size(image: Image) -> tuple[int, int, int]:
    """The size of pictures and their number."""
    count, height, width = image.shape[:3]
    return width, height, count


@node(
    "CompareImages",
    title="Compare Images (PSNR)",
    category="image",
    is_output=True,
    search=("PSNR", "likeness", "difference", "measure"),
    output_names=("psnr", "text"),
)
def compare_images(images: Image, truth: Image) -> Annotated[NodeOutput, float, str]:
    """Measures in dB how near pictures are to their true versions, such as a decoded picture to the
    one that was encoded: above 30 they look alike, above 40 the same. The mean, and each."""
    each = image_ops.psnr(images, truth)
    mean = float(each.mean())
    text = f"{mean:.2f} dB ({len(each)} pictures, {each.min():.2f} to {each.max():.2f})"
    return NodeOutput(result=(mean, text), ui={"text": (text,)})


@node("ImagePadForOutpaint", title="Pad Image for Outpainting", category="image")
def image_pad_for_outpaint(
    image: Image,
    left: _Border,
    top: _Border,
    right: _Border,
    bottom: _Border,
    feathering: Annotated[int, Int(40, min=0, max=16384, step=1)],
) -> tuple[Image, Mask]:
    """Adds a border to pictures, with a mask of what is to be painted."""
    return image_ops.pad_for_outpaint(image, left, top, right, bottom, feathering)


@node("ImageCompositeMasked", category="image")
def image_composite_masked(
    destination: Image,
    source: Image,
    x: _Place,
    y: _Place,
    resize_source: Annotated[bool, Toggle(False)],
    mask: Mask | None = None,
) -> Image:
    """Lays one picture over another, where a mask covers it."""
    return image_ops.composite_images(destination, source, x, y, mask, resize_source=resize_source)


@node("SplitImageWithAlpha", title="Split Image with Alpha", category="mask/compositing")
def split_image_with_alpha(image: Image) -> tuple[Image, Mask]:
    """Parts pictures from their transparency; the mask is 1 where they are transparent."""
    return image[..., :3], 1.0 - mask_ops.from_channel(image, "alpha")


@node("JoinImageWithAlpha", title="Join Image with Alpha", category="mask/compositing")
def join_image_with_alpha(image: Image, alpha: Mask) -> Image:
    """Gives pictures a transparency; the mask is 1 where they become transparent."""
    return image_ops.with_transparency(image, alpha)


NODES = [
    image_scale,
    image_scale_by,
    image_scale_to_total_pixels,
    image_scale_to_max_dimension,
    image_invert,
    image_blend,
    image_blur,
    image_sharpen,
    image_quantize,
    image_crop,
    image_flip,
    image_rotate,
    image_batch,
    image_from_batch,
    repeat_image_batch,
    empty_image,
    get_image_size,
    compare_images,
    image_pad_for_outpaint,
    image_composite_masked,
    split_image_with_alpha,
    join_image_with_alpha,
]
