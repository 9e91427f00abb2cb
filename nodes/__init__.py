"""The built-in nodes: `BUILTIN` is the list of modules, each with its own list `NODES`."""

from nodes import (
    conditioning,
    custom_sampling,
    image_files,
    latent,
    loaders,
    logic,
    model_sampling,
    sampling,
    sigmas,
    vae,
)

BUILTIN = (
    loaders,
    conditioning,
    latent,
    sampling,
    custom_sampling,
    sigmas,
    model_sampling,
    vae,
    image_files,
    logic,
)
