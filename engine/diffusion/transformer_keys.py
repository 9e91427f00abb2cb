"""Key names of diffusion transformers: the original single-file layouts and diffusers' own names.

A table maps a module of the original to ours; `{}` stands for a block's number. Several names on
the right take the rows of one fused matrix in their order. Our names are those of diffusers'
classes, so that files in their layout need no table.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from engine.diffusion.keymap import Source
from engine.diffusion.weightfile import WeightFile

Names = Mapping[str, str | tuple[str, ...]]

# What stands before the names in files of different origin; at most one fits a file.
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "transformer.", "")


def _within(original: str, ours: str, names: Names) -> dict[str, str | tuple[str, ...]]:
    return {
        original + a: ours + b if isinstance(b, str) else tuple(ours + part for part in b)
        for a, b in names.items()
    }


def _attention(original: str, ours: str, names: tuple[str, str, str]) -> Names:
    return {original: tuple(f"{ours}{name}" for name in names)}


_OWN, _ADDED = ("to_q", "to_k", "to_v"), ("add_q_proj", "add_k_proj", "add_v_proj")

_SD3_BLOCK: Names = {
    **_attention("x_block.attn.qkv", "attn.", _OWN),
    **_attention("x_block.attn2.qkv", "attn2.", _OWN),
    **_attention("context_block.attn.qkv", "attn.", _ADDED),
    "x_block.attn.ln_q": "attn.norm_q",
    "x_block.attn.ln_k": "attn.norm_k",
    "x_block.attn2.ln_q": "attn2.norm_q",
    "x_block.attn2.ln_k": "attn2.norm_k",
    "context_block.attn.ln_q": "attn.norm_added_q",
    "context_block.attn.ln_k": "attn.norm_added_k",
    "x_block.attn.proj": "attn.to_out.0",
    "x_block.attn2.proj": "attn2.to_out.0",
    "context_block.attn.proj": "attn.to_add_out",
    "x_block.adaLN_modulation.1": "norm1.linear",
    "context_block.adaLN_modulation.1": "norm1_context.linear",
    "x_block.mlp.fc1": "ff.net.0.proj",
    "x_block.mlp.fc2": "ff.net.2",
    "context_block.mlp.fc1": "ff_context.net.0.proj",
    "context_block.mlp.fc2": "ff_context.net.2",
}
SD3: Names = {
    "pos_embed": "pos_embed.pos_embed",
    "x_embedder.proj": "pos_embed.proj",
    "t_embedder.mlp.0": "time_text_embed.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "time_text_embed.timestep_embedder.linear_2",
    "y_embedder.mlp.0": "time_text_embed.text_embedder.linear_1",
    "y_embedder.mlp.2": "time_text_embed.text_embedder.linear_2",
    "context_embedder": "context_embedder",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
    **_within("joint_blocks.{}.", "transformer_blocks.{}.", _SD3_BLOCK),
}

_FLUX_DOUBLE: Names = {
    **_attention("img_attn.qkv", "attn.", _OWN),
    **_attention("txt_attn.qkv", "attn.", _ADDED),
    "img_mod.lin": "norm1.linear",
    "txt_mod.lin": "norm1_context.linear",
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "img_attn.proj": "attn.to_out.0",
    "txt_attn.proj": "attn.to_add_out",
    "img_mlp.0": "ff.net.0.proj",
    "img_mlp.2": "ff.net.2",
    "txt_mlp.0": "ff_context.net.0.proj",
    "txt_mlp.2": "ff_context.net.2",
}
_FLUX_SINGLE: Names = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": "proj_out",
    "modulation.lin": "norm.linear",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
}
FLUX: Names = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
    **_within("double_blocks.{}.", "transformer_blocks.{}.", _FLUX_DOUBLE),
    **_within("single_blocks.{}.", "single_transformer_blocks.{}.", _FLUX_SINGLE),
}

_BLOCK = re.compile(r"(?<=blocks\.)\d+(?=\.)")
# A modulation of two parts is (shift, scale) in the originals, (scale, shift) in diffusers.
_TWO_PARTS = ("norm_out.linear", "norm1_context.linear")


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A transformer's weights by our names, with their shapes; empty where the file has none."""

    file: WeightFile
    sources: Mapping[str, Source]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one of our weights, or () where the file lacks it."""
        source = self.sources.get(name)
        return source.shape(self.file.shape(source.key)) if source else ()

    def count(self, pattern: str) -> int:
        """How many weights there are of a name with a number in it, from 0 on."""
        n = 0
        while pattern.format(n) in self.sources:
            n += 1
        return n


def header(file: WeightFile, names: Names, original: str, ours: str) -> Header:
    """A transformer's header, found by a key of the original layout or by one of ours."""
    for prefix in PREFIXES:
        if prefix + original in file:
            return Header(file=file, sources=dict(_renamed(file, names, prefix)))
        if prefix + ours in file:
            keys = ((key.removeprefix(prefix), key) for key in file.keys(prefix))
            return Header(file=file, sources={name: Source(key=key) for name, key in keys})
    return Header(file=file, sources={})


