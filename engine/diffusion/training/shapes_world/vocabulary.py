"""Colours, shapes and words of shapes world, and which of them training withholds."""

Colour = tuple[int, int, int]

PALETTE: dict[str, Colour] = {
    "red": (220, 38, 38),
    "orange": (245, 138, 28),
    "yellow": (250, 216, 40),
    "green": (46, 158, 66),
    "cyan": (60, 205, 222),
    "blue": (38, 78, 212),
    "purple": (132, 56, 182),
    "pink": (246, 140, 192),
    "brown": (124, 74, 38),
    "black": (18, 18, 18),
    "white": (246, 246, 246),
    "gray": (132, 132, 132),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "diamond")
NAMELESS_SHAPES = ("crescent", "arrow")
"""Drawn often but captioned only "a shape": textual inversion can teach their names."""
UNDRAWN_SHAPES = ("bolt", "drop")
"""Never in any training picture: LoRA and DreamBooth can teach them from nothing."""

WITHHELD_PAIRS = frozenset(
    {
        ("green", "star"),
        ("purple", "circle"),
        ("orange", "heart"),
        ("cyan", "triangle"),
        ("brown", "ring"),
        ("pink", "square"),
        ("black", "cross"),
        ("yellow", "diamond"),
    }
)
"""Colour and shape pairs that no training picture shows: they test that the model composes."""

RELATIONS = ("left of", "right of", "above", "below")
POSITIONS: dict[str, tuple[float, float]] = {
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
    "top left": (-1, -1),
    "top right": (1, -1),
    "bottom left": (-1, 1),
    "bottom right": (1, 1),
    "center": (0, 0),
}
SIZES = ("small", "large")
TEXTURES = ("striped", "dotted")
STYLES = ("plain", "cartoon", "chalk", "neon", "pixel", "shaded")
BACKDROPS = ("plain", "gradient", "checkerboard", "stripes", "night sky", "sea", "grass")
ICONS = ("house", "tree", "boat", "face", "snowman", "traffic light", "sun", "flower")

WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "red", "crimson", "scarlet"),
    "orange": ("orange", "orange", "orange", "tangerine"),
    "yellow": ("yellow", "yellow", "yellow", "lemon"),
    "green": ("green", "green", "green", "emerald"),
    "cyan": ("cyan", "cyan", "cyan", "turquoise", "aqua"),
    "blue": ("blue", "blue", "blue", "cobalt"),
    "purple": ("purple", "purple", "purple", "violet"),
    "pink": ("pink", "pink", "pink", "rose"),
    "brown": ("brown", "brown", "brown", "chocolate"),
    "black": ("black",),
    "white": ("white", "white", "white", "snow white"),
    "gray": ("gray", "gray", "grey"),
    "circle": ("circle", "circle", "circle", "disc", "dot", "ball"),
    "square": ("square", "square", "square", "box", "block"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart",),
    "cross": ("cross", "cross", "cross", "plus", "plus sign"),
    "ring": ("ring", "ring", "ring", "donut", "hoop"),
    "diamond": ("diamond", "diamond", "diamond", "rhombus"),
    "small": ("small", "small", "little", "tiny"),
    "large": ("large", "large", "big", "huge"),
    "2": ("two", "two", "2", "a pair of"),
    "3": ("three", "three", "3"),
    "4": ("four", "four", "4"),
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "above", "over", "on top of"),
    "below": ("below", "below", "under", "beneath"),
    "background": ("background", "background", "background", "backdrop"),
    "center": ("center", "middle", "centre"),
}
PLURALS: dict[str, str] = {
    "box": "boxes",
    "cross": "crosses",
    "plus": "pluses",
    "plus sign": "plus signs",
    "rhombus": "rhombuses",
    "small": "small",
}


def plural(word: str) -> str:
    return PLURALS.get(word, word + "s")
