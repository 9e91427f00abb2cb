"""Nodes that read and write latents."""

from typing import Annotated, BinaryIO

from engine.api import Choice, Latent, NodeOutput, RunContext, Text, node
from engine.diffusion.latent_files import latent_bytes, read_latent
from nodes.picture_texts import workflow_texts


@node("SaveLatent", title="SaveLatent", category="_for_testing", is_output=True)
def save_latent(
    samples: Latent, filename_prefix: Annotated[str, Text("latents/ComfyUI")], ctx: RunContext
) -> NodeOutput:
    """Saves a latent, with its workflow inside. Masks are not kept."""
    data = latent_bytes(samples, workflow_texts(ctx))

    def write(file: BinaryIO) -> None:
        file.write(data)

    saved = ctx.files.save(write, prefix=filename_prefix, extension="latent")
    return NodeOutput(ui={"latents": [saved]})


@node("LoadLatent", title="LoadLatent", category="_for_testing")
def load_latent(latent: Annotated[str, Choice(folder="input")], ctx: RunContext) -> Latent:
    """Opens a latent that was saved and put into the input folder."""
    return read_latent(ctx.files.resolve("input", latent))


NODES = [save_latent, load_latent]
