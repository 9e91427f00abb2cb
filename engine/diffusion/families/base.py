"""What a model family says about a checkpoint: the sizes and places of its networks, as data."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from engine.diffusion.latent_space import SD1, LatentSpace
from engine.diffusion.weightfile import WeightFile

Prediction = Literal["eps", "v"]


@dataclass(frozen=True, slots=True, kw_only=True)
class UnetLayout:
    """Sizes of a cross-attention UNet, read from names and shapes.

    `depth` counts transformer layers per level (0: none). Either `heads` (SD1.x) or `head_width`
    (later families) decides the attention heads. `adm` is the width of the vector input `y`;
    `classes` counts the numbers that may stand in its place. On levels that are `only_cross` both
    attentions read the text.
    """

    prefix: str
    in_channels: int
    out_channels: int
    width: int
    mult: tuple[int, ...]
    blocks: int
    depth: tuple[int, ...]
    middle_depth: int
    context_dim: int
    is_linear: bool = False
    adm: int | None = None
    groups: int = 32
    heads: int | None = None
    head_width: int | None = None
    classes: int | None = None
    only_cross: tuple[bool, ...] = ()
    control_types: int | None = None  # of a ControlNet for several kinds of pictures


@dataclass(frozen=True, slots=True, kw_only=True)
class Sd3Layout:
    """Sizes of a joint transformer (SD3). `places` are the positions per side, in patches.

    `dual_layers` have a second attention of the picture alone (3.5 medium).
    """

    in_channels: int
    out_channels: int
    width: int
    heads: int
    layers: int
    context_dim: int
    pooled_dim: int
    patch: int
    places: int
    dual_layers: tuple[int, ...] = ()
    query_norm: Literal["rms_norm", "layer_norm"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FluxLayout:
    """Sizes of a transformer with double and single streams (Flux); channels are the latent's."""

    in_channels: int
    out_channels: int
    width: int
    heads: int
    layers: int
    single_layers: int
    context_dim: int
    pooled_dim: int
    has_guidance: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VaeLayout:
    """Sizes of a KL autoencoder; `factor` is pixels per latent cell.

    `has_quant`: 1x1 convolutions stand between the latent and both halves.
    """

    prefix: str
    width: int
    mult: tuple[int, ...]
    blocks: int
    latent_channels: int
    groups: int = 32
    has_quant: bool = True

    @property
    def factor(self) -> int:
        return 2 ** (len(self.mult) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLayout:
    """Sizes and habits of one CLIP text tower.

    `layer` is the output taken without clip skip (-1: the last layer, -2: the one before).
    `normalizes` says whether that output passes the final layer norm. `naming` is the key layout.
    """

    name: str
    prefix: str
    width: int
    layers: int
    heads: int
    mlp: int
    positions: int = 77
    vocabulary: int = 49408
    naming: Literal["clip", "open_clip"] = "clip"
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    pad_token: int = 49407
    layer: int = -1
    normalizes: bool = True
    projection: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class T5Layout:
    """Sizes of a T5 v1.1 encoder; prompts are padded to `min_length` tokens."""

    name: str
    prefix: str
    width: int
    layers: int
    heads: int
    head_width: int
    mlp: int
    vocabulary: int
    min_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointLayout:
    """All parts of one checkpoint file; a part that the file lacks is None or empty.

    A denoiser is a `unet` or a `transformer`. `sampling` is what the family means by its output
    where that is no prediction at discrete times (see `parameterization`).
    `latent_rgb` gives a rough picture of a latent: red, green and blue, -1..1, per latent channel.
    `vector` names the numbers that the vector input holds beside the pooled text. `betas` are the
    ends of the training schedule.
    """

    family: str
    unet: UnetLayout | None
    vae: VaeLayout | None
    text: tuple[TextLayout | T5Layout, ...]
    space: LatentSpace = SD1
    transformer: Sd3Layout | FluxLayout | None = None
    prediction: Prediction = "eps"
    sampling: tuple[object, ...] | None = None
    native_size: int = 512
    latent_rgb: tuple[tuple[float, ...], ...] | None = None
    vector: tuple[str, ...] = ()
    betas: tuple[float, float] = (0.00085, 0.012)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFamily:
    """A kind of checkpoint. `match` reads a header; it raises NotThisFamily with its reason."""

    name: str
    title: str
    match: Callable[[WeightFile], CheckpointLayout]
