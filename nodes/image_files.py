"""Nodes that read and write picture files."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, BinaryIO

from PIL.PngImagePlugin import PngInfo

from engine.api import Image, NodeOutput, RunContext, Text, node
from engine.diffusion.image_ops import to_pil


def _png_info(ctx: RunContext) -> PngInfo:
    info = PngInfo()
    info.add_text("prompt", json.dumps(ctx.prompt))
    for key, value in ctx.extra_pnginfo.items():
        info.add_text(key, json.dumps(value))
    return info


def _save_pngs(
    ctx: RunContext, images: Image, *, prefix: str, folder: str, compress: int
) -> list[Mapping[str, Any]]:
    info = _png_info(ctx)
    saved = []
    for index, image in enumerate(images):
        picture = to_pil(image)

        def write(file: BinaryIO, picture: Any = picture) -> None:
            picture.save(file, format="PNG", pnginfo=info, compress_level=compress)

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
    return saved


@node("SaveImage", title="Save Image", category="image", is_output=True)
def save_image(
    images: Image, filename_prefix: Annotated[str, Text("ComfyUI")], ctx: RunContext
) -> NodeOutput:
    """Saves pictures as PNG files with their workflow inside."""
    saved = _save_pngs(ctx, images, prefix=filename_prefix, folder="output", compress=4)
    return NodeOutput(ui={"images": saved})


@node("PreviewImage", title="Preview Image", category="image", is_output=True)
def preview_image(images: Image, ctx: RunContext) -> NodeOutput:
    """Shows pictures without keeping them."""
    prefix = f"ComfyUI_temp_{ctx.node_id}"
    saved = _save_pngs(ctx, images, prefix=prefix, folder="temp", compress=1)
    return NodeOutput(ui={"images": saved})


NODES = [save_image, preview_image]
