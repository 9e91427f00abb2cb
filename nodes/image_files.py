"""Nodes that read and write picture files."""

from collections.abc import Mapping
from typing import Annotated, Any, BinaryIO

from engine.api import Choice, Image, Int, Mask, NodeError, NodeOutput, RunContext, Text, node
from engine.diffusion import mask_ops
from engine.diffusion.image_ops import to_pil
from engine.diffusion.image_reading import read_channel, read_pictures
from engine.diffusion.image_writing import FORMATS, PictureTexts, picture_writer
from nodes.picture_texts import METADATA, origin_of, workflow_texts

_INPUT = Annotated[str, Choice(folder="input", image_upload=True)]


@node("LoadImage", title="Load Image", category="image", search=("open", "upload"))
def load_image(image: _INPUT, ctx: RunContext) -> tuple[Image, Mask]:
    """Opens a picture; the mask is 1 where it is transparent. An animation becomes a batch."""
    return read_pictures(ctx.files.resolve("input", image))


@node(
    "LoadImageOutput",
    title="Load Image (from Outputs)",
    category="image",
    is_experimental=True,
)
def load_image_output(
    image: Annotated[
        str,
        Choice(
            folder="output",
            image_upload=True,
            image_folder="output",
            remote={
                "route": "/internal/files/output",
                "refresh_button": True,
                "control_after_refresh": "first",
            },
        ),
    ],
    ctx: RunContext,
) -> tuple[Image, Mask]:
    """Opens a picture that was saved before."""
    return read_pictures(ctx.files.resolve("output", image))


@node("LoadImageMask", title="Load Image (as Mask)", category="mask")
def load_image_mask(
    image: _INPUT,
    channel: Annotated[str, Choice(("alpha", "red", "green", "blue"))],
    ctx: RunContext,
) -> Mask:
    """Opens one channel of a picture as a mask."""
    return read_channel(ctx.files.resolve("input", image), channel)


def _save_pngs(
    ctx: RunContext, images: Image, *, prefix: str, folder: str, compress_level: int
) -> NodeOutput:
    """Saves a batch; what the pictures were made by goes into their text chunks."""
    xmp = origin_of(ctx) if folder == "output" else None
    info = PictureTexts(texts=workflow_texts(ctx), xmp=xmp).png_info()
    saved: list[Mapping[str, Any]] = []
    for index, image in enumerate(images):
        picture = to_pil(image)

        def write(file: BinaryIO, picture: Any = picture) -> None:
            picture.save(file, format="PNG", pnginfo=info, compress_level=compress_level)

        saved.append(
            ctx.files.save(
                write,
                prefix=prefix,
                extension="png",
                folder=folder,
                index=index,
                size_px=picture.size,
            )
        )
    return NodeOutput(ui={"images": saved})


def _preview(ctx: RunContext, images: Image) -> NodeOutput:
    prefix = f"ComfyUI_temp_{ctx.node_id.replace(':', '_')}"
    return _save_pngs(ctx, images, prefix=prefix, folder="temp", compress_level=1)


@node("SaveImage", title="Save Image", category="image", is_output=True)
def save_image(
    images: Image, filename_prefix: Annotated[str, Text("ComfyUI")], ctx: RunContext
) -> NodeOutput:
    """Saves pictures as PNG files with their workflow inside."""
    return _save_pngs(ctx, images, prefix=filename_prefix, folder="output", compress_level=4)


@node("PreviewImage", title="Preview Image", category="image", is_output=True)
def preview_image(images: Image, ctx: RunContext) -> NodeOutput:
    """Shows pictures without keeping them."""
    return _preview(ctx, images)


@node("MaskPreview", category="mask", is_output=True)
def mask_preview(mask: Mask, ctx: RunContext) -> NodeOutput:
    """Shows a mask without keeping it."""
    return _preview(ctx, mask_ops.to_image(mask))


@node(
    "SavePicture",
    title="Save Picture (format, metadata)",
    category="image",
    search=("save", "export", "jpeg", "jpg", "webp", "avif", "16 bit", "share", "a1111"),
    is_output=True,
)
def save_picture(
    images: Image,
    filename_prefix: Annotated[str, Text("ComfyUI")],
    format: Annotated[str, Choice(tuple(FORMATS), default="PNG")],
    quality: Annotated[
        int, Int(90, min=1, max=100, tooltip="For JPEG, WebP and AVIF; larger is better.")
    ],
    metadata: Annotated[
        str,
        Choice(
            tuple(METADATA),
            default="workflow",
            tooltip="workflow: opens again here. parameters: the text that A1111 and many sites "
            "read. none: a copy to share.",
        ),
    ],
    ctx: RunContext,
) -> NodeOutput:
    """Saves pictures as PNG (8 or 16 bit), JPEG, WebP or AVIF.

    You choose what the files tell: the workflow, the parameters as A1111 writes them, both, or
    nothing, for a copy to share.
    """
    if format not in FORMATS:
        raise NodeError(
            f"The format {format} cannot be written here.", hint=f"There are {', '.join(FORMATS)}."
        )
    saved: list[Mapping[str, Any]] = []
    for index, image in enumerate(images):
        size_px = (image.shape[1], image.shape[0])
        told = METADATA[metadata](ctx, size_px)
        saved.append(
            ctx.files.save(
                picture_writer(image, FORMATS[format], quality, told),
                prefix=filename_prefix,
                extension=FORMATS[format].extension,
                index=index,
                size_px=size_px,
            )
        )
    return NodeOutput(ui={"images": saved})


NODES = [
    load_image,
    load_image_output,
    load_image_mask,
    save_image,
    save_picture,
    preview_image,
    mask_preview,
]
