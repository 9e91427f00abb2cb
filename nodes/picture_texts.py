"""What saved pictures tell about themselves, as their node's context and choices have it."""

from collections.abc import Callable, Mapping

from engine.api import EngineError, RunContext
from engine.diffusion.image_writing import PARAMETERS, PictureTexts, graph_texts
from engine.diffusion.parameters_text import parameters_text
from engine.diffusion.provenance import source_type, xmp_packet

Size = tuple[int, int]


def workflow_texts(ctx: RunContext) -> dict[str, str]:
    """The prompt and the workflow; nothing when the server was told to keep them out."""
    return graph_texts(ctx.prompt, ctx.extra_pnginfo) if ctx.saving.writes_metadata else {}


def parameter_texts(ctx: RunContext, size_px: Size) -> dict[str, str]:
    """The parameters as A1111 writes them; nothing where no sampler made the picture."""

    def hash_of(kind: str, name: str) -> str:
        try:
            return ctx.files.digest(ctx.files.resolve(kind, name))
        except EngineError:  # the file went away since it was used
            return ""

    if not ctx.saving.writes_metadata:
        return {}
    made = ctx.extra_pnginfo.get("texts", {})
    text = parameters_text(ctx.prompt, ctx.node_id, size_px, hash_of, made)
    return {} if text is None else {PARAMETERS: text}


def origin_of(ctx: RunContext) -> bytes | None:
    """The mark that a model made the picture, as XMP; None where none did, or by the setting."""
    source = source_type(ctx.prompt, ctx.node_id) if ctx.saving.marks_origin else None
    return None if source is None else xmp_packet(source)


def _told(texts: Mapping[str, str], ctx: RunContext) -> PictureTexts:
    return PictureTexts(texts=texts, xmp=origin_of(ctx))


METADATA: Mapping[str, Callable[[RunContext, Size], PictureTexts]] = {
    "workflow": lambda ctx, _size: _told(workflow_texts(ctx), ctx),
    "parameters": lambda ctx, size: _told(parameter_texts(ctx, size), ctx),
    "workflow and parameters": lambda ctx, size: _told(
        {**parameter_texts(ctx, size), **workflow_texts(ctx)}, ctx
    ),
    "none": lambda ctx, _size: _told({}, ctx),
}
