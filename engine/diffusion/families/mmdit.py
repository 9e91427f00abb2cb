"""Reads the sizes of diffusion transformers from the names and shapes in a weight file."""

from engine.api.errors import NotThisFamily
from engine.diffusion.families.base import FluxLayout, Sd3Layout, VaeLayout
from engine.diffusion.families.ldm import VAE, number, read_vae
from engine.diffusion.transformer_keys import FLUX, SD3, Header, header
from engine.diffusion.weightfile import WeightFile

_DOUBLE = "transformer_blocks.{}.attn.add_q_proj.weight"
_SINGLE = "single_transformer_blocks.{}.attn.to_q.weight"


def sd3_header(file: WeightFile) -> Header:
    """The joint transformer of a file. Raises: NotThisFamily."""
    original = "joint_blocks.0.x_block.attn.qkv.weight"
    found = header(file, SD3, original, "pos_embed.pos_embed")
    if not found.sources:
        raise NotThisFamily(f"has no {original}")
    return found


def flux_header(file: WeightFile) -> Header:
    """The double and single stream transformer of a file. Raises: NotThisFamily."""
    original = "double_blocks.0.img_attn.qkv.weight"
    found = header(file, FLUX, original, "single_transformer_blocks.0.attn.to_q.weight")
    if not found.sources:
        raise NotThisFamily(f"has no {original}")
    return found


def read_sd3(file: WeightFile) -> Sd3Layout:
    """The sizes of an SD3 transformer. Raises: NotThisFamily."""
    found = sd3_header(file)
    width, in_channels, patch, _ = _sizes(found, "pos_embed.proj.weight", 4)
    norm = found.shape("transformer_blocks.0.attn.norm_q.weight")
    head_width = norm[0] if norm else number(file, "weft.transformer.head_width", 64)
    layers = found.count(_DOUBLE)
    places = _sizes(found, "pos_embed.pos_embed", 3)[1]
    if not layers or width % head_width or round(places**0.5) ** 2 != places:
        raise NotThisFamily(
            f"has {layers} blocks of width {width} with heads of {head_width} and {places} places"
        )
    has_bias = "transformer_blocks.0.attn.norm_q.bias" in found.sources
    return Sd3Layout(
        in_channels=in_channels,
        out_channels=_sizes(found, "proj_out.weight", 2)[0] // patch**2,
        width=width,
        heads=width // head_width,
        layers=layers,
        context_dim=_sizes(found, "context_embedder.weight", 2)[1],
        pooled_dim=_sizes(found, "time_text_embed.text_embedder.linear_1.weight", 2)[1],
        patch=patch,
        places=round(places**0.5),
        dual_layers=tuple(
            n for n in range(layers) if f"transformer_blocks.{n}.attn2.to_q.weight" in found.sources
        ),
        query_norm=("layer_norm" if has_bias else "rms_norm") if norm else None,
    )


def read_flux(file: WeightFile) -> FluxLayout:
    """The sizes of a Flux transformer. Raises: NotThisFamily."""
    found = flux_header(file)
    width, inputs = _sizes(found, "x_embedder.weight", 2)
    (head_width,) = _sizes(found, "transformer_blocks.0.attn.norm_q.weight", 1)
    if width % head_width or head_width % 32 or inputs % 4:
        raise NotThisFamily(f"has width {width}, heads of {head_width} and {inputs} inputs")
    return FluxLayout(
        in_channels=inputs // 4,
        out_channels=_sizes(found, "proj_out.weight", 2)[0] // 4,
        width=width,
        heads=width // head_width,
        layers=found.count(_DOUBLE),
        single_layers=found.count(_SINGLE),
        context_dim=_sizes(found, "context_embedder.weight", 2)[1],
        pooled_dim=_sizes(found, "time_text_embed.text_embedder.linear_1.weight", 2)[1],
        has_guidance="time_text_embed.guidance_embedder.linear_1.weight" in found.sources,
    )


def read_any_vae(file: WeightFile) -> VaeLayout | None:
    """The autoencoder of a single file, under either of its customary names."""
    return read_vae(file, VAE) or read_vae(file, "vae.")


def _sizes(found: Header, name: str, rank: int) -> tuple[int, ...]:
    shape = found.shape(name)
    if len(shape) != rank or 0 in shape:
        raise NotThisFamily(f"has a transformer whose {name} has the shape {list(shape)}")
    return shape
