"""Operations on pictures (B, H, W, C) 0..1. Never changes its inputs."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the customary name
from PIL import Image
from torch import Tensor

from engine.api.errors import NodeError
from engine.diffusion.scaling import scale

# Files and PIL ------------------------------------------------------------------------------------


def to_pil(image: Tensor) -> Image.Image:
    """One picture (H, W, 1, 3 or 4) as 8 bit."""
    array = (255.0 * image.detach().cpu().numpy()).clip(0, 255).astype(np.uint8)
    return Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)


def from_pil(picture: Image.Image) -> Tensor:
    """An 8 bit picture as (H, W, C)."""
    array = np.asarray(picture, dtype=np.float32) / 255.0
    return torch.from_numpy(array if array.ndim == 3 else array[..., None])


# Size ---------------------------------------------------------------------------------------------


def resize(image: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    """Pictures scaled to a size; a side of 0 follows from the other one, both 0 changes nothing."""
    if width == 0 and height == 0:
        return image
    have_height, have_width = image.shape[1:3]
    width = width or max(1, round(have_width * height / have_height))
    height = height or max(1, round(have_height * width / have_width))
    return scale(image.movedim(-1, 1), width, height, method, crop).movedim(1, -1)


def resize_by(image: Tensor, factor: float, method: str) -> Tensor:
    """Pictures scaled by a factor."""
    height, width = image.shape[1:3]
    return resize(image, round(width * factor), round(height * factor), method)


def resize_to_pixels(image: Tensor, megapixels: float, method: str) -> Tensor:
    """Pictures scaled to a number of pixels (one megapixel is 1024 x 1024)."""
    height, width = image.shape[1:3]
    factor = math.sqrt(megapixels * 1024 * 1024 / (width * height))
    return resize_by(image, factor, method)


def resize_longest(image: Tensor, size: int, method: str) -> Tensor:
    """Pictures scaled so that the longer side has a size."""
    height, width = image.shape[1:3]
    if height > width:
        return resize(image, round(width / height * size), size, method)
    if width > height:
        return resize(image, size, round(height / width * size), method)
    return resize(image, size, size, method)


def crop(image: Tensor, width: int, height: int, x: int, y: int) -> Tensor:
    """A rectangle of the pictures; its corner is moved inside."""
    x, y = min(x, image.shape[2] - 1), min(y, image.shape[1] - 1)
    return image[:, y : y + height, x : x + width]


def pad_for_outpaint(
    image: Tensor, left: int, top: int, right: int, bottom: int, feathering: int
) -> tuple[Tensor, Tensor]:
    """Pictures with a grey border, and the mask of what is new, soft towards the inside.

    Shapes: -> (B, H, W, C), (1, H, W).
    """
    batch, height, width, channels = image.shape
    size = (height + top + bottom, width + left + right)
    padded = torch.full((batch, *size, channels), 0.5)
    padded[:, top : top + height, left : left + width] = image
    mask = torch.ones(size)
    inner = torch.zeros(height, width)
    if feathering > 0 and feathering * 2 < height and feathering * 2 < width:
        rows, columns = torch.arange(height), torch.arange(width)
        far = torch.full((1,), max(height, width))
        d_top = rows if top else far.expand(height)
        d_bottom = height - rows if bottom else far.expand(height)
        d_left = columns if left else far.expand(width)
        d_right = width - columns if right else far.expand(width)
        across = torch.minimum(d_top, d_bottom)[:, None]
        distance = torch.minimum(across, torch.minimum(d_left, d_right)[None])
        share = ((feathering - distance) / feathering).clamp(min=0)
        inner = share * share
    mask[top : top + height, left : left + width] = inner
    return padded, mask[None]


def batch(first: Tensor, second: Tensor) -> Tensor:
    """Two batches as one; the second is scaled to the size of the first."""
    if first.shape[-1] != second.shape[-1]:
        channels = max(first.shape[-1], second.shape[-1])
        first, second = with_channels(first, channels), with_channels(second, channels)
    if first.shape[1:3] != second.shape[1:3]:
        second = resize(second, first.shape[2], first.shape[1], "bilinear", "center")
    return torch.cat([first, second])


def with_channels(image: Tensor, channels: int) -> Tensor:
    """Pictures with an opaque alpha channel where they lack one."""
    if image.shape[-1] >= channels:
        return image
    return F.pad(image, (0, channels - image.shape[-1]), value=1.0)


def from_batch(image: Tensor, start: int, length: int) -> Tensor:
    """Some pictures of a batch; the range is moved inside."""
    start = min(image.shape[0] - 1, start)
    return image[start : start + length].clone()


# Colour -------------------------------------------------------------------------------------------


def solid(width: int, height: int, count: int, colour: int) -> Tensor:
    """Pictures of one colour (0xRRGGBB)."""
    rgb = torch.tensor([(colour >> shift & 0xFF) / 0xFF for shift in (16, 8, 0)])
    return rgb.expand(count, height, width, 3).clone()


def _overlay(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(a <= 0.5, 2 * a * b, 1 - 2 * (1 - a) * (1 - b))


def _soft_light(a: Tensor, b: Tensor) -> Tensor:
    """Source: W3C Compositing and Blending Level 1, soft-light."""
    root = torch.where(a <= 0.25, ((16 * a - 12) * a + 4) * a, torch.sqrt(a))
    return torch.where(b <= 0.5, a - (1 - 2 * b) * a * (1 - a), a + (2 * b - 1) * (root - a))


BLENDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "normal": lambda a, b: b,
    "multiply": lambda a, b: a * b,
    "screen": lambda a, b: 1 - (1 - a) * (1 - b),
    "overlay": _overlay,
    "soft_light": _soft_light,
    "difference": lambda a, b: a - b,
}


def blend(first: Tensor, second: Tensor, factor: float, mode: str) -> Tensor:
    """Two pictures mixed by a blend mode; the second is scaled to the first."""
    channels = max(first.shape[-1], second.shape[-1])
    first, second = with_channels(first, channels), with_channels(second, channels)
    if first.shape[1:3] != second.shape[1:3]:
        second = resize(second, first.shape[2], first.shape[1], "bicubic", "center")
    second = _repeated(second, first.shape[0])
    blended = BLENDS[mode](first, second)
    return (first * (1 - factor) + blended * factor).clamp(0, 1)


def gaussian(radius: int, sigma: float) -> Tensor:
    """A normalised kernel (2 radius + 1, 2 radius + 1) over -1 … 1."""
    place = torch.linspace(-1, 1, 2 * radius + 1)
    distance = torch.sqrt(place[:, None] ** 2 + place[None] ** 2)
    kernel = torch.exp(-(distance**2) / (2 * sigma**2))
    return kernel / kernel.sum()


def convolve(image: Tensor, kernel: Tensor) -> Tensor:
    """Each channel convolved, edges mirrored."""
    radius, channels = kernel.shape[0] // 2, image.shape[-1]
    pixels = F.pad(image.movedim(-1, 1), (radius,) * 4, mode="reflect")
    weights = kernel.repeat(channels, 1, 1)[:, None]
    return F.conv2d(pixels, weights, groups=channels).movedim(1, -1)


def blur(image: Tensor, radius: int, sigma: float) -> Tensor:
    """Pictures blurred by a Gaussian."""
    if radius == 0:
        return image
    _check_radius(image, radius)
    return convolve(image, gaussian(radius, sigma))


def sharpen(image: Tensor, radius: int, sigma: float, alpha: float) -> Tensor:
    """Pictures with their difference from a blurred version added."""
    if radius == 0:
        return image
    _check_radius(image, radius)
    kernel = gaussian(radius, sigma) * -(alpha * 10)
    kernel[radius, radius] = kernel[radius, radius] - kernel.sum() + 1.0
    return convolve(image, kernel).clamp(0, 1)


def _check_radius(image: Tensor, radius: int) -> None:
    height, width = image.shape[1:3]
    if radius >= min(height, width):
        raise NodeError(
            f"The radius is {radius}, but the picture is only {width}x{height}.",
            hint="Choose a radius smaller than the picture.",
        )


def quantize(image: Tensor, colours: int, dither: str) -> Tensor:
    """Pictures with a limited number of colours."""
    results = []
    for item in image:
        picture = to_pil(item).convert("RGB")
        palette = picture.quantize(colors=colours)
        if dither.startswith("bayer"):
            picture = _bayer(item, palette, int(dither.split("-")[1]))
        kind = Image.Dither.FLOYDSTEINBERG if dither == "floyd-steinberg" else Image.Dither.NONE
        results.append(from_pil(picture.quantize(palette=palette, dither=kind).convert("RGB")))
    return torch.stack(results)


def _bayer(item: Tensor, palette: Image.Image, order: int) -> Image.Image:
    """A picture with an ordered pattern added, as wide as the palette's typical step.

    Source: Bayer 1973, "An optimum method for two-level rendition of continuous-tone pictures".
    """
    colours = palette.getcolors()
    count = len(colours) if colours else 2
    matrix = np.zeros((1, 1))
    while len(matrix) < order:
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    spread = 2 * 256 / count
    pattern = spread * (matrix / order**2 - 0.5)
    height, width = item.shape[:2]
    repeats = (math.ceil(height / order), math.ceil(width / order))
    tiled = np.tile(pattern, repeats)[:height, :width, None]
    pixels = np.asarray(to_pil(item).convert("RGB"), dtype=np.float32)
    return Image.fromarray((pixels + tiled).clip(0, 255).astype(np.uint8))


# Composition --------------------------------------------------------------------------------------


def composite(
    destination: Tensor,
    source: Tensor,
    x: int,
    y: int,
    mask: Tensor | None,
    *,
    resize_source: bool,
    multiplier: int = 1,
) -> Tensor:
    """`source` laid over `destination` (B, C, H, W) at (x, y), where the mask covers it.

    x and y are in units of `multiplier` cells' pixels. What lies outside is cut off.
    """
    if resize_source:
        source = F.interpolate(source, destination.shape[-2:], mode="bilinear")
    source = _repeated(source, destination.shape[0])
    height, width = source.shape[-2:]
    x = max(-width * multiplier, min(x, destination.shape[3] * multiplier)) // multiplier
    y = max(-height * multiplier, min(y, destination.shape[2] * multiplier)) // multiplier
    if mask is None:
        cover = torch.ones_like(source[:, :1])
    else:
        cover = mask.reshape(-1, 1, *mask.shape[-2:])
        cover = _repeated(F.interpolate(cover, (height, width), mode="bilinear"), len(source))
    top, left = max(0, y), max(0, x)
    bottom, right = min(destination.shape[2], y + height), min(destination.shape[3], x + width)
    if bottom <= top or right <= left:
        return destination
    inside = (slice(top - y, bottom - y), slice(left - x, right - x))
    part, share = source[:, :, *inside], cover[:, :, *inside]
    result = destination.clone()
    kept = result[:, :, top:bottom, left:right]
    result[:, :, top:bottom, left:right] = share * part + (1.0 - share) * kept
    return result


def composite_images(
    destination: Tensor,
    source: Tensor,
    x: int,
    y: int,
    mask: Tensor | None,
    *,
    resize_source: bool,
) -> Tensor:
    """The same for pictures (B, H, W, C)."""
    channels = max(destination.shape[-1], source.shape[-1])
    destination, source = (with_channels(i, channels) for i in (destination, source))
    laid = composite(
        destination.movedim(-1, 1),
        source.movedim(-1, 1),
        x,
        y,
        mask,
        resize_source=resize_source,
    )
    return laid.movedim(1, -1)


def _repeated(x: Tensor, count: int) -> Tensor:
    if x.shape[0] == count:
        return x
    return x.repeat(-(-count // x.shape[0]), *([1] * (x.ndim - 1)))[:count]


def with_transparency(image: Tensor, mask: Tensor) -> Tensor:
    """Pictures (B, H, W, 4) that are transparent where a mask is 1."""
    alpha = mask.reshape(-1, 1, *mask.shape[-2:])
    alpha = F.interpolate(alpha, image.shape[1:3], mode="bilinear")
    count = max(image.shape[0], alpha.shape[0])
    colour, alpha = _repeated(image[..., :3], count), _repeated(alpha, count)
    return torch.cat([colour, 1.0 - alpha.movedim(1, -1)], dim=-1)


def flip(image: Tensor, axes: Sequence[int]) -> Tensor:
    """Pictures mirrored along axes."""
    return torch.flip(image, list(axes))


def rotate(image: Tensor, quarter_turns: int) -> Tensor:
    """Pictures turned clockwise by quarters."""
    return torch.rot90(image, k=quarter_turns, dims=(2, 1))


# Measuring ----------------------------------------------------------------------------------------


def psnr(image: Tensor, truth: Tensor) -> Tensor:
    """How near each picture is to its true version: the peak signal-to-noise ratio.

    Shapes: (B, H, W, C) 0..1 each → (B,). Units: dB; infinite for equal pictures.
    Raises: NodeError, where number or sizes differ. Source: Huynh-Thu & Ghanbari 2008.
    """
    image, truth = image[..., :3], truth[..., :3]
    if image.shape != truth.shape:
        (count, height, width, _), (others, tall, wide, _) = image.shape, truth.shape
        raise NodeError(
            f"{count} pictures of {width} x {height} cannot be compared with {others} of "
            f"{wide} x {tall}.",
            hint="Scale them to one size, and give as many of the one as of the other.",
        )
    return -10 * (image - truth).pow(2).mean((1, 2, 3)).log10()
