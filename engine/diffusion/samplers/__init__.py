"""The table of samplers: one entry each. The choice lists of nodes, CLI and API read it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from engine.diffusion.samplers import (
    dpm_solver,
    dpmpp,
    euler,
    exponential,
    multistep,
    pndm,
    sa_solver,
    second_order,
    uni_pc,
)
from engine.diffusion.samplers.base import SampleFunction, SamplerSpec


def _plain(name: str, sample: SampleFunction, order: int = 1) -> SamplerSpec:
    return SamplerSpec(name=name, sample=sample, order=order)


def _stochastic(name: str, sample: SampleFunction) -> SamplerSpec:
    return SamplerSpec(name=name, sample=sample, is_stochastic=True)


_TABLE = (
    _plain("euler", euler.sample_euler),
    _plain("euler_cfg_pp", euler.sample_euler_cfg_pp),
    _stochastic("euler_ancestral", euler.sample_euler_ancestral),
    _stochastic("euler_ancestral_cfg_pp", euler.sample_euler_ancestral_cfg_pp),
    _plain("heun", second_order.sample_heun, 2),
    _plain("heunpp2", second_order.sample_heunpp2),
    SamplerSpec(name="dpm_2", sample=second_order.sample_dpm_2, order=2, drops_second_last=True),
    SamplerSpec(
        name="dpm_2_ancestral",
        sample=second_order.sample_dpm_2_ancestral,
        is_stochastic=True,
        drops_second_last=True,
    ),
    _plain("lms", multistep.sample_lms, 2),
    _plain("dpm_fast", dpm_solver.sample_dpm_fast, 2),
    _plain("dpm_adaptive", dpm_solver.sample_dpm_adaptive),
    _stochastic("dpmpp_2s_ancestral", dpmpp.sample_dpmpp_2s_ancestral),
    _stochastic("dpmpp_2s_ancestral_cfg_pp", dpmpp.sample_dpmpp_2s_ancestral_cfg_pp),
    _stochastic("dpmpp_sde", dpmpp.sample_dpmpp_sde),
    _stochastic("dpmpp_sde_gpu", dpmpp.sample_dpmpp_sde),
    _plain("dpmpp_2m", dpmpp.sample_dpmpp_2m, 2),
    _plain("dpmpp_2m_cfg_pp", dpmpp.sample_dpmpp_2m_cfg_pp),
    _stochastic("dpmpp_2m_sde", dpmpp.sample_dpmpp_2m_sde),
    _stochastic("dpmpp_2m_sde_gpu", dpmpp.sample_dpmpp_2m_sde),
    _stochastic("dpmpp_2m_sde_heun", dpmpp.sample_dpmpp_2m_sde_heun),
    _stochastic("dpmpp_2m_sde_heun_gpu", dpmpp.sample_dpmpp_2m_sde_heun),
    _stochastic("dpmpp_3m_sde", dpmpp.sample_dpmpp_3m_sde),
    _stochastic("dpmpp_3m_sde_gpu", dpmpp.sample_dpmpp_3m_sde),
    _stochastic("ddpm", euler.sample_ddpm),
    _stochastic("lcm", euler.sample_lcm),
    _plain("ipndm", multistep.sample_ipndm),
    _plain("ipndm_v", multistep.sample_ipndm_v),
    _plain("deis", multistep.sample_deis),
    _plain("res_multistep", multistep.sample_res_multistep),
    _plain("res_multistep_cfg_pp", multistep.sample_res_multistep_cfg_pp),
    _stochastic("res_multistep_ancestral", multistep.sample_res_multistep_ancestral),
    _stochastic("res_multistep_ancestral_cfg_pp", multistep.sample_res_multistep_ancestral_cfg_pp),
    _plain("gradient_estimation", euler.sample_gradient_estimation),
    _plain("gradient_estimation_cfg_pp", euler.sample_gradient_estimation_cfg_pp),
    _stochastic("er_sde", exponential.sample_er_sde),
    _stochastic("seeds_2", exponential.sample_seeds_2),
    _stochastic("seeds_3", exponential.sample_seeds_3),
    _stochastic("sa_solver", sa_solver.sample_sa_solver),
    _stochastic("sa_solver_pece", sa_solver.sample_sa_solver_pece),
    SamplerSpec(name="ddim", sample=euler.sample_euler, has_random_inpaint=True),
    SamplerSpec(name="uni_pc", sample=uni_pc.sample_uni_pc, order=2, drops_second_last=True),
    SamplerSpec(
        name="uni_pc_bh2", sample=uni_pc.sample_uni_pc_bh2, order=2, drops_second_last=True
    ),
    _plain("pndm", pndm.sample_pndm),
)
# Samplers that only nodes of their own offer.
_WITH_NODES = (
    SamplerSpec(
        name="lcm_upscale", sample=euler.sample_lcm_upscale, is_stochastic=True, resizes=True
    ),
)
SAMPLERS: Mapping[str, SamplerSpec] = {spec.name: spec for spec in (*_TABLE, *_WITH_NODES)}
SAMPLER_NAMES = tuple(spec.name for spec in _TABLE)
OTHER_NAMES: Mapping[str, str] = {
    "pndm": "PNDM PLMS",
    "ipndm": "improved PNDM",
    "lms": "K-LMS LMS",
    "ddim": "DDIM",
    "ddpm": "DDPM ancestral",
    "euler": "Euler K-Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpm_2": "DPM2 KDPM2",
    "dpm_2_ancestral": "DPM2 a KDPM2 a",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M DPM-Solver++",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "uni_pc": "UniPC",
}
"""What samplers are called elsewhere: courses, papers and other programs."""


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
