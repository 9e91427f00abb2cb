"""The CLIP vision transformer: pictures to embeds that other parts are steered by.

Source: Radford et al. 2021, "Learning Transferable Visual Models" (arXiv 2103.00020), section 2.4.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from engine.api.errors import NodeError, NotThisFamily
from engine.api.recipe import FileRef, Recipe
from engine.diffusion import keymap
from engine.diffusion.checkpoint import PartSource
from engine.diffusion.clip_model import LayerNorm, Linear, Mlp, Table
from engine.diffusion.families.ldm import number, sizes
from engine.diffusion.keymap import Source
from engine.diffusion.weightfile import WeightFile, open_weights

MEAN = (0.48145466, 0.4578275, 0.40821073)
SPREAD = (0.26862954, 0.26130258, 0.27577711)
HEADS = {768: 12, 1024: 16, 1280: 16, 1664: 16}  # by width: ViT-B, L, H, bigG
OPEN_CLIP_WIDTHS = (1280, 1664)  # towers that use gelu


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionLayout:
    """Sizes of a CLIP vision tower; `size` is the side of its pictures in pixels."""

    width: int
    layers: int
    heads: int
    mlp: int
    patch: int
    size: int
    projection: int
    activation: str

    @property
    def positions(self) -> int:
        return (self.size // self.patch) ** 2 + 1


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = Linear(width, width)
        self.k_proj = Linear(width, width)
        self.v_proj = Linear(width, width)
        self.out_proj = Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (
            layer(x).view(b, t, self.heads, d // self.heads).transpose(1, 2)  # (B, H, T, D/H)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        y = scaled_dot_product_attention(q, k, v)
        return self.out_proj(y.transpose(1, 2).reshape(b, t, d))


class _Layer(nn.Module):
    def __init__(self, layout: VisionLayout) -> None:
        super().__init__()
        self.layer_norm1 = LayerNorm(layout.width)
        self.self_attn = _Attention(layout.width, layout.heads)
        self.layer_norm2 = LayerNorm(layout.width)
        self.mlp = Mlp(layout.width, layout.mlp, layout.activation)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class _Embeddings(nn.Module):
    def __init__(self, layout: VisionLayout) -> None:
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(layout.width))
        self.patch_embedding = nn.Conv2d(
            3, layout.width, layout.patch, stride=layout.patch, bias=False
        )
        self.position_embedding = Table(layout.positions, layout.width)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embedding(pixels).flatten(2).transpose(1, 2)  # (B, N, D)
        first = self.class_embedding.expand(patches.shape[0], 1, -1)
        x = torch.cat([first, patches], dim=1)
        return x + self.position_embedding(torch.arange(x.shape[1], device=x.device))


class _Encoder(nn.Module):
    def __init__(self, layout: VisionLayout) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(layout) for _ in range(layout.layers))


class ClipVision(nn.Module):
    """A vision tower, with transformers' weight names."""

    def __init__(self, layout: VisionLayout) -> None:
        super().__init__()
        self.layout = layout
        self.embeddings = _Embeddings(layout)
        self.pre_layrnorm = LayerNorm(layout.width)
        self.encoder = _Encoder(layout)
        self.post_layernorm = LayerNorm(layout.width)
        self.visual_projection = Linear(layout.width, layout.projection, bias=False)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The output of the last layer, of the one before it, and the projected class token.

        Shapes: pixels (B, 3, size, size) -> twice (B, T, D), (B, P).
        """
        x = before = self.pre_layrnorm(self.embeddings(pixels))
        for layer in self.encoder.layers:
            before, x = x, layer(x)
        return x, before, self.visual_projection(self.post_layernorm(x[:, 0]))


# Files --------------------------------------------------------------------------------------------

CLIP_NAMES = (("vision_model.", ""), ("visual_projection.", "visual_projection."))
OPEN_CLIP_NAMES = (
    ("class_embedding", "embeddings.class_embedding"),
    ("conv1.", "embeddings.patch_embedding."),
    ("positional_embedding", "embeddings.position_embedding.weight"),
    ("ln_pre.", "pre_layrnorm."),
    ("ln_post.", "post_layernorm."),
)
OPEN_CLIP_PREFIXES = ("visual.", "embedder.model.visual.")


def open_clip_vision(path: Path, digest: str, name: str) -> Recipe:
    """The CLIP vision tower of a file. Raises: CorruptFile, NotThisFamily."""
    clip_vision_source(open_weights(path))
    file = FileRef(path=str(path), digest=digest, name=name)
    return Recipe(part="clip_vision", family="clip_vision", files=(file,))


def clip_vision_source(file: WeightFile) -> PartSource:
    """How the pool builds the vision tower of a file. Raises: NotThisFamily."""
    found = _sources(file)
    try:
        layout = _layout(file, found)
    except NotThisFamily as error:
        raise NotThisFamily(
            f"{file.path.name} is no CLIP vision model of a known layout: it {error.message}.",
            hint="Choose a file from the clip_vision folder.",
        ) from error
    return PartSource(file=file, layout=None, build=lambda: _build(layout), sources=found)


def _build(layout: VisionLayout) -> ClipVision:
    with torch.device("meta"):
        return ClipVision(layout)


def _sources(file: WeightFile) -> dict[str, Source]:
    """Where each of our weights lies, in transformers' or OpenCLIP's key layout."""
    prefix = next((p for p in OPEN_CLIP_PREFIXES if f"{p}conv1.weight" in file), None)
    if prefix is None:
        return keymap.sources(file.infos, CLIP_NAMES, "")
    layers = 0
    while f"{prefix}transformer.resblocks.{layers}.ln_1.weight" in file:
        layers += 1
    width = file.shape(f"{prefix}conv1.weight")[0]
    return {
        **keymap.open_clip_sources(file.infos, layers, width, prefix),
        **keymap.sources(file.infos, OPEN_CLIP_NAMES, prefix),
        "visual_projection.weight": Source(key=f"{prefix}proj", is_transposed=True),
    }


def _layout(file: WeightFile, found: dict[str, Source]) -> VisionLayout:
    def shape(name: str, rank: int) -> tuple[int, ...]:
        if name not in found:
            raise NotThisFamily(f"has no {name}")
        return found[name].shape(sizes(file, found[name].key, rank))

    width, _, patch, _ = shape("embeddings.patch_embedding.weight", 4)
    grid = math.isqrt(shape("embeddings.position_embedding.weight", 2)[0] - 1)
    layers = 0
    while f"encoder.layers.{layers}.layer_norm1.weight" in found:
        layers += 1
    heads = number(file, "weft.vision.heads", HEADS.get(width, max(1, width // 64)))
    if width % heads or not grid:
        raise NotThisFamily(f"has a width of {width} for {heads} heads and {grid} patches a side")
    return VisionLayout(
        width=width,
        layers=layers,
        heads=heads,
        mlp=shape("encoder.layers.0.mlp.fc1.weight", 2)[0],
        patch=patch,
        size=grid * patch,
        projection=shape("visual_projection.weight", 2)[0],
        activation="gelu" if width in OPEN_CLIP_WIDTHS else "quick_gelu",
    )


# Use ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LoadedVision:
    """A vision tower ready to be used."""

    model: ClipVision
    device: torch.device
    dtype: torch.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipVisionOutput:
    """What a CLIP_VISION_OUTPUT socket carries, under the names that packs read.

    Shapes: image_embeds (B, P), the hidden states (B, T, D).
    """

    image_embeds: Tensor
    last_hidden_state: Tensor
    penultimate_hidden_states: Tensor


def encode_picture(vision: LoadedVision, image: Tensor, *, crop: bool) -> ClipVisionOutput:
    """The embeds of pictures; `crop` takes their middle, else they are squeezed to a square.

    Shapes: image (B, H, W, 3 or 4) 0..1. Raises: NodeError.
    """
    pixels = prepared(image, vision.model.layout.size, crop=crop)
    with torch.no_grad():
        found = vision.model(pixels.to(vision.device, vision.dtype))
    last, before, embeds = (part.float().cpu() for part in found)
    return ClipVisionOutput(
        image_embeds=embeds, last_hidden_state=last, penultimate_hidden_states=before
    )


def prepared(image: Tensor, size: int, *, crop: bool) -> Tensor:
    """Pictures as the tower was trained on them: scaled, in 256 steps, normalized.

    Shapes: (B, H, W, C) 0..1 -> (B, 3, size, size). Raises: NodeError.
    """
    if image.shape[-1] < 3:
        raise NodeError(f"CLIP vision needs three colours; the picture has {image.shape[-1]}.")
    pixels = image[..., :3].movedim(-1, 1)
    height, width = pixels.shape[2:]
    if (height, width) != (size, size):
        shorter = min(height, width)
        shape = (round(size * height / shorter), round(size * width / shorter))
        pixels = interpolate(
            pixels, size=shape if crop else (size, size), mode="bicubic", antialias=True
        )
        top, left = (pixels.shape[2] - size) // 2, (pixels.shape[3] - size) // 2
        pixels = pixels[:, :, top : top + size, left : left + size]
    pixels = (255.0 * pixels).clamp(0, 255).round() / 255.0
    mean, spread = (pixels.new_tensor(v).view(3, 1, 1) for v in (MEAN, SPREAD))
    return (pixels - mean) / spread
