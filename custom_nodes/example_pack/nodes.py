"""Two small nodes: one that changes a picture, one that shows a text."""

from typing import Annotated

from engine.api import Float, Image, Int, NodeOutput, node


@node("example.Sharpen", category="example", search=["unsharp mask"])
def sharpen(
    image: Image,
    amount: Annotated[float, Float(0.5, min=0.0, max=3.0, step=0.05, tooltip="0 = unchanged")],
    radius: Annotated[int, Int(1, min=1, max=16, tooltip="in pixels")],
) -> Image:
    """Makes edges stand out: adds the difference between the picture and a blurred copy of it.

    Values on wires belong to everybody, so the result is a new tensor; `image` stays as it is.
    """
    from torch.nn import functional

    x = image.movedim(-1, 1)  # (B, H, W, C) -> (B, C, H, W)
    padded = functional.pad(x, (radius,) * 4, mode="replicate")
    blurred = functional.avg_pool2d(padded, 2 * radius + 1, stride=1)
    return (x + amount * (x - blurred)).clamp(0.0, 1.0).movedim(1, -1)


@node("example.MeanColor", category="example", is_output=True)
def mean_color(image: Image) -> NodeOutput:
    """Shows the mean colour of the first picture, such as `#ff8000`, on the node."""
    red, green, blue = (image[0, ..., :3].mean(dim=(0, 1)) * 255).round().int().tolist()
    return NodeOutput(ui={"text": [f"#{red:02x}{green:02x}{blue:02x}"]})
