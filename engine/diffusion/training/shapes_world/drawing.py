"""Pixels of a scene: supersampled polygons, drawing styles, backdrops and edge maps."""

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from engine.diffusion.training.shapes_world.icons import Part, icon_parts
from engine.diffusion.training.shapes_world.outlines import placed
from engine.diffusion.training.shapes_world.scene import Scene, Thing
from engine.diffusion.training.shapes_world.vocabulary import PALETTE, Colour

SUPERSAMPLING = 4
Points = list[tuple[float, float]]


def picture_size(scene: Scene, size_px: int) -> tuple[int, int]:
    """Width and height in pixels, multiples of 8, for a shorter side of `size_px`."""
    width, height = scene.aspect
    return round(size_px * width / 8) * 8, round(size_px * height / 8) * 8


def _tone(colour: Iterable[float], scale: float = 1.0, add: float = 0.0) -> Colour:
    """A colour made lighter or darker, within 0..255."""
    red, green, blue = (min(255, max(0, int(c * scale + add))) for c in colour)
    return red, green, blue


def _points(polygon: np.ndarray) -> Points:
    return [(float(x), float(y)) for x, y in polygon]


def _parts(scene: Scene, scale: float) -> list[Part]:
    """All polygons of a scene from back to front, in canvas pixels."""
    rng = np.random.default_rng(scene.seed)
    parts: list[Part] = []
    for thing in scene.things:
        jitter = rng.integers(-7, 8, 3)
        colour = _tone(PALETTE[thing.colour] + jitter)
        if scene.icon:
            offset = np.array([thing.cx, thing.cy]) * scale
            parts += [
                (points * thing.radius * scale + offset, fill)
                for points, fill in icon_parts(scene.icon, colour)
            ]
        else:
            parts.append((_polygon(thing, scale), colour))
    return parts


def _polygon(thing: Thing, scale: float) -> np.ndarray:
    return placed(
        thing.shape, thing.cx * scale, thing.cy * scale, thing.radius * scale, thing.angle_deg
    )


