"""How a picture came about, in the words that photo programs and platforms read.

Source: IPTC Photo Metadata Standard 2023.1, property "Digital Source Type", and the IPTC NewsCodes
vocabulary http://cv.iptc.org/newscodes/digitalsourcetype/.
"""

from engine.diffusion.prompt_walk import Prompt, class_of, inputs_of, upstream

MADE = "trainedAlgorithmicMedia"
EDITED = "compositeWithTrainedAlgorithmicMedia"

_VOCABULARY = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx")
_MODEL_INPUTS = ("ckpt_name", "unet_name", "model_path", "model_name")
# A picture that arrives here guides the new one and is no part of it.
_GUIDES = (
    "positive", "negative", "conditioning", "conditioning_1", "conditioning_2", "cond1", "cond2",
    "conditioning_to", "conditioning_from", "model", "clip", "vae", "control_net", "guider",
    "clip_vision_output", "style_model", "sigmas", "sampler", "noise", "mask",
)  # fmt: skip


def source_type(prompt: Prompt, node_id: str) -> str | None:
    """`MADE` or `EDITED` for the pictures that a node saves; None where no model took part."""
    if not any(_uses_model(prompt, other) for other in upstream(prompt, node_id)):
        return None
    parts = upstream(prompt, node_id, without=_GUIDES)
    return EDITED if any("LoadImage" in class_of(prompt, other) for other in parts) else MADE


def _uses_model(prompt: Prompt, node_id: str) -> bool:
    return any(
        isinstance(value, str) and (name in _MODEL_INPUTS or value.lower().endswith(_WEIGHTS))
        for name, value in inputs_of(prompt, node_id).items()
    )


def xmp_packet(source: str) -> bytes:
    """An XMP packet with that digital source type and nothing else."""
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f' Iptc4xmpExt:DigitalSourceType="{_VOCABULARY}{source}"/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()
