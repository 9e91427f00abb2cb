"""Reads the sizes of LDM-style networks from the names and shapes in a weight file."""

import json
import math

from engine.api.errors import CorruptFile, NotThisFamily
from engine.diffusion.families.base import TextLayout, UnetLayout, VaeLayout
from engine.diffusion.weightfile import WeightFile

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP_L = "cond_stage_model.transformer."


def number(file: WeightFile, name: str, default: int) -> int:
    """A whole number from the metadata, or the family's default. Raises: CorruptFile."""
    text = file.metadata.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise CorruptFile(f"{file.path.name}: the metadata {name} is {text[:40]!r}, not a number.")
    return int(text)


def latent_rgb(file: WeightFile) -> tuple[tuple[float, ...], ...] | None:
    """The rows of the metadata `weft.latent_rgb` (JSON), where it is there. Raises: CorruptFile."""
    text = file.metadata.get("weft.latent_rgb")
    if text is None:
        return None
    try:
        rows = tuple(tuple(float(n) for n in row) for row in json.loads(text))
    except (ValueError, TypeError) as error:
        raise CorruptFile(f"{file.path.name}: the metadata weft.latent_rgb is no table.") from error
    if any(len(row) != 3 or not all(map(math.isfinite, row)) for row in rows):
        raise CorruptFile(f"{file.path.name}: weft.latent_rgb needs rows of three numbers.")
    return rows


def read_unet(file: WeightFile, prefix: str = UNET) -> UnetLayout:
    """The UNet under `prefix`, also the encoder half of a ControlNet.

    `heads` and `head_width` are left to the family. Raises: NotThisFamily.
    """
    first = file.shape(f"{prefix}input_blocks.0.0.weight")
    if len(first) != 4:
        raise NotThisFamily(f"has no {prefix}input_blocks.0.0.weight")
    width, in_channels = first[0], first[1]
    widths, depth, blocks = _encoder(file, prefix)
    middle_depth = transformer_depth(file, f"{prefix}middle_block.1")
    context = _context_dim(file, prefix)
    if context is None:
        raise NotThisFamily("has a UNet without cross-attention")
    if any(w % width for w in widths):
        raise NotThisFamily(f"has level widths {widths} that are no multiples of {width}")
    out = file.shape(f"{prefix}out.2.weight")
    adm = file.shape(f"{prefix}label_emb.0.0.weight")
    return UnetLayout(
        prefix=prefix,
        in_channels=in_channels,
        out_channels=out[0] if out else 4,
        width=width,
        mult=tuple(w // width for w in widths),
        blocks=blocks,
        depth=depth,
        middle_depth=middle_depth,
        context_dim=context,
        is_linear=len(file.shape(f"{prefix}middle_block.1.proj_in.weight")) == 2,
        adm=adm[1] if adm else None,
        groups=number(file, "weft.unet.norm_num_groups", 32),
    )


def _encoder(file: WeightFile, prefix: str) -> tuple[list[int], tuple[int, ...], int]:
    """Widths and transformer depths per level, and residual blocks per level."""
    levels: list[list[tuple[int, int]]] = [[]]
    index = 1
    while True:
        block = f"{prefix}input_blocks.{index}"
        if f"{block}.0.op.weight" in file:
            levels.append([])
        elif shape := file.shape(f"{block}.0.out_layers.3.weight"):
            levels[-1].append((shape[0], transformer_depth(file, f"{block}.1")))
        else:
            break
        index += 1
    if not all(levels) or len({len(level) for level in levels}) != 1:
        raise NotThisFamily("has a UNet with unequal numbers of blocks per level")
    if any(len(set(level)) != 1 for level in levels):
        raise NotThisFamily("has a UNet whose blocks differ within a level")
    return [lv[0][0] for lv in levels], tuple(lv[0][1] for lv in levels), len(levels[0])


def transformer_depth(file: WeightFile, block: str) -> int:
    """How many transformer layers a spatial transformer has; 0 where there is none."""
    depth = 0
    while f"{block}.transformer_blocks.{depth}.attn2.to_k.weight" in file:
        depth += 1
    return depth


def _context_dim(file: WeightFile, prefix: str) -> int | None:
    ending = ".transformer_blocks.0.attn2.to_k.weight"
    key = next((k for k in file.keys(prefix) if k.endswith(ending)), None)
    return file.shape(key)[1] if key else None


def read_vae(file: WeightFile, prefix: str = VAE, *, scale: float = 0.18215) -> VaeLayout | None:
    """The autoencoder under `prefix`, or None where the file has none."""
    first = file.shape(f"{prefix}encoder.conv_in.weight")
    latent = file.shape(f"{prefix}decoder.conv_in.weight")
    if len(first) != 4 or len(latent) != 4:
        return None
    widths: list[int] = []
    while shape := file.shape(f"{prefix}encoder.down.{len(widths)}.block.0.conv1.weight"):
        widths.append(shape[0])
    blocks = 0
    while f"{prefix}encoder.down.0.block.{blocks}.conv1.weight" in file:
        blocks += 1
    return VaeLayout(
        prefix=prefix,
        width=first[0],
        mult=tuple(max(1, w // first[0]) for w in widths),
        blocks=blocks,
        latent_channels=latent[1],
        groups=number(file, "weft.vae.norm_num_groups", 32),
        scale=scale,
    )


def read_clip(file: WeightFile, prefix: str, *, name: str = "l") -> TextLayout | None:
    """A CLIP text tower in transformers' key layout under `prefix`, or None.

    Some files leave `text_model.` out of their names.
    """
    bare = f"{prefix}embeddings.token_embedding.weight" in file
    root = prefix if bare else f"{prefix}text_model."
    tokens = file.shape(f"{root}embeddings.token_embedding.weight")
    if not tokens:
        return None
    vocabulary, width = tokens
    layers = _count(file, f"{root}encoder.layers.", ".layer_norm1.weight")
    return TextLayout(
        name=name,
        prefix=prefix,
        width=width,
        layers=layers,
        heads=number(file, "weft.text.heads", max(1, width // 64)),
        mlp=file.shape(f"{root}encoder.layers.0.mlp.fc1.weight")[0],
        positions=file.shape(f"{root}embeddings.position_embedding.weight")[0],
        vocabulary=vocabulary,
        projection=(file.shape(f"{prefix}text_projection.weight") or (None,))[0],
    )


def read_open_clip(file: WeightFile, prefix: str, *, name: str) -> TextLayout | None:
    """A CLIP text tower in OpenCLIP's key layout under `prefix`, or None."""
    tokens = file.shape(f"{prefix}token_embedding.weight")
    if not tokens:
        return None
    projection = file.shape(f"{prefix}text_projection") or file.shape(
        f"{prefix}text_projection.weight"
    )
    return TextLayout(
        name=name,
        prefix=prefix,
        width=tokens[1],
        layers=_count(file, f"{prefix}transformer.resblocks.", ".ln_1.weight"),
        heads=number(file, "weft.text.heads", max(1, tokens[1] // 64)),
        mlp=file.shape(f"{prefix}transformer.resblocks.0.mlp.c_fc.weight")[0],
        positions=file.shape(f"{prefix}positional_embedding")[0],
        vocabulary=tokens[0],
        naming="open_clip",
        activation="gelu",
        pad_token=0,
        projection=projection[-1] if projection else None,
    )


def _count(file: WeightFile, start: str, end: str) -> int:
    n = 0
    while f"{start}{n}{end}" in file:
        n += 1
    return n