def _backdrop(scene: Scene, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    base = np.array(PALETTE[scene.background]) + rng.integers(-5, 6, 3)
    first = _tone(base)
    image = Image.new("RGB", (width, height), first)
    draw = ImageDraw.Draw(image)
    other = _tone(first, 0.55, 110) if sum(first) < 380 else _tone(first, 0.6)
    match scene.backdrop:
        case "gradient":
            ramp = Image.linear_gradient("L").resize((width, height))
            image.paste(Image.new("RGB", image.size, other), mask=ramp)
        case "checkerboard":
            cell = width // 4
            for i in range(4):
                for j in range(-(-height // cell)):
                    if (i + j) % 2:
                        corner = (i * cell, j * cell, (i + 1) * cell - 1, (j + 1) * cell - 1)
                        draw.rectangle(corner, fill=other)
        case "stripes":
            band = height // 8
            for j in range(0, 8, 2):
                draw.rectangle((0, j * band, width, (j + 1) * band - 1), fill=other)
        case "night sky":
            image.paste((16, 20, 60), (0, 0, width, height))
            for x, y in rng.random((14, 2)) * (width, height):
                r = width / 110
                draw.ellipse((x - r, y - r, x + r, y + r), fill=(255, 250, 220))
        case "sea":
            image.paste((150, 210, 245), (0, 0, width, height))
            draw.rectangle((0, height * 0.62, width, height), fill=(24, 96, 170))
        case "grass":
            image.paste((160, 215, 250), (0, 0, width, height))
            draw.rectangle((0, height * 0.66, width, height), fill=(86, 176, 72))
        case _:
            pass
    return image


def _texture(thing: Thing, canvas: Image.Image, points: Points) -> None:
    """Stripes or dots in a second tone, inside the object only."""
    mask = Image.new("L", canvas.size)
    ImageDraw.Draw(mask).polygon(points, fill=255)
    marks = Image.new("L", canvas.size)
    draw = ImageDraw.Draw(marks)
    step = canvas.width / 9
    if thing.texture == "striped":
        for i in range(0, 10, 1):
            draw.rectangle((0, i * step, canvas.width, (i + 0.45) * step), fill=255)
    else:
        for i in range(10):
            for j in range(-(-canvas.height * 9 // canvas.width) + 1):
                x, y, r = (i + 0.5 * (j % 2)) * step, j * step, step * 0.24
                draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
    tone = (255, 255, 255) if sum(PALETTE[thing.colour]) < 560 else (60, 60, 60)
    canvas.paste(Image.new("RGB", canvas.size, tone), mask=ImageChops.multiply(mask, marks))


def _outline_width(canvas: Image.Image) -> int:
    return max(1, round(min(canvas.size) / 26))


def _closed(points: Points) -> Points:
    return [*points, points[0], points[1]]


def _draw_plain(scene: Scene, canvas: Image.Image, parts: list[Part]) -> Image.Image:
    draw = ImageDraw.Draw(canvas)
    for index, (polygon, fill) in enumerate(parts):
        points = _points(polygon)
        draw.polygon(points, fill=fill)
        if not scene.icon and scene.things[index].texture:
            _texture(scene.things[index], canvas, points)
    return canvas


def _draw_cartoon(canvas: Image.Image, parts: list[Part]) -> Image.Image:
    draw = ImageDraw.Draw(canvas)
    for polygon, fill in parts:
        points = _points(polygon)
        draw.polygon(points, fill=fill)
        draw.line(_closed(points), fill=(0, 0, 0), width=_outline_width(canvas), joint="curve")
    return canvas


def _draw_chalk(canvas: Image.Image, parts: list[Part], rng: np.random.Generator) -> Image.Image:
    board = Image.new("RGB", canvas.size, (34, 56, 46))
    lines = Image.new("RGB", canvas.size)
    draw = ImageDraw.Draw(lines)
    for polygon, fill in parts:
        light = _tone(fill, 0.4, 150)
        for _ in range(2):
            wobble = polygon + rng.normal(0, canvas.width / 200, polygon.shape)
            width = _outline_width(canvas) * 2 // 3
            draw.line(_closed(_points(wobble)), fill=light, width=width, joint="curve")
    grain = rng.random((canvas.height // 4, canvas.width // 4)) * 255
    mask = Image.fromarray((grain * 0.5 + 128).astype(np.uint8)).resize(canvas.size)
    return ImageChops.lighter(board, ImageChops.multiply(lines, mask.convert("RGB")))


def _draw_neon(canvas: Image.Image, parts: list[Part]) -> Image.Image:
    dark = Image.new("RGB", canvas.size, (14, 10, 30))
    glow = Image.new("RGB", canvas.size)
    draw = ImageDraw.Draw(glow)
    width = _outline_width(canvas)
    for polygon, fill in parts:
        bright = _tone(fill, 0.7, 76)
        draw.line(_closed(_points(polygon)), fill=bright, width=width, joint="curve")
    halo = glow.filter(ImageFilter.BoxBlur(width * 1.6))
    return ImageChops.add(ImageChops.add(dark, halo), glow)


def _draw_shaded(canvas: Image.Image, parts: list[Part], rng: np.random.Generator) -> Image.Image:
    """Lit objects on a ground under a sky, each with a cast shadow."""
    width, height = canvas.size
    horizon = round(height * rng.uniform(0.55, 0.75))
    sky = Image.linear_gradient("L").resize((width, height))
    low = Image.new("RGB", canvas.size, (236, 240, 246))
    image = Image.composite(low, canvas, sky)
    ground = _tone(rng.integers(60, 200, 3))
    ImageDraw.Draw(image).rectangle((0, horizon, width, height), fill=ground)
    draw = ImageDraw.Draw(image)
    for polygon, _ in parts[:4]:
        x0, x1, y1 = polygon[:, 0].min(), polygon[:, 0].max(), polygon[:, 1].max()
        shade = _tone(ground, 0.55)
        draw.ellipse((x0, y1 - height * 0.05, x1 + width * 0.05, y1 + height * 0.04), fill=shade)
    light = Image.radial_gradient("L").resize((width, height))
    for polygon, fill in parts:
        mask = Image.new("L", canvas.size)
        ImageDraw.Draw(mask).polygon(_points(polygon), fill=255)
        x0, y0 = polygon.min(0)
        x1, y1 = polygon.max(0)
        span = max(8, int(max(x1 - x0, y1 - y0) * 1.5))
        lamp = light.resize((span, span))
        glow = Image.new("L", canvas.size, 255)
        glow.paste(lamp, (int(x0 - span * 0.16), int(y0 - span * 0.2)))
        bright = _tone(fill, 0.6, 100)
        dim = _tone(fill, 0.45)
        lit = Image.composite(
            Image.new("RGB", canvas.size, dim), Image.new("RGB", canvas.size, bright), glow
        )
        image.paste(lit, mask=mask)
    return image


def _draw_pixel(canvas: Image.Image, parts: list[Part]) -> Image.Image:
    draw = ImageDraw.Draw(canvas)
    for polygon, fill in parts:
        draw.polygon(_points(polygon), fill=fill)
    cells = (max(1, canvas.width // 16), max(1, canvas.height // 16))
    return canvas.resize(cells, Image.Resampling.NEAREST).resize(
        canvas.size, Image.Resampling.NEAREST
    )


def render(scene: Scene, size_px: int = 64) -> np.ndarray:
    """The picture of a scene. Shapes: (H, W, 3) uint8, the shorter side `size_px`."""
    width, height = picture_size(scene, size_px)
    canvas_size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    rng = np.random.default_rng(scene.seed + 1)
    canvas = _backdrop(scene, *canvas_size, rng)
    parts = _parts(scene, size_px * SUPERSAMPLING)
    match scene.style:
        case "cartoon":
            canvas = _draw_cartoon(canvas, parts)
        case "chalk":
            canvas = _draw_chalk(canvas, parts, rng)
        case "neon":
            canvas = _draw_neon(canvas, parts)
        case "pixel":
            canvas = _draw_pixel(canvas, parts)
        case "shaded":
            canvas = _draw_shaded(canvas, parts, rng)
        case _:
            canvas = _draw_plain(scene, canvas, parts)
    return np.asarray(canvas.reduce(SUPERSAMPLING))


def edge_map(scene: Scene, size_px: int = 64) -> np.ndarray:
    """White outlines of a scene on black, by construction. Shapes: (H, W) uint8."""
    width, height = picture_size(scene, size_px)
    canvas = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    draw = ImageDraw.Draw(canvas)
    for polygon, _ in _parts(scene, size_px * SUPERSAMPLING):
        points = _points(polygon)
        draw.polygon(points, fill=0)
        draw.line(_closed(points), fill=255, width=SUPERSAMPLING * 3 // 2)
    return np.asarray(canvas.reduce(SUPERSAMPLING))
