"""Reads the sizes of LDM-style networks from the names and shapes in a weight file."""

import json
import math

from engine.api.errors import CorruptFile, NotThisFamily
from engine.diffusion.families.base import TextLayout, UnetLayout, VaeLayout
from engine.diffusion.weightfile import WeightFile

UNET = "model.diffusion_model."
VAE = "first_stage_model."
CLIP_L = "cond_stage_model.transformer."
MIN_POSITIONS = 16


def number(file: WeightFile, name: str, default: int) -> int:
    """A whole number from the metadata, or the family's default. Raises: CorruptFile."""
    text = file.metadata.get(name)
    if text is None:
        return default
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise CorruptFile(f"{file.path.name}: the metadata {name} is {text[:40]!r}, not a number.")
    return int(text)


def sizes(file: WeightFile, key: str, rank: int) -> tuple[int, ...]:
    """The shape of a tensor that must be there. Raises: NotThisFamily."""
    shape = file.shape(key)
    if len(shape) != rank or 0 in shape:
        raise NotThisFamily(f"has {key} of shape {list(shape)}" if shape else f"has no {key}")
    return shape


# The shipped model is older than that metadata, and not worth a second copy in the history for it.
_RGB_OF_TITLES = {
    "Weft built-in model": (
        (0.6379, 0.0108, -0.1018),
        (-0.0308, 0.1594, -0.3398),
        (0.0392, 0.145, 0.1416),
        (0.0453, -0.4461, -0.1612),
    )
}


