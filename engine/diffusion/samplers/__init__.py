"""The table of samplers: one entry each. The choice lists of nodes, CLI and API read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from engine.diffusion.samplers import euler
from engine.diffusion.samplers.base import SampleFunction, SamplerSpec

_TABLE = (
    SamplerSpec(name="euler", sample=euler.sample_euler),
    SamplerSpec(name="euler_cfg_pp", sample=euler.sample_euler_cfg_pp),
    SamplerSpec(name="euler_ancestral", sample=euler.sample_euler_ancestral, is_stochastic=True),
    SamplerSpec(
        name="euler_ancestral_cfg_pp",
        sample=euler.sample_euler_ancestral_cfg_pp,
        is_stochastic=True,
    ),
    SamplerSpec(name="ddpm", sample=euler.sample_ddpm, is_stochastic=True),
    SamplerSpec(name="lcm", sample=euler.sample_lcm, is_stochastic=True),
    SamplerSpec(name="ddim", sample=euler.sample_euler, has_random_inpaint=True),
)
SAMPLERS: Mapping[str, SamplerSpec] = {spec.name: spec for spec in _TABLE}
SAMPLER_NAMES = tuple(SAMPLERS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerChoice:
    """A SAMPLER value: an entry of the table with options of its own."""

    name: str
    options: Mapping[str, float | int | str | bool] = field(default_factory=dict)

    @property
    def spec(self) -> SamplerSpec:
        return SAMPLERS[self.name]

    @property
    def sample(self) -> SampleFunction:
        return partial(self.spec.sample, **self.options)
