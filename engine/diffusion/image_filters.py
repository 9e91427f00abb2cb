"""Edges, shapes, grain and colour parts of pictures (B, H, W, C) 0..1."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from torch import Tensor

from engine.api.errors import NodeError

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


# Shapes -------------------------------------------------------------------------------------------


def _dilate(x: Tensor, size: int) -> Tensor:
    """The largest value of a square around each pixel; nothing lies outside."""
    before, after = size // 2, size - 1 - size // 2
    for pad, kernel in (
        ((before, after, 0, 0), (1, size)),
        ((0, 0, before, after), (size, 1)),
    ):
        x = F.max_pool2d(F.pad(x, pad, value=-math.inf), kernel, stride=1)
    return x


def _erode(x: Tensor, size: int) -> Tensor:
    return -_dilate(-x, size)


MORPHOLOGY = ("erode", "dilate", "open", "close", "gradient", "bottom_hat", "top_hat")


def morphology(image: Tensor, operation: str, size: int) -> Tensor:
    """Bright shapes shrunk, grown, cleaned or outlined by a square.

    Source: Serra 1982, "Image analysis and mathematical morphology".
    """
    x = image.movedim(-1, 1)
    if operation in ("erode", "open", "top_hat"):
        first, second = _erode, _dilate
    else:
        first, second = _dilate, _erode
    y = first(x, size)
    if operation == "gradient":
        y = y - _erode(x, size)
    elif operation not in ("erode", "dilate"):
        y = second(y, size)
    if operation == "top_hat":
        y = x - y
    elif operation == "bottom_hat":
        y = y - x
    return y.movedim(1, -1)


# Edges --------------------------------------------------------------------------------------------


def canny(image: Tensor, low: float, high: float) -> Tensor:
    """Edges as white lines one pixel wide; `low` and `high` bound the length of the gradient.

    Source: Canny 1986, "A computational approach to edge detection".
    Raises: NodeError, for bounds the wrong way round.
    """
    if low > high:
        raise NodeError(
            f"low_threshold is {low}, but high_threshold only {high}.",
            hint="Choose a low threshold below the high one.",
        )
    x = _smoothed(luma(image).movedim(-1, 1))
    dx, dy = _gradient(x)
    length = torch.sqrt(dx**2 + dy**2)
    ridge = torch.where(_is_ridge(length, dx, dy), length, 0.0)
    weak, edges = ridge > low, ridge > high
    while True:
        grown = (_dilate(edges.float(), 3) > 0) & weak
        if torch.equal(grown, edges):
            break
        edges = grown
    return edges.float().movedim(1, -1).expand(-1, -1, -1, 3).clone()


def luma(image: Tensor) -> Tensor:
    """Brightness (B, H, W, 1)."""
    if image.shape[-1] < 3:
        return image[..., :1]
    return (image[..., :3] * torch.tensor(LUMA)).sum(-1, keepdim=True)


def _smoothed(x: Tensor) -> Tensor:
    weights = torch.exp(-0.5 * torch.arange(-2.0, 3.0) ** 2)
    kernel = torch.outer(weights, weights) / weights.sum() ** 2
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), kernel[None, None])


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's differences to the right and down."""
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    both = F.conv2d(padded, torch.stack([kernel, kernel.T])[:, None])
    return both[:, :1], both[:, 1:]


def _is_ridge(length: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    """Whether no neighbour across the edge is longer; of two equal ones the first counts."""
    sector = (torch.atan2(dy, dx) / (math.pi / 4)).round().long() % 4
    height, width = length.shape[-2:]
    padded = F.pad(length, (1, 1, 1, 1))
    result = torch.zeros_like(length, dtype=torch.bool)
    for number, (down, right) in enumerate(((0, 1), (1, 1), (1, 0), (1, -1))):
        ahead, behind = (
            padded[..., 1 + n * down : 1 + n * down + height, 1 + n * right : 1 + n * right + width]
            for n in (1, -1)
        )
        result |= (sector == number) & (length >= ahead) & (length > behind)
    return result


# Grain and colour ---------------------------------------------------------------------------------


def with_noise(image: Tensor, seed: int, strength: float) -> Tensor:
    """Pictures with the normal noise of a seed."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(image.shape, generator=generator)
    return (image + strength * noise).clamp(0, 1)


def to_yuv(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Brightness and the two differences of colour, each as grey pictures. Source: JFIF 1.02."""
    y = luma(image)
    u, v = (image[..., 2:3] - y) / 1.772 + 0.5, (image[..., :1] - y) / 1.402 + 0.5
    y, u, v = (x.expand(-1, -1, -1, 3).clone() for x in (y, u, v))
    return y, u, v


def from_yuv(y: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Pictures of these three again. Source: JFIF 1.02."""
    y, u, v = (x.mean(-1, keepdim=True) for x in (y, u, v))
    red, blue = y + 1.402 * (v - 0.5), y + 1.772 * (u - 0.5)
    green = (y - LUMA[0] * red - LUMA[2] * blue) / LUMA[1]
    return torch.cat([red, green, blue], dim=-1).clamp(0, 1)
