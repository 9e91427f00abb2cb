"""ControlNets in a conditioning: which one, with which picture, how strongly and when."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from engine.api.recipe import Recipe
from engine.diffusion.conditioning_batch import Batch, fit_batch
from engine.diffusion.controlnet import LoadedControl, add_residuals, fit_hint
from engine.diffusion.parameterization import Parameterization

if TYPE_CHECKING:
    from engine.api.types import Conditioning


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ControlLink:
    """One ControlNet on a conditioning; `previous` acts with it."""

    control: Recipe
    image: Tensor
    strength: float
    start_percent: float = 0.0
    end_percent: float = 1.0
    previous: "ControlLink | None" = None

    def chain(self) -> "list[ControlLink]":
        """This link and those before it."""
        links: list[ControlLink] = []
        link: ControlLink | None = self
        while link is not None:
            links.append(link)
            link = link.previous
        return links


def with_control(
    conditionings: Sequence["Conditioning"], link: ControlLink, *, covers_uncond: bool
) -> "list[Conditioning]":
    """Conditionings with a ControlNet added to every entry.

    Entries that had the same control before share the new one, so that they fit one batch.
    """
    shared: dict[int, ControlLink] = {}
    result: list[Conditioning] = []
    for conditioning in conditionings:
        entries: Conditioning = []
        for embeds, options in conditioning:
            previous: ControlLink | None = options.get("control")
            key = id(previous)
            if key not in shared:
                shared[key] = replace(link, previous=previous)
            added = {"control": shared[key], "control_apply_to_uncond": covers_uncond}
            entries.append((embeds, {**options, **added}))
        result.append(entries)
    return result


@dataclass(kw_only=True)
class Controls:
    """The ControlNets of a run, loaded, with their pictures fitted to the latent's size."""

    model: Parameterization
    loaded: Mapping[str, LoadedControl]  # by the recipe's key
    _hints: dict[tuple[int, int, int], Tensor] = field(default_factory=dict)

    def residuals(
        self, link: ControlLink, x: Tensor, scaled: Tensor, sigma: Tensor, batch: Batch
    ) -> dict[str, list[Tensor | None]] | None:
        """What the links add to a network call; None outside of their time ranges.

        `x` is the noisy latent, `scaled` what the network is fed.
        """
        total: dict[str, list[Tensor | None]] | None = None
        level = float(sigma[0])
        for part in reversed(link.chain()):
            start, end = (
                self.model.times.sigma_at(p) for p in (part.start_percent, part.end_percent)
            )
            if level > start or level < end:
                continue
            control = self.loaded[part.control.key]
            hint = self._hint(part, x)
            per_group = x.shape[0] // len(batch.groups)
            hint = fit_batch(hint, per_group).repeat(len(batch.groups), 1, 1, 1)
            found = control.residuals(
                scaled,
                self.model.timestep(sigma).float(),
                batch.context if batch.control_context is None else batch.control_context,
                hint,
                strength=part.strength,
                y=batch.y if batch.control_y is None else batch.control_y,
            )
            total = found if total is None else add_residuals(total, found)
        return total

    def _hint(self, link: ControlLink, x: Tensor) -> Tensor:
        rows, columns = x.shape[-2:]
        key = (id(link.image), rows, columns)
        if key not in self._hints:
            self._hints[key] = fit_hint(link.image, rows, columns)
        return self._hints[key]


def control_recipes(conditionings: Sequence["Conditioning"]) -> dict[str, Recipe]:
    """The ControlNets that conditionings name, by key."""
    found: dict[str, Recipe] = {}
    for conditioning in conditionings:
        for _, options in conditioning:
            link: Any = options.get("control")
            if link is not None:
                found.update({part.control.key: part.control for part in link.chain()})
    return found
