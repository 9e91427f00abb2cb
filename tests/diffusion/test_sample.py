"""A sampling run: masks, guidance, hooks, progress, cancel and refusals, on analytic denoisers."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.api.errors import Cancelled, NodeError
from engine.api.recipe import Hook, Recipe
from engine.diffusion.guidance import Guidance
from engine.diffusion.noise import RandomNoise
from engine.diffusion.parameterization import parameterization
from engine.diffusion.sample import Sampled, sample, sampler_sigmas, step_range
from engine.diffusion.samplers import SamplerChoice
from tests.nodes.context import Context, context
from tests.nodes.recorded import MODEL, ToyNetwork, ToyPool, toy_model

SIGMAS = sampler_sigmas(parameterization("eps", ToyNetwork.alphas_cumprod), "euler", "normal", 4)


def conditioning(value: float = 0.0, **options: Any) -> Any:
    return [(torch.full((1, 77, 8), value), options)]


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    return context(tmp_path, models=ToyPool())


def run(
    ctx: Context,
    recipe: Recipe | None = None,
    *,
    latent: Tensor | None = None,
    mask: Tensor | None = None,
    positive: Any = None,
    negative: Any = None,
    cfg: float = 3.0,
    sampler: str = "euler",
    sigmas: Tensor = SIGMAS,
) -> Sampled:
    value: Any = {"samples": torch.zeros(1, 4, 8, 8) if latent is None else latent}
    if mask is not None:
        value["noise_mask"] = mask
    guidance = Guidance(
        model=recipe or toy_model(MODEL),
        groups=(positive or conditioning(), negative or conditioning()),
        cfg=cfg,
    )
    return sample(
        ctx,
        guidance,
        SamplerChoice(name=sampler),
        sigmas,
        value,
        RandomNoise(1),
    )


def test_a_mask_keeps_what_it_leaves_out(ctx: Context) -> None:
    latent = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1.0
    result = run(ctx, latent=latent, mask=mask).samples
    torch.testing.assert_close(result[..., 4:], latent[..., 4:], rtol=1e-4, atol=1e-4)
    assert (result[..., :4] - latent[..., :4]).abs().min() > 1e-3


def test_a_batch_is_its_items(ctx: Context) -> None:
    noise = torch.randn(2, 4, 8, 8)
    both = run(ctx, latent=noise, sampler="dpmpp_2m").samples
    first = run(ctx, latent=noise[:1], sampler="dpmpp_2m").samples
    torch.testing.assert_close(both[:1], first)


def test_progress_and_previews(ctx: Context) -> None:
    ctx.wants_previews = True
    run(ctx)
    assert ctx.reports == [(1, 4), (2, 4), (3, 4), (4, 4)]
    shapes = [tuple(p.shape) for p in ctx.previews]
    assert shapes == [(1, 8, 8, 3)] * 4
    assert all(float(p.min()) >= 0 and float(p.max()) <= 1 for p in ctx.previews)


def test_cancel_stops_the_run(ctx: Context) -> None:
    ctx.cancel_after = 2
    with pytest.raises(Cancelled):
        run(ctx)
    assert len(ctx.reports) == 2


def test_nan_is_refused(ctx: Context) -> None:
    broken = MODEL.with_hook(
        Hook(slot="unet_function_wrapper", function=lambda _, a: a["input"] * math.nan)
    )
    with pytest.raises(NodeError, match="NaN"):
        run(ctx, broken)


def test_a_schedule_of_nan_is_refused(ctx: Context) -> None:
    model = parameterization("eps", ToyNetwork.alphas_cumprod)
    sigmas = sampler_sigmas(model, "euler", "kl_optimal", 1)
    with pytest.raises(NodeError, match="schedule"):
        run(ctx, sigmas=sigmas)


def test_wrong_channels_name_both_shapes(ctx: Context) -> None:
    with pytest.raises(NodeError, match=r"\[1, 16, 8, 8\].*4"):
        run(ctx, latent=torch.ones(1, 16, 8, 8))


def test_an_empty_latent_takes_the_model_s_channels(ctx: Context) -> None:
    value: Any = {"samples": torch.zeros(1, 16, 8, 8)}
    guidance = Guidance(model=toy_model(MODEL), groups=(conditioning(), conditioning()))
    result = sample(ctx, guidance, SamplerChoice(name="euler"), SIGMAS, value, RandomNoise(1))
    assert result.samples.shape == (1, 4, 8, 8)


def test_text_of_another_model_is_refused(ctx: Context) -> None:
    wrong = [(torch.zeros(1, 77, 5), {})]
    with pytest.raises(NodeError, match=r"\[1, 77, 5\].*8"):
        run(ctx, positive=wrong)


def test_no_sigmas_change_nothing(ctx: Context) -> None:
    latent = torch.randn(1, 4, 8, 8)
    assert torch.equal(run(ctx, latent=latent, sigmas=torch.zeros(0)).samples, latent)


# Guidance and hooks -------------------------------------------------------------------------------


def record_calls(calls: list[list[int]]) -> Recipe:
    def wrapper(apply_model: Any, values: Any) -> Tensor:
        calls.append(values["cond_or_uncond"])
        assert values["c"]["c_crossattn"].shape[0] == values["input"].shape[0]
        return apply_model(values["input"], values["timestep"], **values["c"])

    return MODEL.with_hook(Hook(slot="unet_function_wrapper", function=wrapper))


def test_both_prompts_share_one_call(ctx: Context) -> None:
    calls: list[list[int]] = []
    run(ctx, record_calls(calls))
    assert calls == [[0, 1]] * 4


def test_cfg_one_leaves_the_negative_prompt_out(ctx: Context) -> None:
    calls: list[list[int]] = []
    run(ctx, record_calls(calls), cfg=1.0)
    assert calls == [[0]] * 4
    calls.clear()
    run(ctx, record_calls(calls).with_option("disable_cfg1_optimization", True), cfg=1.0)
    assert calls == [[0, 1]] * 4


def test_texts_of_two_lengths_share_one_call(ctx: Context) -> None:
    calls: list[list[int]] = []
    long = [(torch.zeros(1, 154, 8), {})]
    run(ctx, record_calls(calls), positive=long)
    assert calls == [[0, 1]] * 4


def test_cfg_hooks_replace_and_follow(ctx: Context) -> None:
    seen: list[str] = []

    def combine(values: Any) -> Tensor:
        seen.append("cfg")
        torch.testing.assert_close(values["cond"], values["input"] - values["cond_denoised"])
        return values["uncond"] + (values["cond"] - values["uncond"]) * values["cond_scale"]

    def after(values: Any) -> Tensor:
        seen.append("post")
        return values["denoised"]

    recipe = toy_model(MODEL).with_hook(Hook(slot="sampler_cfg_function", function=combine))
    recipe = recipe.with_hook(Hook(slot="sampler_post_cfg_function", function=after), append=True)
    hooked = run(ctx, recipe).samples
    assert seen == ["cfg", "post"] * 4
    torch.testing.assert_close(hooked, run(ctx).samples, rtol=1e-4, atol=1e-4)


def test_time_ranges_choose_the_prompt(ctx: Context) -> None:
    calls: list[list[int]] = []
    early = conditioning(start_percent=0.0, end_percent=0.5)
    late = conditioning(start_percent=0.5, end_percent=1.0)
    run(ctx, record_calls(calls), positive=[*early, *late])
    assert calls == [[0, 1]] * 4


# Schedules as KSampler runs them ------------------------------------------------------------------


def test_step_ranges() -> None:
    sigmas = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])
    assert step_range(sigmas, 1, 3, ends_clean=False).tolist() == [3.0, 2.0, 1.0]
    assert step_range(sigmas, 1, 3, ends_clean=True).tolist() == [3.0, 2.0, 0.0]
    assert step_range(sigmas, 0, 10000, ends_clean=True).tolist() == sigmas.tolist()
    assert step_range(sigmas, 4, 10000, ends_clean=True).tolist() == []


def test_some_samplers_drop_the_second_last_level() -> None:
    model = parameterization("eps", ToyNetwork.alphas_cumprod)
    plain = sampler_sigmas(model, "euler", "karras", 6)
    dropped = sampler_sigmas(model, "dpm_2", "karras", 5)
    assert dropped.tolist() == [*plain[:-2].tolist(), 0.0]
