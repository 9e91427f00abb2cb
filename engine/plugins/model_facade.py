"""What pack nodes get in place of a recipe: the customary `clone()` and `set_model_*` methods.

The facade only collects; the recipe around which it stands stays frozen. What the engine has no
counterpart for raises `MissingHostSymbol` with the pack and the node that asked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Never

from engine.api.errors import PluginError
from engine.api.recipe import Hook, Recipe

CLASS_NAMES = {
    "denoiser": "MODEL",
    "text": "CLIP",
    "vae": "VAE",
    "control": "CONTROL_NET",
    "clip_vision": "CLIP_VISION",
    "upscaler": "UPSCALE_MODEL",
}


class MissingHostSymbol(PluginError, AttributeError):
    """A pack asks for something of the reference engine that Weft does not have."""

    code = "missing_host_symbol"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The node type that a facade was handed to, for error messages."""

    pack: str
    node: str


def missing(symbol: str, origin: Origin) -> MissingHostSymbol:
    """The error for a host feature that does not exist here."""
    return MissingHostSymbol(
        f"The node {origin.node} of the pack {origin.pack} needs {symbol}, "
        "which Weft does not offer (missing host symbol).",
        hint="Use a built-in node in its place, or tell us that you need it.",
    )


class PartFacade:
    """A recipe as a pack's node sees it: it can be cloned and passed on."""

    def __init__(self, recipe: Recipe, origin: Origin) -> None:
        self._recipe = recipe
        self._origin = origin

    @property
    def weft_recipe(self) -> Recipe:
        """The recipe with everything that was set on this facade."""
        return self._recipe

    def clone(self) -> "PartFacade":
        """A facade of its own on the same recipe."""
        return type(self)(self._recipe, self._origin)

    def __getattr__(self, name: str) -> Never:
        if name.startswith("__"):
            raise AttributeError(name)
        raise missing(f"{CLASS_NAMES.get(self._recipe.part, 'model')}.{name}", self._origin)


class ModelFacade(PartFacade):
    """A MODEL as a pack's node sees it; hooks are set on a clone, never on what others hold."""

    def clone(self) -> "ModelFacade":
        """A facade of its own on the same recipe."""
        return ModelFacade(self._recipe, self._origin)

    def set_model_unet_function_wrapper(self, unet_wrapper_function: Callable[..., Any]) -> None:
        """Call `fn(apply_model, {input, timestep, c, cond_or_uncond})` in place of the network."""
        self._hook("unet_function_wrapper", unet_wrapper_function)

    def set_model_sampler_cfg_function(
        self,
        sampler_cfg_function: Callable[..., Any],
        disable_cfg1_optimization: bool = False,
    ) -> None:
        """Combine the conditional and unconditional prediction by `fn(args)`."""
        self._hook("sampler_cfg_function", sampler_cfg_function)
        self._always_both(disable_cfg1_optimization)

    def set_model_sampler_pre_cfg_function(
        self,
        pre_cfg_function: Callable[..., Any],
        disable_cfg1_optimization: bool = False,
    ) -> None:
        """Change the list of predictions by `fn(args)` before they are combined."""
        self._hook("sampler_pre_cfg_function", pre_cfg_function, append=True)
        self._always_both(disable_cfg1_optimization)

    def set_model_sampler_post_cfg_function(
        self,
        post_cfg_function: Callable[..., Any],
        disable_cfg1_optimization: bool = False,
    ) -> None:
        """Change the combined prediction by `fn(args)`."""
        self._hook("sampler_post_cfg_function", post_cfg_function, append=True)
        self._always_both(disable_cfg1_optimization)

    def set_model_denoise_mask_function(self, denoise_mask_function: Callable[..., Any]) -> None:
        """Change the mask of what is repainted at each step by `fn(sigma, mask, extra_options)`."""
        self._hook("denoise_mask_function", denoise_mask_function)

    def _hook(self, slot: str, function: Callable[..., Any], *, append: bool = False) -> None:
        self._recipe = self._recipe.with_hook(Hook(slot=slot, function=function), append=append)

    def _always_both(self, wanted: bool) -> None:
        if wanted:
            self._recipe = self._recipe.with_option("disable_cfg1_optimization", True)


def facade_of(recipe: Recipe, origin: Origin) -> PartFacade:
    """The facade for a recipe of any part."""
    kind = ModelFacade if recipe.part == "denoiser" else PartFacade
    return kind(recipe, origin)
