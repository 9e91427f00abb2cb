"""The built-in nodes: `BUILTIN` is the list of modules, each with its own list `NODES`."""

from nodes import (
    conditioning,
    image_files,
    latent,
    loaders,
    sampling,
    vae,
)

BUILTIN = (
    loaders,
    conditioning,
    latent,
    sampling,
    vae,
    image_files,
)