def _renamed(file: WeightFile, names: Names, prefix: str) -> Iterator[tuple[str, Source]]:
    for key in file.keys(prefix):
        name = key.removeprefix(prefix)
        whole = names.get(name)
        if isinstance(whole, str):  # a tensor without a module around it
            yield whole, Source(key=key)
            continue
        module, _, leaf = name.rpartition(".")
        number = _BLOCK.search(module)
        ours = names.get(_BLOCK.sub("{}", module, count=1))
        if ours is None or leaf not in ("weight", "bias", "scale"):
            continue
        block = number.group() if number else ""
        leaf = "weight" if leaf == "scale" else leaf
        shape = file.shape(f"{prefix}{module}.weight") or file.shape(key)
        for target, source in _parts(ours, key, shape):
            yield f"{target.format(block)}.{leaf}", source


def _parts(
    ours: str | tuple[str, ...], key: str, shape: tuple[int, ...]
) -> Iterator[tuple[str, Source]]:
    """Our names of a tensor's rows. Queries, keys and values are as wide as what they read."""
    if isinstance(ours, str):
        is_two = ours.endswith(_TWO_PARTS) and len(shape) == 2 and shape[0] == 2 * shape[1]
        yield ours, Source(key=key, swaps_halves=is_two)
        return
    width = shape[-1]
    for n, name in enumerate(ours):
        end = (n + 1) * width if n < 3 else shape[0]
        yield name, Source(key=key, rows=(n * width, end))


def original_modules(
    names: Names, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, list[tuple[str, Source | None]]]:
    """Modules of the original layout -> ours, each with what it takes of a change of the original.

    `shapes` are those of our weights by module. An original that lacks one of its parts is left
    out.
    """
    places = {
        part: (original, n)
        for original, ours in names.items()
        for n, part in enumerate((ours,) if isinstance(ours, str) else ours)
    }
    found: dict[str, dict[int, str]] = {}
    for module in shapes:
        number = _BLOCK.search(module)
        place = places.get(_BLOCK.sub("{}", module, count=1))
        if place is not None:
            original = place[0].format(number.group() if number else "")
            found.setdefault(original, {})[place[1]] = module
    modules: dict[str, list[tuple[str, Source | None]]] = {}
    for original, parts in found.items():
        pattern = names[_BLOCK.sub("{}", original, count=1)]
        if len(parts) != (1 if isinstance(pattern, str) else len(pattern)):
            continue
        start = 0
        for _, module in sorted(parts.items()):
            shape, part = shapes[module], None
            if len(parts) > 1:
                part = Source(key=original, rows=(start, start + shape[0]))
            elif module.endswith(_TWO_PARTS) and shape[0] == 2 * shape[1]:
                part = Source(key=original, swaps_halves=True)
            start += shape[0]
            modules.setdefault(original, []).append((module, part))
    return modules
