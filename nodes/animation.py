"""Nodes that save a batch of pictures as one moving picture."""

from typing import Annotated, Any, BinaryIO

from engine.api import Choice, Float, Image, Int, NodeOutput, RunContext, Text, Toggle, node
from engine.diffusion.image_ops import to_pil
from engine.diffusion.image_writing import PictureTexts
from nodes.picture_texts import origin_of, workflow_texts

_CATEGORY = "image/animation"
_METHODS = {"default": 4, "fastest": 0, "slowest": 6}
_Fps = Annotated[float, Float(6.0, min=0.01, max=1000.0, step=0.01)]
_Prefix = Annotated[str, Text("ComfyUI")]


def _saved(
    ctx: RunContext, images: Image, prefix: str, extension: str, fps: float, **options: Any
) -> NodeOutput:
    first, *others = [to_pil(image) for image in images]

    def write(file: BinaryIO) -> None:
        first.save(
            file,
            format=extension,
            save_all=True,
            append_images=others,
            duration=int(1000.0 / fps),
            **options,
        )

    entry = ctx.files.save(write, prefix=prefix, extension=extension, size_px=first.size)
    return NodeOutput(ui={"images": [entry], "animated": (len(images) > 1,)})


def _told(ctx: RunContext) -> PictureTexts:
    return PictureTexts(texts=workflow_texts(ctx), xmp=origin_of(ctx))


@node("SaveAnimatedWEBP", title="SaveAnimatedWEBP", category=_CATEGORY, is_output=True)
def save_animated_webp(
    images: Image,
    filename_prefix: _Prefix,
    fps: _Fps,
    lossless: Annotated[bool, Toggle(True)],
    quality: Annotated[int, Int(80, min=0, max=100)],
    method: Annotated[str, Choice(tuple(_METHODS))],
    ctx: RunContext,
) -> NodeOutput:
    """Saves pictures as a moving WebP with its workflow inside."""
    told = _told(ctx)
    return _saved(
        ctx,
        images,
        filename_prefix,
        "webp",
        fps,
        lossless=lossless,
        quality=quality,
        method=_METHODS[method],
        exif=told.exif(),
        xmp=told.xmp or b"",
    )


@node("SaveAnimatedPNG", title="SaveAnimatedPNG", category=_CATEGORY, is_output=True)
def save_animated_png(
    images: Image,
    filename_prefix: _Prefix,
    fps: _Fps,
    compress_level: Annotated[int, Int(4, min=0, max=9)],
    ctx: RunContext,
) -> NodeOutput:
    """Saves pictures as a moving PNG with its workflow inside."""
    return _saved(
        ctx,
        images,
        filename_prefix,
        "png",
        fps,
        pnginfo=_told(ctx).png_info(),
        compress_level=compress_level,
    )


NODES = [save_animated_webp, save_animated_png]
