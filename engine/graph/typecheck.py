"""Which output type fits which input type, by their wire names."""

ANY = "*"

# Types that only a link can carry: nobody can write them down as a constant.
LINK_ONLY = frozenset(
    {
        "AUDIO",
        "CLIP",
        "CLIP_VISION",
        "CLIP_VISION_OUTPUT",
        "CONDITIONING",
        "CONTROL_NET",
        "GUIDER",
        "IMAGE",
        "LATENT",
        "MASK",
        "MODEL",
        "NOISE",
        "SAMPLER",
        "SIGMAS",
        "STYLE_MODEL",
        "UPSCALE_MODEL",
        "VAE",
        "VIDEO",
    }
)


def fits(output_type: str, input_type: str) -> bool:
    """Whether a value of `output_type` may be linked to an input of `input_type`.

    Equal names fit, `*` fits everything, and a union (`IMAGE,MASK`) fits what shares a member.
    """
    if output_type in (input_type, ANY) or input_type == ANY:
        return True
    if "," not in output_type and "," not in input_type:
        return False
    members = members_of(input_type)
    return ANY in members or any(m == ANY or m in members for m in members_of(output_type))


def members_of(type_name: str) -> tuple[str, ...]:
    """The types of a union, in order; one name is a union of itself."""
    return tuple(part.strip() for part in type_name.split(",") if part.strip())


def is_link_only(type_name: str) -> bool:
    """Whether an input of this type must be linked, because no constant can stand for it."""
    return type_name in LINK_ONLY or (
        "," in type_name and all(member in LINK_ONLY for member in members_of(type_name))
    )
