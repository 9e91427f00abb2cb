"""Nodes that find edges and shapes in pictures, add grain, and part brightness from colour."""

from typing import Annotated

from engine.api import Choice, Float, Image, Int, node
from engine.diffusion import image_filters
from nodes.sampling import Seed

_Threshold = Float(0.4, min=0.01, max=0.99, step=0.01)


@node("Morphology", title="ImageMorphology", category="image/postprocessing")
def morphology(
    image: Image,
    operation: Annotated[str, Choice(image_filters.MORPHOLOGY)],
    kernel_size: Annotated[int, Int(3, min=3, max=999, step=1)],
) -> Image:
    """Shrinks, grows, cleans or outlines bright shapes."""
    return image_filters.morphology(image, operation, kernel_size)


@node("Canny", category="image/preprocessors", search=("edges", "lines", "controlnet"))
def canny(
    image: Image,
    low_threshold: Annotated[float, _Threshold],
    high_threshold: Annotated[float, Float(0.8, min=0.01, max=0.99, step=0.01)],
) -> Image:
    """Draws the edges of pictures as white lines on black."""
    return image_filters.canny(image, low_threshold, high_threshold)


@node("ImageAddNoise", title="ImageAddNoise", category="image")
def image_add_noise(
    image: Image,
    seed: Seed,
    strength: Annotated[float, Float(0.5, min=0.0, max=1.0, step=0.01)],
) -> Image:
    """Adds grain to pictures."""
    return image_filters.with_noise(image, seed, strength)


@node("ImageRGBToYUV", category="image/batch", output_names=("Y", "U", "V"))
def image_rgb_to_yuv(image: Image) -> tuple[Image, Image, Image]:
    """Parts the brightness of pictures from their colour."""
    return image_filters.to_yuv(image)


@node(
    "ImageYUVToRGB", category="image/batch", rename={"luma": "Y", "blueness": "U", "redness": "V"}
)
def image_yuv_to_rgb(luma: Image, blueness: Image, redness: Image) -> Image:
    """Joins brightness and colour of pictures again."""
    return image_filters.from_yuv(luma, blueness, redness)


NODES = [morphology, canny, image_add_noise, image_rgb_to_yuv, image_yuv_to_rgb]
