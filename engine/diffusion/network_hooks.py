"""Python hooks inside the denoising network, in the customary slots of this ecosystem.

A recipe's hooks whose slot is listed here act inside the network, for that recipe's calls only:

- `attn1_patch`, `attn2_patch`: `f(q, k, v, extra) -> (q, k, v)`, before the projections;
- `attn1_replace/middle/0`, `attn2_replace/input/4/0` …: `f(q, k, v, extra) -> out`, instead of the
  attention of that block (and, with a fourth part, of that transformer layer);
- `attn1_output_patch`, `attn2_output_patch`: `f(out, extra) -> out`;
- `middle_patch`: `f(h, extra) -> h`, between the two attentions of a transformer layer;
- `input_block_patch`, `input_block_patch_after_skip`: `f(h, options) -> h`;
- `output_block_patch`: `f(h, skip, options) -> (h, skip)`, before the two are joined.

`extra` and `options` hold what the caller gave (`sigmas`, `cond_or_uncond` …) and `block`, a pair
in the numbering of the original layout; `extra` also `block_index`, `n_heads` and `dim_head`.
Shapes: attention (B, tokens, channels), blocks (B, C, H, W).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from engine.api.recipe import Hook
from engine.diffusion.families.base import UnetLayout

Function = Callable[..., Any]
Options = Mapping[str, Any]

PATCHES = (
    "attn1_patch",
    "attn2_patch",
    "attn1_output_patch",
    "attn2_output_patch",
    "middle_patch",
    "input_block_patch",
    "input_block_patch_after_skip",
    "output_block_patch",
)
REPLACEMENTS = ("attn1_replace", "attn2_replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkHooks:
    """The functions by slot; empty for most recipes, and then never looked at again."""

    by_slot: Mapping[str, tuple[Function, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.by_slot)

    def of(self, slot: str) -> tuple[Function, ...]:
        return self.by_slot.get(slot, ())

    def joined(self, hooks: tuple[Hook, ...]) -> "NetworkHooks":
        """With further hooks, which come last."""
        if not hooks:
            return self
        more = network_hooks(hooks).by_slot
        return NetworkHooks(
            by_slot={**self.by_slot, **{slot: (*self.of(slot), *f) for slot, f in more.items()}}
        )


NO_HOOKS = NetworkHooks()


def network_hooks(hooks: tuple[Hook, ...]) -> NetworkHooks:
    """Those of a recipe's hooks that act inside the network."""
    by_slot: dict[str, tuple[Function, ...]] = {}
    for hook in hooks:
        if hook.slot in PATCHES or hook.slot.partition("/")[0] in REPLACEMENTS:
            by_slot[hook.slot] = (*by_slot.get(hook.slot, ()), hook.function)
    return NetworkHooks(by_slot=by_slot)


@contextmanager
def hooked(
    unet: nn.Module, layout: UnetLayout, hooks: NetworkHooks, options: Options
) -> Iterator[None]:
    """Puts the hooks into the network while the block runs, and takes them out again."""
    with ExitStack() as stack:
        if any(slot.startswith("attn") for slot in hooks.by_slot):
            _hook_attention(unet, layout, hooks, options, stack)
        if hooks.of("middle_patch"):
            _hook_middle(unet, layout, hooks.of("middle_patch"), options, stack)
        if hooks.of("output_block_patch"):
            _hook_outputs(unet, layout, hooks, options, stack)
        if hooks.of("input_block_patch") or hooks.of("input_block_patch_after_skip"):
            _hook_inputs(unet, layout, hooks, options, stack)
        yield


# Blocks -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A block in the numbering of the original layout, by its modules in diffusers' network."""

    number: int
    first: str
    last: str
    width: int