def latent_rgb(file: WeightFile) -> tuple[tuple[float, ...], ...] | None:
    """The rows of the metadata `weft.latent_rgb` (JSON), where it is there. Raises: CorruptFile."""
    text = file.metadata.get("weft.latent_rgb")
    if text is None:
        return _RGB_OF_TITLES.get(file.metadata.get("modelspec.title", ""))
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
    width, in_channels, *_ = sizes(file, f"{prefix}input_blocks.0.0.weight", 4)
    widths, depth, blocks = _encoder(file, prefix)
    middle_depth = transformer_depth(file, f"{prefix}middle_block.1")
    if middle_depth == 0:
        raise NotThisFamily("has a UNet without cross-attention in its middle")
    to_k = f"{prefix}middle_block.1.transformer_blocks.0.attn2.to_k.weight"
    groups = number(file, "weft.unet.norm_num_groups", 32)
    if any(w == 0 or w % groups for w in widths):
        raise NotThisFamily(f"has level widths {widths} that {groups} groups do not divide")
    if any(w % width for w in widths):
        raise NotThisFamily(f"has level widths {widths} that are no multiples of {width}")
    out = file.shape(f"{prefix}out.2.weight")
    adm, classes = f"{prefix}label_emb.0.0.weight", f"{prefix}label_emb.weight"
    return UnetLayout(
        prefix=prefix,
        in_channels=in_channels,
        out_channels=out[0] if out else 4,
        width=width,
        mult=tuple(w // width for w in widths),
        blocks=blocks,
        depth=depth,
        middle_depth=middle_depth,
        context_dim=sizes(file, to_k, 2)[1],
        is_linear=len(file.shape(f"{prefix}middle_block.1.proj_in.weight")) == 2,
        adm=sizes(file, adm, 2)[1] if adm in file else None,
        groups=groups,
        classes=sizes(file, classes, 2)[0] if classes in file else None,
        only_cross=_only_cross(file, prefix, widths, depth, blocks),
    )


def _only_cross(
    file: WeightFile, prefix: str, widths: list[int], depth: tuple[int, ...], blocks: int
) -> tuple[bool, ...]:
    """For each level, whether its first attention reads the text, as the second one does.

    Where text and level are equally wide, it reads the picture.
    """
    first = (1 + level * (blocks + 1) for level in range(len(widths)))
    keys = (f"{prefix}input_blocks.{n}.1.transformer_blocks.0.attn1.to_k.weight" for n in first)
    return tuple(
        bool(layers) and file.shape(key)[-1:] != (width,)
        for key, width, layers in zip(keys, widths, depth, strict=True)
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


def read_vae(file: WeightFile, prefix: str = VAE) -> VaeLayout | None:
    """The autoencoder under `prefix`, or None where the file has none."""
    start = f"{prefix}encoder.conv_in.weight"
    if start not in file:
        return None
    width = sizes(file, start, 4)[0]
    widths: list[int] = []
    while shape := file.shape(f"{prefix}encoder.down.{len(widths)}.block.0.conv1.weight"):
        widths.append(shape[0])
    blocks = 0
    while f"{prefix}encoder.down.0.block.{blocks}.conv1.weight" in file:
        blocks += 1
    groups = number(file, "weft.vae.norm_num_groups", 32)
    if not blocks or any(w == 0 or w % width or w % groups for w in widths):
        raise NotThisFamily(f"has an autoencoder of widths {widths} with {groups} groups")
    return VaeLayout(
        prefix=prefix,
        width=width,
        mult=tuple(w // width for w in widths),
        blocks=blocks,
        latent_channels=sizes(file, f"{prefix}decoder.conv_in.weight", 4)[1],
        groups=groups,
        has_quant=f"{prefix}quant_conv.weight" in file,
    )


def read_clip(file: WeightFile, prefix: str, *, name: str = "l") -> TextLayout | None:
    """A CLIP text tower in transformers' key layout under `prefix`, or None.

    Some files leave `text_model.` out of their names.
    """
    bare = f"{prefix}embeddings.token_embedding.weight" in file
    root = prefix if bare else f"{prefix}text_model."
    if f"{root}embeddings.token_embedding.weight" not in file:
        return None
    vocabulary, width = sizes(file, f"{root}embeddings.token_embedding.weight", 2)
    projection = f"{prefix}text_projection.weight"
    layers = _count(file, f"{root}encoder.layers.", ".layer_norm1.weight")
    return TextLayout(
        name=name,
        prefix=prefix,
        width=width,
        layers=layers,
        heads=_text_heads(file, width),
        mlp=sizes(file, f"{root}encoder.layers.0.mlp.fc1.weight", 2)[0],
        positions=_positions(file, f"{root}embeddings.position_embedding.weight"),
        vocabulary=vocabulary,
        projection=sizes(file, projection, 2)[0] if projection in file else None,
    )


def read_open_clip(file: WeightFile, prefix: str, *, name: str) -> TextLayout | None:
    """A CLIP text tower in OpenCLIP's key layout under `prefix`, or None."""
    if f"{prefix}token_embedding.weight" not in file:
        return None
    vocabulary, width = sizes(file, f"{prefix}token_embedding.weight", 2)
    names = (f"{prefix}text_projection", f"{prefix}text_projection.weight")
    projection = next((n for n in names if n in file), None)
    return TextLayout(
        name=name,
        prefix=prefix,
        width=width,
        layers=_count(file, f"{prefix}transformer.resblocks.", ".ln_1.weight"),
        heads=_text_heads(file, width),
        mlp=sizes(file, f"{prefix}transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        positions=_positions(file, f"{prefix}positional_embedding"),
        vocabulary=vocabulary,
        naming="open_clip",
        activation="gelu",
        pad_token=0,
        projection=sizes(file, projection, 2)[-1] if projection else None,
    )


def _text_heads(file: WeightFile, width: int) -> int:
    heads = number(file, "weft.text.heads", max(1, width // 64))
    if width % heads:
        raise NotThisFamily(f"has a text width of {width} for {heads} heads")
    return heads


def _positions(file: WeightFile, key: str) -> int:
    positions = sizes(file, key, 2)[0]
    if positions < MIN_POSITIONS:
        raise NotThisFamily(f"has text chunks of {positions} tokens")
    return positions


def _count(file: WeightFile, start: str, end: str) -> int:
    n = 0
    while f"{start}{n}{end}" in file:
        n += 1
    return n
