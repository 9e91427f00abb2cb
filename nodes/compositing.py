"""Nodes that put pictures together."""

from typing import Annotated

from engine.api import Choice, Image, Int, Mask, Text, Toggle, node
from engine.diffusion import compositing
from engine.diffusion.grid_sheet import side_by_side

_TRANSFORM = "image/transform"
_Extent = Annotated[int, Int(512, min=1, max=16384, step=1)]
_Title = Annotated[str, Text("", tooltip="Its first line stands above the pictures.")]


@node("ImageStitch", title="Image Stitch", category=_TRANSFORM)
def image_stitch(
    image1: Image,
    direction: Annotated[str, Choice(compositing.DIRECTIONS, default="right")],
    match_image_size: Annotated[bool, Toggle(True)],
    spacing_width: Annotated[int, Int(0, min=0, max=1024, step=2)],
    spacing_color: Annotated[str, Choice(tuple(compositing.COLOURS), default="white")],
    image2: Image | None = None,
) -> Image:
    """Puts the second picture beside the first one."""
    if image2 is None:
        return image1
    return compositing.stitch(
        image1, image2, direction, spacing_width, spacing_color, is_matched=match_image_size
    )


@node(
    "SideBySide",
    title="Side by Side",
    category=_TRANSFORM,
    search=("compare", "label", "caption", "contact sheet"),
)
def side_by_side_node(
    images1: Image,
    title1: _Title,
    images2: Image,
    title2: _Title,
    title3: _Title = "",
    title4: _Title = "",
    images3: Image | None = None,
    images4: Image | None = None,
) -> Image:
    """Sets up to four batches side by side in one picture, each under a title."""
    given = (images1, title1), (images2, title2), (images3, title3), (images4, title4)
    shown = [(images, title) for images, title in given if images is not None]
    return side_by_side([images for images, _ in shown], [title for _, title in shown])


@node("ResizeAndPadImage", title="ResizeAndPadImage", category=_TRANSFORM)
def resize_and_pad_image(
    image: Image,
    target_width: _Extent,
    target_height: _Extent,
    padding_color: Annotated[str, Choice(("white", "black"))],
    interpolation: Annotated[
        str, Choice(("area", "bicubic", "nearest-exact", "bilinear", "lanczos"))
    ],
) -> Image:
    """Scales pictures into a size without changing their proportions, and fills the rest."""
    return compositing.resize_and_pad(
        image, target_width, target_height, interpolation, padding_color
    )


@node("PorterDuffImageComposite", title="Porter-Duff Image Composite", category="mask/compositing")
def porter_duff_image_composite(
    source: Image,
    source_alpha: Mask,
    destination: Image,
    destination_alpha: Mask,
    mode: Annotated[str, Choice(compositing.COMPOSITIONS, default="DST")],
) -> tuple[Image, Mask]:
    """Composes two transparent pictures; the masks are 1 where a picture is transparent."""
    return compositing.porter_duff(source, source_alpha, destination, destination_alpha, mode)


NODES = [image_stitch, side_by_side_node, resize_and_pad_image, porter_duff_image_composite]