def _input_blocks(layout: UnetLayout) -> list[_Block]:
    blocks = [_Block(number=0, first="conv_in", last="conv_in", width=layout.width)]
    for level, m in enumerate(layout.mult):
        width = layout.width * m
        for place in range(layout.blocks):
            first = f"down_blocks.{level}.resnets.{place}"
            last = f"down_blocks.{level}.attentions.{place}" if layout.depth[level] else first
            blocks.append(_Block(number=len(blocks), first=first, last=last, width=width))
        if level != len(layout.mult) - 1:
            name = f"down_blocks.{level}.downsamplers.0"
            blocks.append(_Block(number=len(blocks), first=name, last=name, width=width))
    return blocks


def _hook_inputs(
    unet: nn.Module, layout: UnetLayout, hooks: NetworkHooks, options: Options, stack: ExitStack
) -> None:
    """The first slot acts where a block ends, so that the skip connection has it too; the second
    where the next block begins."""
    blocks = _input_blocks(layout)
    followers = [*(block.first for block in blocks[1:]), "mid_block.resnets.0"]
    for block, follower in zip(blocks, followers, strict=True):
        given = {**options, "block": ("input", block.number)}

        def change(h: Tensor, slot: str, given: Options = given) -> Tensor:
            for function in hooks.of(slot):
                h = function(h, given)
            return h

        def end(_: nn.Module, __: Any, output: Any, change: Callable[..., Tensor] = change) -> Any:
            if isinstance(output, tuple):
                return (change(output[0], "input_block_patch"), *output[1:])
            return change(output, "input_block_patch")

        def begin(
            _: nn.Module, inputs: tuple[Any, ...], change: Callable[..., Tensor] = change
        ) -> tuple[Any, ...]:
            return (change(inputs[0], "input_block_patch_after_skip"), *inputs[1:])

        stack.callback(unet.get_submodule(block.last).register_forward_hook(end).remove)
        stack.callback(unet.get_submodule(follower).register_forward_pre_hook(begin).remove)


class _Skips:
    """The skip connections that a decoder block takes from the end, as its hooks change them."""

    def __init__(self, items: list[Tensor]) -> None:
        self._items = items
        self._left = len(items)

    def __getitem__(self, index: int | slice) -> "Tensor | _Skips":
        """The last one that is left, for -1; the others, for a slice `[:-1]`."""
        if isinstance(index, slice):
            rest = _Skips(self._items)
            rest._left = self._left - 1
            return rest
        return self._items[self._left - 1]


