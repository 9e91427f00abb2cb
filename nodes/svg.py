"""A node that saves vector graphics of node packs."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, TypeAlias

from engine.api import NodeOutput, RunContext, Socket, Text, node
from engine.diffusion.svg import documents, with_metadata

if TYPE_CHECKING:
    Svg: TypeAlias = Any
else:
    Svg = Socket("SVG")


@node("SaveSVGNode", category="image/save", title="SaveSVGNode", is_output=True)
def save_svg(
    svg: Svg, filename_prefix: Annotated[str, Text("svg/ComfyUI")], ctx: RunContext
) -> NodeOutput:
    """Saves vector graphics, as node packs make them, with their workflow inside."""
    parts = {"prompt": ctx.prompt, **ctx.extra_pnginfo}
    saved: list[Mapping[str, Any]] = []
    for index, document in enumerate(documents(svg)):
        data = with_metadata(document, parts)

        def write(file: BinaryIO, data: bytes = data) -> None:
            file.write(data)

        saved.append(ctx.files.save(write, prefix=filename_prefix, extension="svg", index=index))
    return NodeOutput(ui={"images": saved})


NODES = [save_svg]
