"""Customary negative prompts by the kind of picture that they are for."""

from collections.abc import Mapping

_QUALITY = "worst quality, low quality, blurry, jpeg artifacts"
_MARKS = "text, watermark, signature, logo"

NEGATIVES: Mapping[str, str] = {
    "none": "",
    "quality": f"{_QUALITY}, {_MARKS}",
    "photo": f"{_QUALITY}, {_MARKS}, drawing, painting, illustration, cartoon, 3d render, cgi",
    "people": f"{_QUALITY}, {_MARKS}, bad anatomy, deformed, bad hands, missing fingers, "
    "extra fingers, extra limbs, fused fingers, cross-eyed, disfigured face",
    "painting": f"{_QUALITY}, {_MARKS}, photo, photorealistic, frame, border",
    "landscape": f"{_QUALITY}, {_MARKS}, people, oversaturated, tilted horizon",
    "product": f"{_QUALITY}, {_MARKS}, cluttered background, harsh shadows, reflections, hands",
}