def _hook_outputs(
    unet: nn.Module, layout: UnetLayout, hooks: NetworkHooks, options: Options, stack: ExitStack
) -> None:
    """A decoder block begins where what came before it is known: at the start of its level, or
    where the block before it ends. There the network has not joined it with the skip connection.
    """
    functions = hooks.of("output_block_patch")
    for level in range(len(layout.mult)):
        block = unet.get_submodule(f"up_blocks.{level}")
        skips: list[Tensor] = []

        def patched(
            h: Tensor, place: int, level: int = level, skips: list[Tensor] = skips
        ) -> Tensor:
            number = level * (layout.blocks + 1) + place
            given = {**options, "block": ("output", number)}
            for function in functions:
                h, skips[-1 - place] = function(h, skips[-1 - place], given)
            return h

        def begin(
            _: nn.Module,
            args: tuple[Any, ...],
            named: dict[str, Any],
            skips: list[Tensor] = skips,
            patched: Callable[[Tensor, int], Tensor] = patched,
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            skips[:] = named["res_hidden_states_tuple"]
            h = patched(named["hidden_states"], 0)
            return args, {**named, "hidden_states": h, "res_hidden_states_tuple": _Skips(skips)}

        stack.callback(block.register_forward_pre_hook(begin, with_kwargs=True).remove)
        kind = "attentions" if tuple(reversed(layout.depth))[level] else "resnets"
        for place in range(1, layout.blocks + 1):

            def end(
                _: nn.Module,
                __: Any,
                output: Any,
                place: int = place,
                patched: Callable[[Tensor, int], Tensor] = patched,
            ) -> Any:
                if isinstance(output, tuple):
                    return (patched(output[0], place), *output[1:])
                return patched(output, place)

            before = block.get_submodule(f"{kind}.{place - 1}")
            stack.callback(before.register_forward_hook(end).remove)


# Attention ----------------------------------------------------------------------------------------


def _transformers(layout: UnetLayout) -> Iterator[tuple[tuple[str, int], str, int]]:
    """Block, module name and depth of each spatial transformer."""
    for block in _input_blocks(layout):
        if ".attentions." in block.last:
            level = int(block.last.split(".")[1])
            yield ("input", block.number), block.last, layout.depth[level]
    yield ("middle", 0), "mid_block.attentions.0", layout.middle_depth
    for level, depth in enumerate(reversed(layout.depth)):
        for place in range(layout.blocks + 1 if depth else 0):
            number = level * (layout.blocks + 1) + place
            yield ("output", number), f"up_blocks.{level}.attentions.{place}", depth


def _hook_attention(
    unet: nn.Module, layout: UnetLayout, hooks: NetworkHooks, options: Options, stack: ExitStack
) -> None:
    for block, name, depth in _transformers(layout):
        for index in range(depth):
            for kind in ("attn1", "attn2"):
                attention: Any = unet.get_submodule(f"{name}.transformer_blocks.{index}.{kind}")
                place = f"{kind}_replace/{block[0]}/{block[1]}"
                processor = _HookedAttention(
                    patches=hooks.of(f"{kind}_patch"),
                    replace=(hooks.of(f"{place}/{index}") or hooks.of(place))[-1:],
                    output_patches=hooks.of(f"{kind}_output_patch"),
                    extra={**options, "block": block, "block_index": index},
                )
                stack.callback(setattr, attention, "processor", attention.processor)
                attention.processor = processor


def _hook_middle(
    unet: nn.Module,
    layout: UnetLayout,
    functions: tuple[Function, ...],
    options: Options,
    stack: ExitStack,
) -> None:
    """The stream between two attentions is what went into the layer and what the first one adds."""
    for block, name, depth in _transformers(layout):
        for index in range(depth):
            layer = unet.get_submodule(f"{name}.transformer_blocks.{index}")
            came_in: list[Tensor] = []
            extra = {**options, "block": block, "block_index": index}

            def keep(
                _: nn.Module, inputs: tuple[Any, ...], came_in: list[Tensor] = came_in
            ) -> None:
                came_in[:] = inputs[:1]

            def change(
                _: nn.Module,
                __: Any,
                added: Tensor,
                came_in: list[Tensor] = came_in,
                extra: Options = extra,
            ) -> Tensor:
                h = came_in[0] + added
                for function in functions:
                    h = function(h, extra)
                return h - came_in[0]

            stack.callback(layer.register_forward_pre_hook(keep).remove)
            attention = layer.get_submodule("attn1")
            stack.callback(attention.register_forward_hook(change).remove)


@dataclass(frozen=True, kw_only=True)
class _HookedAttention:
    """diffusers' attention with the hooks around it."""

    patches: tuple[Function, ...]
    replace: tuple[Function, ...]
    output_patches: tuple[Function, ...]
    extra: Options

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        heads: int = attn.heads
        extra = {
            **self.extra,
            "n_heads": heads,
            "dim_head": attn.to_q.out_features // heads,
        }
        q = hidden_states
        k = v = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        for function in self.patches:
            q, k, v = function(q, k, v, extra)
        q, k, v = attn.to_q(q), attn.to_k(k), attn.to_v(v)
        if self.replace:
            out = self.replace[0](q, k, v, extra)
        else:
            out = attention(q, k, v, heads)
        out = attn.to_out[0](out)
        for function in self.output_patches:
            out = function(out, extra)
        return out


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Plain attention, for hooks that need it. Shapes: q (B, T, C), k and v (B, S, C)."""
    b, t, c = q.shape
    q, k, v = (x.view(b, -1, heads, c // heads).transpose(1, 2) for x in (q, k, v))
    return scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, t, c)
