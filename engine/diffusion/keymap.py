"""Key names of weights: the original single-file (LDM) layout and the one our networks use.

Our networks are diffusers' classes and a text tower with transformers' names. `from_ldm(part,
tensors)` gives a part's own state dict, `to_ldm(part, state)` the single-file form; both directions
come from the same tables, are total and one-to-one. To write a checkpoint, merge
`to_ldm("denoiser", unet.state_dict())`, `to_ldm("vae", …)` and `to_ldm("text", …)`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from engine.api.errors import ModelError

PREFIXES = {
    "denoiser": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text": "cond_stage_model.transformer.",
    "control": "control_model.",
}

Pairs = tuple[tuple[str, str], ...]

# Inner names of a residual block of the UNet: LDM, ours.
RESNET: Pairs = (
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("skip_connection.", "conv_shortcut."),
)
VAE_RESNET: Pairs = (
    ("norm1.", "norm1."),
    ("conv1.", "conv1."),
    ("norm2.", "norm2."),
    ("conv2.", "conv2."),
    ("nin_shortcut.", "conv_shortcut."),
)
VAE_ATTENTION: Pairs = (
    ("norm.", "group_norm."),
    ("q.", "to_q."),
    ("k.", "to_k."),
    ("v.", "to_v."),
    ("proj_out.", "to_out.0."),
)
TIME: Pairs = (
    ("time_embed.0.", "time_embedding.linear_1."),
    ("time_embed.2.", "time_embedding.linear_2."),
    ("label_emb.0.0.", "class_embedding.linear_1."),
    ("label_emb.0.2.", "class_embedding.linear_2."),
    ("label_emb.weight", "class_embedding.weight"),
    ("input_blocks.0.0.", "conv_in."),
)
OPEN_CLIP_LAYER: Pairs = (
    ("ln_1.", "layer_norm1."),
    ("ln_2.", "layer_norm2."),
    ("attn.out_proj.", "self_attn.out_proj."),
    ("mlp.c_fc.", "mlp.fc1."),
    ("mlp.c_proj.", "mlp.fc2."),
)


def _inside(ldm: str, ours: str, pairs: Pairs) -> list[tuple[str, str]]:
    return [(ldm + a, ours + b) for a, b in pairs]


# Names of modules, pair by pair -------------------------------------------------------------------


def unet_names(depth: tuple[int, ...], blocks: int, *, is_encoder: bool = False) -> Pairs:
    """Module prefixes (LDM, ours) of a UNet with `depth` transformer layers per level.

    With `is_encoder` only the half that a ControlNet shares.
    """
    pairs = list(TIME)
    index = 1
    last = len(depth) - 1
    for level, layers in enumerate(depth):
        for block in range(blocks):
            ldm, ours = f"input_blocks.{index}.", f"down_blocks.{level}."
            pairs += _inside(f"{ldm}0.", f"{ours}resnets.{block}.", RESNET)
            if layers:
                pairs.append((f"{ldm}1.", f"{ours}attentions.{block}."))
            index += 1
        if level != last:
            pairs.append(
                (f"input_blocks.{index}.0.op.", f"down_blocks.{level}.downsamplers.0.conv.")
            )
            index += 1
    pairs += _inside("middle_block.0.", "mid_block.resnets.0.", RESNET)
    pairs.append(("middle_block.1.", "mid_block.attentions.0."))
    pairs += _inside("middle_block.2.", "mid_block.resnets.1.", RESNET)
    if is_encoder:
        return tuple(pairs)
    index = 0
    for level, layers in enumerate(reversed(depth)):
        for block in range(blocks + 1):
            ldm, ours = f"output_blocks.{index}.", f"up_blocks.{level}."
            pairs += _inside(f"{ldm}0.", f"{ours}resnets.{block}.", RESNET)
            if layers:
                pairs.append((f"{ldm}1.", f"{ours}attentions.{block}."))
            if level != last and block == blocks:
                place = 2 if layers else 1
                pairs.append((f"{ldm}{place}.conv.", f"{ours}upsamplers.0.conv."))
            index += 1
    return (*pairs, ("out.0.", "conv_norm_out."), ("out.2.", "conv_out."))


# Parts that only union ControlNets have; their files have no other names for them.
UNION: Pairs = (
    ("task_embedding", "task_embedding"),
    ("transformer_layes.", "transformer_layes."),
    ("spatial_ch_projs.", "spatial_ch_projs."),
    ("control_add_embedding.", "control_add_embedding."),
)


def control_names(depth: tuple[int, ...], blocks: int) -> Pairs:
    """Module prefixes (LDM, ours) of a ControlNet."""
    skips = 1 + len(depth) * blocks + len(depth) - 1
    hints = ["conv_in.", *(f"blocks.{n}." for n in range(6)), "conv_out."]
    return (
        *unet_names(depth, blocks, is_encoder=True),
        *(
            (f"input_hint_block.{2 * n}.", f"controlnet_cond_embedding.{h}")
            for n, h in enumerate(hints)
        ),
        *((f"zero_convs.{n}.0.", f"controlnet_down_blocks.{n}.") for n in range(skips)),
        ("middle_block_out.0.", "controlnet_mid_block."),
        *UNION,
    )


def vae_names(levels: int, blocks: int) -> Pairs:
    """Module prefixes (LDM, ours) of an autoencoder."""
    pairs = [("quant_conv.", "quant_conv."), ("post_quant_conv.", "post_quant_conv.")]
    for side in ("encoder.", "decoder."):
        for a, b in (("conv_in.", "conv_in."), ("norm_out.", "conv_norm_out.")):
            pairs.append((side + a, side + b))
        pairs.append((f"{side}conv_out.", f"{side}conv_out."))
        for n in (0, 1):
            pairs += _inside(
                f"{side}mid.block_{n + 1}.", f"{side}mid_block.resnets.{n}.", VAE_RESNET
            )
        pairs += _inside(f"{side}mid.attn_1.", f"{side}mid_block.attentions.0.", VAE_ATTENTION)
    for level in range(levels):
        down, ours = f"encoder.down.{level}.", f"encoder.down_blocks.{level}."
        for n in range(blocks):
            pairs += _inside(f"{down}block.{n}.", f"{ours}resnets.{n}.", VAE_RESNET)
        up, ours_up = f"decoder.up.{levels - 1 - level}.", f"decoder.up_blocks.{level}."
        for n in range(blocks + 1):
            pairs += _inside(f"{up}block.{n}.", f"{ours_up}resnets.{n}.", VAE_RESNET)
        if level != levels - 1:
            pairs.append((f"{down}downsample.conv.", f"{ours}downsamplers.0.conv."))
            pairs.append((f"{up}upsample.conv.", f"{ours_up}upsamplers.0.conv."))
    return tuple(pairs)


TEXT_NAMES: Pairs = (("text_model.", ""), ("text_projection.", "text_projection."))
# Names without `text_model.`, as some files have them; read only.
BARE_TEXT_NAMES: Pairs = tuple(
    (name, name) for name in ("embeddings.", "encoder.", "final_layer_norm.")
)


# T5's own names, its token table under either of the two that files have.
T5_NAMES: Pairs = (
    ("encoder.embed_tokens.", "shared."),
    ("shared.", "shared."),
    ("encoder.", "encoder."),
)


def open_clip_names(layers: int) -> Pairs:
    """Module prefixes (OpenCLIP, ours) of a text tower; its fused `in_proj` is split apart."""
    pairs = [
        ("token_embedding.", "embeddings.token_embedding."),
        ("positional_embedding", "embeddings.position_embedding.weight"),
        ("ln_final.", "final_layer_norm."),
        ("text_projection", "text_projection.weight"),
    ]
    for n in range(layers):
        source, ours = f"transformer.resblocks.{n}.", f"encoder.layers.{n}."
        pairs += _inside(source, ours, OPEN_CLIP_LAYER)
    return tuple(pairs)


# Renaming -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a weight of ours comes from: a key of the file and how its tensor is read.

    `rows` takes a third of a fused matrix, `is_transposed` swaps the two axes, `is_squeezed` reads
    a 1x1 convolution as a matrix (so the autoencoder's attention was written), `swaps_halves`
    reads the second half of the rows first.
    """

    key: str
    rows: tuple[int, int] | None = None
    is_transposed: bool = False
    is_squeezed: bool = False
    swaps_halves: bool = False

    def read(self, tensor: Tensor) -> Tensor:
        """The weight as our network holds it; a view wherever that is possible."""
        if self.rows is not None:
            tensor = tensor[self.rows[0] : self.rows[1]]
        if self.swaps_halves:
            tensor = tensor.roll(tensor.shape[0] // 2, 0)
        if self.is_transposed:
            tensor = tensor.t()
        if self.is_squeezed and tensor.dim() == 4:
            tensor = tensor[:, :, 0, 0]  # (O, I, 1, 1) -> (O, I)
        return tensor

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the weight that is read from a tensor of `shape`."""
        if self.rows is not None:
            shape = (self.rows[1] - self.rows[0], *shape[1:])
        if self.is_transposed:
            shape = shape[::-1]
        return shape[:2] if self.is_squeezed and shape[2:] == (1, 1) else shape


def renamer(pairs: Pairs, *, inverse: bool = False) -> Callable[[str], str | None]:
    """A function that renames keys by their longest matching prefix."""
    table = {b: a for a, b in pairs} if inverse else dict(pairs)

    def one(key: str) -> str | None:
        if key in table:
            return table[key]
        position = len(key)
        while (position := key.rfind(".", 0, position)) >= 0:
            start = key[: position + 1]
            if start in table:
                return table[start] + key[position + 1 :]
        return table[""] + key if "" in table else None

    return one


def sources(keys: Iterable[str], pairs: Pairs, prefix: str) -> dict[str, Source]:
    """Our names -> sources, for all keys under `prefix` that a pair covers."""
    rename_one = renamer(pairs)
    found: dict[str, Source] = {}
    for key in keys:
        if not key.startswith(prefix):
            continue
        ours = rename_one(key[len(prefix) :])
        if ours is not None:
            found[ours] = Source(key=key, is_squeezed=is_vae_attention(ours))
    return found


def is_vae_attention(name: str) -> bool:
    """Whether a weight of ours is a matrix that the LDM layout writes as a 1x1 convolution."""
    return "mid_block.attentions.0.to_" in name and name.endswith(".weight")


def open_clip_sources(
    keys: Iterable[str], layers: int, width: int, prefix: str
) -> dict[str, Source]:
    """Our names -> sources of an OpenCLIP text tower."""
    keys = list(keys)
    found = sources(keys, open_clip_names(layers), prefix)
    projection = found.pop("text_projection.weight", None)
    if projection is not None:
        is_transposed = not projection.key.endswith(".weight")
        found["text_projection.weight"] = Source(key=projection.key, is_transposed=is_transposed)
    for n in range(layers):
        for third, name in enumerate(("q_proj", "k_proj", "v_proj")):
            rows = (third * width, (third + 1) * width)
            for end in ("weight", "bias"):
                key = f"{prefix}transformer.resblocks.{n}.attn.in_proj_{end}"
                if key in keys:
                    ours = f"encoder.layers.{n}.self_attn.{name}.{end}"
                    found[ours] = Source(key=key, rows=rows)
    return found


# Whole state dicts --------------------------------------------------------------------------------


def from_ldm(
    part: str, tensors: Mapping[str, Tensor], *, prefix: str | None = None
) -> dict[str, Tensor]:
    """A part's own state dict from single-file tensors; keys of other parts are left out.

    `part` is denoiser, vae, text (CLIP-L) or control. Raises: ModelError for a key of no known use.
    """
    start = PREFIXES[part] if prefix is None else prefix
    inner = [k[len(start) :] for k in tensors if k.startswith(start)]
    rename_one = renamer(_names_of_ldm(part, inner))
    state: dict[str, Tensor] = {}
    for key in inner:
        ours = rename_one(key)
        if ours is None:
            raise ModelError(f"The weight {start}{key} is of no known use in a {part}.")
        source = Source(key=key, is_squeezed=part == "vae" and is_vae_attention(ours))
        state[ours] = source.read(tensors[start + key])
    return state


def to_ldm(
    part: str, state: Mapping[str, Tensor], *, prefix: str | None = None
) -> dict[str, Tensor]:
    """Single-file tensors from a part's own state dict; the inverse of `from_ldm`.

    The text part may come with or without `text_model.` before its names.
    Raises: ModelError for a key of no known use.
    """
    start = PREFIXES[part] if prefix is None else prefix
    if part == "text":
        state = {k.removeprefix("text_model."): v for k, v in state.items()}
    rename_one = renamer(_names_of_ours(part, state), inverse=True)
    tensors: dict[str, Tensor] = {}
    for key, tensor in state.items():
        ldm = rename_one(key)
        if ldm is None:
            raise ModelError(f"The weight {key} is of no known use in a {part}.")
        if part == "vae" and is_vae_attention(key):
            tensor = tensor[:, :, None, None]  # (O, I) -> (O, I, 1, 1)
        tensors[start + ldm] = tensor.contiguous()
    return tensors


# Names of older diffusers files, and ours.
OLD_NAMES: Pairs = (
    (".query.", ".to_q."),
    (".key.", ".to_k."),
    (".value.", ".to_v."),
    (".proj_attn.", ".to_out.0."),
)


def diffusers_names(part: str, keys: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Our name -> the key of a file in diffusers' layout, and its name in the LDM layout.

    Keys of no known use are left out.
    """
    ours = {_modern(key): key for key in keys}
    rename_one = renamer(_names_of_ours(part, ours), inverse=True)
    pairs = ((name, key, rename_one(name)) for name, key in ours.items())
    return {name: (key, ldm) for name, key, ldm in pairs if ldm is not None}


def _modern(key: str) -> str:
    for old, new in OLD_NAMES:
        key = key.replace(old, new)
    start = "add_embedding."  # SDXL's vector input
    return f"class_embedding.{key.removeprefix(start)}" if key.startswith(start) else key


def _names_of_ldm(part: str, keys: Iterable[str]) -> Pairs:
    """The pairs of a part whose sizes are read from its LDM names."""
    keys = set(keys)
    if part == "text":
        return TEXT_NAMES
    if part == "vae":
        levels = _count(keys, "encoder.down.{}.block.0.norm1.weight")
        return vae_names(levels, _count(keys, "encoder.down.0.block.{}.norm1.weight"))
    depth, index, blocks = [0], 1, 0
    while True:
        if f"input_blocks.{index}.0.op.weight" in keys:
            depth.append(0)
        elif f"input_blocks.{index}.0.in_layers.0.weight" in keys:
            depth[-1] = int(f"input_blocks.{index}.1.norm.weight" in keys)
            blocks += len(depth) == 1
        else:
            break
        index += 1
    names = control_names if part == "control" else unet_names
    return names(tuple(depth), blocks)


def _names_of_ours(part: str, state: Iterable[str]) -> Pairs:
    """The pairs of a part whose sizes are read from our own names."""
    keys = set(state)
    if part == "text":
        return TEXT_NAMES
    if part == "vae":
        levels = _count(keys, "encoder.down_blocks.{}.resnets.0.norm1.weight")
        return vae_names(levels, _count(keys, "encoder.down_blocks.0.resnets.{}.norm1.weight"))
    levels = _count(keys, "down_blocks.{}.resnets.0.norm1.weight")
    has = (f"down_blocks.{n}.attentions.0.norm.weight" in keys for n in range(levels))
    blocks = _count(keys, "down_blocks.0.resnets.{}.norm1.weight")
    names = control_names if part == "control" else unet_names
    return names(tuple(int(h) for h in has), blocks)


def _count(keys: set[str], pattern: str) -> int:
    n = 0
    while pattern.format(n) in keys:
        n += 1
    return n
