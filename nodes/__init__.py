"""The built-in nodes: `BUILTIN` is the list of modules, each with its own list `NODES`."""

from nodes import (
    conditioning,
    controlnet,
    custom_sampling,
    image,
    image_files,
    latent,
    loaders,
    logic,
    mask,
    maths,
    model_sampling,
    primitives,
    sampling,
    sigmas,
    strings,
    vae,
)

BUILTIN = (
    loaders,
    conditioning,
    controlnet,
    latent,
    sampling,
    custom_sampling,
    sigmas,
    model_sampling,
    vae,
    image,
    image_files,
    mask,
    primitives,
    strings,
    maths,
    logic,
)
