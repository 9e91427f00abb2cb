"""`(x, sigma) -> denoised` for samplers: the network with its conditioning, guidance and hooks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from engine.api.recipe import Hook
from engine.diffusion.conditioning_batch import Batch, Entry, evaluate
from engine.diffusion.control_link import Controls
from engine.diffusion.gligen import LoadedGligen
from engine.diffusion.guidance import Guidance, guided
from engine.diffusion.parameterization import Parameterization

# What a wrapper's `c` holds for every kind of network.
_CUSTOMARY = ("c_crossattn", "y", "c_concat", "control", "transformer_options")


class Network(Protocol):
    """What is called once a step (engine.diffusion.network.LoadedDenoiser)."""

    def predict(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        y: Tensor | None = None,
        control: Any = None,
        options: Mapping[str, Any] | None = None,
        extras: Mapping[str, Any] | None = None,
    ) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class NetworkApply:
    """One network call on a batch: scalings, control, and the recipe's wrapper around it.

    `generator` is what hooks inside the network draw from; `hooks` act beside the recipe's own.
    """

    network: Network
    model: Parameterization
    controls: Controls | None = None
    wrapper: Any = None
    generator: torch.Generator | None = None
    hooks: tuple[Hook, ...] = ()
    gligens: Mapping[str, LoadedGligen] = field(default_factory=dict)  # by the recipe's key

    def __call__(self, x: Tensor, sigma: Tensor, batch: Batch) -> Tensor:
        control = None
        if batch.control is not None and self.controls is not None:
            scaled = self.model.scale_input(x, sigma)
            control = self.controls.residuals(batch.control, x, scaled, sigma, batch)
        options: dict[str, Any] = {"cond_or_uncond": list(batch.groups), "sigmas": sigma}
        options |= {"generator": self.generator, "hooks": (*self.hooks, *self._boxes(x, batch))}
        if self.wrapper is None:
            return self._denoised(
                x,
                sigma,
                batch.context,
                y=batch.y,
                c_concat=batch.concat,
                control=control,
                options=options,
                extras=batch.extras,
            )
        extras = {
            **batch.extras,
            "c_crossattn": batch.context,
            "y": batch.y,
            "c_concat": batch.concat,
            "control": control,
        }
        values = {
            "input": x,
            "timestep": sigma,
            "c": {
                **{k: v for k, v in extras.items() if v is not None},
                "transformer_options": options,
            },
            "cond_or_uncond": list(batch.groups),
        }
        return self.wrapper(self._apply_model, values)

    def _boxes(self, x: Tensor, batch: Batch) -> tuple[Hook, ...]:
        if batch.gligen is None:
            return ()
        loaded = self.gligens[batch.gligen[0][1].key]
        return (loaded.hook([boxes for _, _, boxes in batch.gligen], x),)

    def _apply_model(self, x: Tensor, sigma: Tensor, **c: Any) -> Tensor:
        """The function that a wrapper is given."""
        return self._denoised(
            x,
            sigma,
            c["c_crossattn"],
            y=c.get("y"),
            c_concat=c.get("c_concat"),
            control=c.get("control"),
            options=c.get("transformer_options"),
            extras={name: value for name, value in c.items() if name not in _CUSTOMARY},
        )

    def _denoised(
        self,
        x: Tensor,
        sigma: Tensor,
        context: Tensor,
        *,
        y: Tensor | None,
        c_concat: Tensor | None,
        control: Any,
        options: Mapping[str, Any] | None,
        extras: Mapping[str, Any],
    ) -> Tensor:
        scaled = self.model.scale_input(x, sigma)
        if c_concat is not None:
            scaled = torch.cat([scaled, c_concat], dim=1)
        timestep = self.model.timestep(sigma).float()
        output = self.network.predict(
            scaled, timestep, context, y=y, control=control, options=options, extras=extras
        )
        return self.model.denoised(x, output.to(x.device), sigma)


@dataclass(frozen=True, kw_only=True)
class GuidedDenoiser:
    """The denoiser that samplers step with."""

    model: Parameterization
    apply: NetworkApply
    guidance: Guidance
    groups: Sequence[Sequence[Entry]]
    most_cells: int | None = None  # latent cells that fit one call

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        level = sigma.expand(x.shape[0])
        guidance = self.guidance
        if guidance.is_plain:
            (cond,) = self._evaluate(self.groups[:1], x, level)
            return self._combined((cond, torch.zeros_like(cond)), x, level)
        predictions = self._evaluate(self.groups, x, level)
        return self._combined(predictions, x, level)

    def with_uncond(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The guided prediction and that of the last group, which is always evaluated here."""
        level = sigma.expand(x.shape[0])
        predictions = self._evaluate(self.groups, x, level)
        return self._combined(predictions, x, level), predictions[-1]

    def _evaluate(
        self, groups: Sequence[Sequence[Entry]], x: Tensor, level: Tensor
    ) -> list[Tensor]:
        return evaluate(self.apply, groups, x, level, self.most_cells)

    def _combined(self, predictions: Sequence[Tensor], x: Tensor, level: Tensor) -> Tensor:
        guidance = self.guidance
        if guidance.combine is not None:
            return guidance.combine(predictions)

        def once_more(group: int, x: Tensor, hooks: tuple[Hook, ...]) -> Tensor:
            place = range(len(self.groups))[group]
            groups = [*([()] * place), self.groups[place]]
            return evaluate(replace(self.apply, hooks=hooks), groups, x, level)[-1]

        return guided(guidance, predictions, x, level, once_more)


@dataclass(kw_only=True)
class MaskedDenoiser:
    """Keeps the parts of a latent that its noise mask leaves out (inpainting).

    Shapes: mask (B, 1 or C, H, W), 1 = repaint.
    """

    inner: GuidedDenoiser
    mask: Tensor
    latent: Tensor
    noise: Tensor
    hook: Any = None  # the recipe's `denoise_mask_function`
    sigmas: Tensor = field(default_factory=lambda: torch.zeros(0))

    @property
    def model(self) -> Parameterization:
        return self.inner.model

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        mask = self._mask(sigma, x)
        return self._kept(self.inner(self._noised(x, sigma, mask), sigma), mask)

    def with_uncond(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """As of the denoiser inside; only the guided prediction is masked."""
        mask = self._mask(sigma, x)
        denoised, uncond = self.inner.with_uncond(self._noised(x, sigma, mask), sigma)
        return self._kept(denoised, mask), uncond

    def _mask(self, sigma: Tensor, x: Tensor) -> Tensor:
        if self.hook is None:
            return self.mask
        options = {
            "model": self.inner.guidance.model,
            "sigmas": self.sigmas,
            "parameterization": self.model,
        }
        return self.hook(sigma.expand(x.shape[0]), self.mask, extra_options=options)

    def _noised(self, x: Tensor, sigma: Tensor, mask: Tensor) -> Tensor:
        kept = self.model.noised(self.latent, self.noise, sigma, is_start=False)
        return x * mask + kept * (1.0 - mask)

    def _kept(self, denoised: Tensor, mask: Tensor) -> Tensor:
        return denoised * mask + self.latent * (1.0 - mask)
