"""Guidance: how the predictions of several prompts become one. Knows no sampler."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.api.recipe import Hook, Recipe

if TYPE_CHECKING:
    from engine.api.types import Conditioning

# The guided prediction from those of all groups.
Combine = Callable[[Sequence[Tensor]], Tensor]
# A prediction for another x at the same sigma: group, x, hooks inside the network.
Evaluate = Callable[[int, Tensor, tuple[Hook, ...]], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """A GUIDER value: a model and what it is asked for.

    `groups` are conditionings, the positive one first and, where there is one, the negative last.
    """

    model: Recipe
    groups: tuple["Conditioning", ...]
    cfg: float = 1.0
    combine: Combine | None = None  # in place of classifier-free guidance

    @property
    def is_plain(self) -> bool:
        """Whether the first group alone decides (no negative prompt is evaluated)."""
        if len(self.groups) == 1:
            return True
        if self.combine is not None or self.model.option("disable_cfg1_optimization"):
            return False
        return math.isclose(self.cfg, 1.0)


def classifier_free(cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
    """Source: Ho and Salimans 2022 (arXiv 2207.12598), equation 6."""
    return uncond + (cond - uncond) * scale


def dual(cfg: float, middle_cfg: float, *, is_nested: bool) -> Combine:
    """Two scales: between the two prompts, and between the second one and the negative.

    Source: Brooks et al. 2023 (InstructPix2Pix, arXiv 2211.09800), equation 3. Nested, the result
    of the two prompts is then guided away from the negative one.
    """

    def combine(predictions: Sequence[Tensor]) -> Tensor:
        cond, middle, uncond = predictions
        if is_nested:
            return classifier_free(classifier_free(cond, middle, cfg), uncond, middle_cfg)
        return uncond + (cond - middle) * cfg + (middle - uncond) * middle_cfg

    return combine


def perpendicular(cfg: float, negative_scale: float) -> Combine:
    """Only what of the negative prompt does not oppose the positive one is taken away.

    Source: Armandpour et al. 2023 (Perp-Neg, arXiv 2304.04968), equation 8.
    """

    def combine(predictions: Sequence[Tensor]) -> Tensor:
        positive, negative, empty = predictions
        wanted, unwanted = positive - empty, negative - empty
        share = (unwanted * wanted).sum() / (torch.norm(wanted) ** 2)
        apart = (unwanted - share * wanted) * negative_scale
        return empty + cfg * (wanted - apart)

    return combine


def perp_neg_hook(empty: "Conditioning", negative_scale: float) -> Hook:
    """A model that is asked by two prompts and a scale as `perpendicular` wants it."""

    def change(guidance: Guidance) -> Guidance:
        if len(guidance.groups) != 2:
            return guidance
        combine = perpendicular(guidance.cfg, negative_scale)
        return replace(guidance, groups=(*guidance.groups, empty), combine=combine)

    return Hook(slot="guidance", function=change)


def epsilon_scaling(factor: float) -> Hook:
    """The predicted noise over a factor, as a `sampler_post_cfg_function`.

    Source: Ning et al. 2023 (Elucidating the exposure bias, arXiv 2308.15321), algorithm 1.
    """

    def scaled(values: Mapping[str, Any]) -> Tensor:
        x: Tensor = values["input"]
        return x - (x - values["denoised"]) / factor

    key = f"epsilon_scaling:{factor}"
    return Hook(slot="sampler_post_cfg_function", function=scaled, key=key)


def cfg_norm(strength: float) -> Hook:
    """Guidance whose result is, in each place, no longer than the prompt's own prediction.

    A `sampler_post_cfg_function`; lengths are taken over the channels.
    Source: diffusers (Apache-2.0), the rescaling of true guidance in QwenImagePipeline; only ever
    made shorter, as in HiDream-E1.
    """

    def shortened(values: Mapping[str, Any]) -> Tensor:
        result: Tensor = values["denoised"]
        wanted = torch.linalg.vector_norm(values["cond_denoised"], dim=1, keepdim=True)
        length = torch.linalg.vector_norm(result, dim=1, keepdim=True)
        return result * (wanted / (length + 1e-8)).clamp(0.0, 1.0) * strength

    key = f"cfg_norm:{strength}"
    return Hook(slot="sampler_post_cfg_function", function=shortened, key=key)


def positive_leap(values: Mapping[str, Any]) -> Tensor:
    """Guidance that leans on the positive prompt the more it and the negative one disagree.

    A `sampler_post_cfg_function`. Between the guided prediction and the positive one times the
    scale (the leap); their agreement is the cosine, after square roots, of the negative prediction
    times the scale and the middle of both. At 1 the guided prediction stays, at -1 the leap is all.
    """
    scale, result = values["cond_scale"], values["denoised"]
    leap = values["cond_denoised"] * scale
    middle, unwanted = _rooted((leap + result) / 2), _rooted(values["uncond_denoised"] * scale)
    agreement = torch.nn.functional.cosine_similarity(unwanted, middle, dim=1).mean()
    share = (1 + agreement) / 2
    return share * result + (1 - share) * leap


def _rooted(x: Tensor) -> Tensor:
    return x.abs().sqrt() * x.sign()


def zero_star(values: Mapping[str, Any]) -> Tensor:
    """Guidance from the negative prediction as far as it points the positive one's way.

    A `sampler_cfg_function`, on differences that are parallel to noise and velocity.
    Source: Fan et al. 2025 (CFG-Zero*, arXiv 2503.18886), equations 9 and 10.
    """
    cond: Tensor = values["cond"]
    uncond: Tensor = values["uncond"]
    flat = uncond.flatten(1)
    share = (cond.flatten(1) * flat).sum(1) / (flat**2).sum(1).clamp(min=1e-8)
    start = uncond * share.reshape(-1, *([1] * (uncond.ndim - 1)))
    return classifier_free(cond, start, values["cond_scale"])


def rescaled(
    x: Tensor, sigma: Tensor, cond: Tensor, uncond: Tensor, scale: float, share: float
) -> Tensor:
    """Guidance in v-space whose result is scaled back to the spread of the conditioned one.

    All in eps form (`x - denoised`), as a `sampler_cfg_function` gets and gives it.
    Source: Lin et al. 2023 (arXiv 2305.08891), section 3.4.
    """
    s = sigma.reshape(sigma.shape[:1] + (1,) * (x.ndim - 1))
    root = (s**2 + 1.0) ** 0.5
    v_cond, v_uncond = _to_v(x, cond, s, root), _to_v(x, uncond, s, root)
    v = v_uncond + scale * (v_cond - v_uncond)
    spread, wanted = _spread(v), _spread(v_cond)
    v = share * (v * (wanted / spread)) + (1.0 - share) * v
    return x - (x / (s**2 + 1.0) - v * s / root)


def rescale_hook(share: float) -> Callable[[Mapping[str, Any]], Tensor]:
    """`rescaled` as a `sampler_cfg_function`."""

    def combine(values: Mapping[str, Any]) -> Tensor:
        x, sigma, scale = values["input"], values["sigma"], values["cond_scale"]
        return rescaled(x, sigma, values["cond"], values["uncond"], scale, share)

    return combine


def _to_v(x: Tensor, difference: Tensor, s: Tensor, root: Tensor) -> Tensor:
    denoised = x - difference
    return (x / (s**2 + 1.0) - denoised) * root / s


def _spread(v: Tensor) -> Tensor:
    return torch.std(v, dim=tuple(range(1, v.ndim)), keepdim=True)


# Hooks, in the ecosystem's calling conventions ----------------------------------------------------


def guided(
    guidance: Guidance,
    predictions: Sequence[Tensor],
    x: Tensor,
    sigma: Tensor,
    evaluate: Evaluate,
) -> Tensor:
    """The guided prediction of classifier-free guidance, with the recipe's hooks around it."""
    recipe = guidance.model
    cond, uncond = predictions[0], predictions[-1]
    options = hook_options(recipe)
    for hook in recipe.hooks_of("sampler_pre_cfg_function"):
        values: Mapping[str, Any] = {
            "conds": list(guidance.groups),
            "conds_out": [cond, uncond],
            "cond_scale": guidance.cfg,
            "timestep": sigma,
            "input": x,
            "sigma": sigma,
            "model": recipe,
            "model_options": options,
            "evaluate": evaluate,
        }
        cond, uncond = hook(values)
    result = _cfg(guidance, cond, uncond, x, sigma, options)
    for hook in recipe.hooks_of("sampler_post_cfg_function"):
        result = hook(
            {
                "denoised": result,
                "cond": guidance.groups[0],
                "uncond": guidance.groups[-1],
                "cond_scale": guidance.cfg,
                "model": recipe,
                "uncond_denoised": uncond,
                "cond_denoised": cond,
                "sigma": sigma,
                "model_options": options,
                "input": x,
                "evaluate": evaluate,
            }
        )
    return result


def _cfg(
    guidance: Guidance,
    cond: Tensor,
    uncond: Tensor,
    x: Tensor,
    sigma: Tensor,
    options: Mapping[str, Any],
) -> Tensor:
    for hook in guidance.model.hooks_of("sampler_cfg_function"):
        return x - hook(
            {
                "cond": x - cond,
                "uncond": x - uncond,
                "cond_scale": guidance.cfg,
                "timestep": sigma,
                "input": x,
                "sigma": sigma,
                "cond_denoised": cond,
                "uncond_denoised": uncond,
                "model": guidance.model,
                "model_options": options,
            }
        )
    if guidance.is_plain:
        return cond
    return classifier_free(cond, uncond, guidance.cfg)


def hook_options(recipe: Recipe) -> dict[str, Any]:
    """The recipe's hooks as the `model_options` that hooks expect."""
    options: dict[str, Any] = {"transformer_options": {}}
    for hook in recipe.hooks:
        if hook.slot in ("sampler_post_cfg_function", "sampler_pre_cfg_function"):
            options.setdefault(hook.slot, []).append(hook.function)
        elif hook.slot == "unet_function_wrapper":
            options["model_function_wrapper"] = hook.function
        else:
            options[hook.slot] = hook.function
    return options
