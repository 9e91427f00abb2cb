"""Loaded diffusion transformers: builds diffusers' classes for a layout and calls them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor, nn

from engine.api.errors import NodeError
from engine.api.recipe import Hook
from engine.diffusion.families.base import FluxLayout, Sd3Layout
from engine.diffusion.latent_space import LatentSpace
from engine.diffusion.network import cells_that_fit, sd_alphas_cumprod, unknown

if TYPE_CHECKING:
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

PATCH = 2  # latent cells per token and side
GUIDANCE = 3.5  # where a conditioning says nothing
# Our slots of hooks around blocks -> the blocks' list in diffusers' classes.
BLOCKS = {"double_block": "transformer_blocks", "single_block": "single_transformer_blocks"}
REPLACE = "dit_replace"


@dataclass(frozen=True, kw_only=True)
class LoadedTransformer:
    """A diffusion transformer ready to be called, with what a sampler must know of it.

    Hooks in the slots `dit_replace/double_block/N` and `dit_replace/single_block/N` stand in for a
    block: `f(args, {"original_block": g}) -> args`, where `args` holds `img`, `txt`, `vec` and
    `pe`. Blocks of SD3 count as double ones.
    """

    family: str
    layout: Sd3Layout | FluxLayout
    model: nn.Module
    device: torch.device
    dtype: torch.dtype
    latent: LatentSpace
    sampling: tuple[object, ...] | None
    latent_rgb_factors: tuple[tuple[float, ...], ...] | None = None
    native_size: int = 1024
    hooks: tuple[Hook, ...] = ()
    free_bytes: Callable[[], int | None] = unknown
    parameterization_name: str = "eps"  # what a "discrete" override starts from
    embed_statistics: None = None
    is_joint: bool = True
    vector: tuple[str, ...] = ()
    has_noise_level: bool = False

    @property
    def most_cells(self) -> int | None:
        """How many latent cells a call may have now; four of them are one token."""
        return cells_that_fit(self.free_bytes(), self.model, self.dtype, self.layout.width // 4)

    @property
    def alphas_cumprod(self) -> Tensor:
        """Those of Stable Diffusion, for who overrides the sampling with discrete times."""
        return sd_alphas_cumprod()

    @property
    def in_channels(self) -> int:
        return self.layout.in_channels

    @property
    def context_dim(self) -> int:
        return self.layout.context_dim

    @property
    def adm_channels(self) -> int:
        return self.layout.pooled_dim

    def extra_conditions(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """What this network reads from a conditioning's options beside text and pooled text.

        `guidance` (1,), NaN for none; `ref_latents`, pictures to look at, and how they are placed.
        """
        if not isinstance(self.layout, FluxLayout):
            return {}
        found: dict[str, Any] = {}
        if self.layout.has_guidance:
            guidance = options.get("guidance", GUIDANCE)
            found["guidance"] = torch.tensor([float("nan") if guidance is None else guidance])
        if references := options.get("reference_latents"):
            found["ref_latents"] = [self.latent.entered(r.float()) for r in references]
            found["ref_latents_method"] = options.get("reference_latents_method", "offset")
        return found

    def predict(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        y: Tensor | None = None,
        control: Any = None,
        options: Mapping[str, Any] | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """The network's raw output, a velocity, in float32.

        Shapes: x (B, in_channels, H, W), timestep (B,), context (B, T, context_dim), y (B, pooled).
        Raises: NodeError, for a ControlNet or a picture that the network cannot take.
        """
        if control is not None:
            raise NodeError(
                "This ControlNet was made for another kind of model than the transformer it "
                "is used with.",
                hint="Leave the ControlNet out, or use a Stable Diffusion 1, 2 or XL model.",
            )
        hooks = (*self.hooks, *(options or {}).get("hooks", ()))
        height, width = x.shape[-2:]
        padded = _padded(x).to(self.device, self.dtype)
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        if y is None:
            y = x.new_zeros(x.shape[0], self.layout.pooled_dim)
        given = _Inputs(
            x=padded,
            timestep=timestep.to(self.device),
            context=context.to(**place),
            y=y.to(**place),
            extras=extras or {},
        )
        call = _flux if isinstance(self.layout, FluxLayout) else _sd3
        with torch.no_grad(), _hooked_blocks(self.model, hooks):
            out = call(self.model, self.layout, given)
        return out[..., :height, :width].float()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Inputs:
    x: Tensor
    timestep: Tensor
    context: Tensor
    y: Tensor
    extras: Mapping[str, Any]


def _padded(x: Tensor) -> Tensor:
    """A latent whose sides are whole patches; what is added repeats the other side."""
    right, bottom = x.shape[-1] % PATCH, x.shape[-2] % PATCH
    return F.pad(x, (0, right, 0, bottom), mode="circular") if right or bottom else x


# Stable Diffusion 3 -------------------------------------------------------------------------------


def _sd3(model: Any, layout: Any, given: _Inputs) -> Tensor:
    largest = layout.places * layout.patch
    if max(given.x.shape[-2:]) > largest:
        raise NodeError(
            f"A latent of {given.x.shape[-1]} x {given.x.shape[-2]} cells is too large: this model "
            f"knows places up to {largest} x {largest}.",
            hint=f"Each side of the picture may have {largest * 8} pixels.",
        )
    return model(
        hidden_states=given.x,
        encoder_hidden_states=given.context,
        pooled_projections=given.y,
        timestep=given.timestep,
        return_dict=False,
    )[0]


def build_sd3(layout: Sd3Layout) -> "SD3Transformer2DModel":
    """The transformer without weights (on the meta device)."""
    # Imported on use: diffusers takes seconds, and listing nodes must not wait for it.
    from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

    with torch.device("meta"):
        return SD3Transformer2DModel(
            sample_size=layout.places * layout.patch,
            patch_size=layout.patch,
            in_channels=layout.in_channels,
            num_layers=layout.layers,
            attention_head_dim=layout.width // layout.heads,
            num_attention_heads=layout.heads,
            joint_attention_dim=layout.context_dim,
            caption_projection_dim=layout.width,
            pooled_projection_dim=layout.pooled_dim,
            out_channels=layout.out_channels,
            pos_embed_max_size=layout.places,
            dual_attention_layers=layout.dual_layers,
            qk_norm=layout.query_norm,
        )


# Flux ---------------------------------------------------------------------------------------------


def _flux(model: Any, layout: Any, given: _Inputs) -> Tensor:
    tokens, places = _tokens(given.x), _places(given.x)
    count = tokens.shape[1]
    for reference, place in _references(given):
        tokens = torch.cat([tokens, reference], dim=1)
        places = torch.cat([places, place])
    guidance = given.extras.get("guidance") if layout.has_guidance else None
    out: Tensor = model(
        hidden_states=tokens,
        encoder_hidden_states=given.context,
        pooled_projections=given.y,
        timestep=given.timestep,
        img_ids=places,
        txt_ids=places.new_zeros(given.context.shape[1], 3),
        guidance=_guidance(guidance, given.x) if layout.has_guidance else None,
        return_dict=False,
    )[0]
    return _latent(out[:, :count], *given.x.shape[-2:])


def _guidance(guidance: Tensor | None, x: Tensor) -> Tensor:
    if guidance is None:
        guidance = torch.full((x.shape[0],), GUIDANCE)
    return guidance.to(x.device, torch.float32)


def _tokens(x: Tensor) -> Tensor:
    """Patches as tokens. Shapes: (B, C, H, W) -> (B, H W / 4, 4 C)."""
    b, c, h, w = x.shape
    x = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return x.reshape(b, h * w // 4, c * 4)


def _latent(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `_tokens`."""
    b, _, c = tokens.shape
    x = tokens.reshape(b, height // 2, width // 2, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return x.reshape(b, c // 4, height, width)


def _places(x: Tensor, index: int = 0, down: int = 0, right: int = 0) -> Tensor:
    """Picture, row and column of each token. Shapes: (H W / 4, 3)."""
    rows, columns = x.shape[-2] // PATCH, x.shape[-1] // PATCH
    places = torch.zeros(rows, columns, 3, device=x.device)
    places[..., 0] = index
    places[..., 1] = torch.arange(rows)[:, None] + down
    places[..., 2] = torch.arange(columns)[None] + right
    return places.reshape(-1, 3)


def _references(given: _Inputs) -> Iterator[tuple[Tensor, Tensor]]:
    """Tokens and places of the pictures that the network is shown beside its own.

    `index` counts them; `offset` lays them beside each other, on the shorter side; `uxo` one
    behind the other along the diagonal.
    Source: Labs et al. 2025 (FLUX.1 Kontext, arXiv 2506.15742), section 3; Wu et al. 2025 (UNO,
    arXiv 2504.02160), equation 5.
    """
    method = given.extras.get("ref_latents_method", "offset")
    height = width = index = 0
    if method == "uxo":
        height, width = (n // PATCH for n in given.x.shape[-2:])
    for latent in given.extras.get("ref_latents", ()):
        x = _padded(latent).to(given.x).expand(given.x.shape[0], -1, -1, -1)
        rows, columns = (n // PATCH for n in x.shape[-2:])
        if method == "index":
            index += 1
            yield _tokens(x), _places(x, index)
        elif method == "uxo":
            yield _tokens(x), _places(x, 0, height, width)
            height, width = height + rows, width + columns
        else:
            down, right = (0, width) if rows + height > columns + width else (height, 0)
            yield _tokens(x), _places(x, 1, down, right)
            height, width = max(height, down + rows), max(width, right + columns)


def build_flux(layout: FluxLayout) -> "FluxTransformer2DModel":
    """The transformer without weights (on the meta device)."""
    # Imported on use: diffusers takes seconds, and listing nodes must not wait for it.
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

    head = layout.width // layout.heads
    with torch.device("meta"):
        model = FluxTransformer2DModel(
            in_channels=layout.in_channels * 4,
            out_channels=layout.out_channels * 4,
            num_layers=layout.layers,
            num_single_layers=layout.single_layers,
            attention_head_dim=head,
            num_attention_heads=layout.heads,
            joint_attention_dim=layout.context_dim,
            pooled_projection_dim=layout.pooled_dim,
            guidance_embeds=layout.has_guidance,
            axes_dims_rope=(head // 8, head * 7 // 16, head * 7 // 16),
        )
    if layout.has_guidance:
        embedder: Any = model.time_text_embed
        embedder.guidance_embedder.register_forward_hook(_without_guidance)
        embedder.register_forward_pre_hook(_marked_guidance)
    return model


def _marked_guidance(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Keeps in mind which items of a batch have no guidance (NaN)."""
    timestep, guidance, pooled = inputs
    module.guidance_embedder.is_absent = guidance.isnan()
    return timestep, guidance.nan_to_num(), pooled


def _without_guidance(module: Any, _: Any, out: Tensor) -> Tensor:
    return out.masked_fill(module.is_absent[:, None], 0.0)


# Hooks around blocks ------------------------------------------------------------------------------


@contextmanager
def _hooked_blocks(model: nn.Module, hooks: tuple[Hook, ...]) -> Iterator[None]:
    """Puts hooks in place of blocks while the block runs, and takes them out again."""
    with ExitStack() as stack:
        for hook in hooks:
            kind, _, rest = hook.slot.partition("/")
            name, _, number = rest.partition("/")
            blocks: Any = getattr(model, BLOCKS[name], ()) if name in BLOCKS else ()
            if kind == REPLACE and number.isdecimal() and int(number) < len(blocks):
                block = blocks[int(number)]
                block.forward = _replaced(block.forward, hook.function)
                stack.callback(block.__dict__.pop, "forward", None)
        yield


def _replaced(original: Any, function: Any) -> Any:
    def run(args: Mapping[str, Any]) -> dict[str, Any]:
        txt, img = original(
            hidden_states=args["img"],
            encoder_hidden_states=args["txt"],
            temb=args["vec"],
            **({} if args["pe"] is None else {"image_rotary_emb": args["pe"]}),
        )
        return {**args, "img": img, "txt": txt}

    def forward(
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        image_rotary_emb: Any = None,
        joint_attention_kwargs: Any = None,
    ) -> tuple[Tensor, Tensor]:
        args = {
            "img": hidden_states,
            "txt": encoder_hidden_states,
            "vec": temb,
            "pe": image_rotary_emb,
        }
        out = function(args, {"original_block": run})
        return out["txt"], out["img"]

    return forward
