"""Guidance functions against closed forms."""

from typing import Any

import pytest
import torch

from engine.diffusion.guidance import cfg_norm, positive_leap


def values(cond: torch.Tensor, uncond: torch.Tensor, scale: float) -> dict[str, Any]:
    return {
        "cond_denoised": cond,
        "uncond_denoised": uncond,
        "denoised": uncond + (cond - uncond) * scale,
        "cond_scale": scale,
    }


def test_cfg_norm_only_shortens_and_keeps_directions() -> None:
    torch.manual_seed(0)
    given = values(torch.randn(1, 4, 3, 3), torch.randn(1, 4, 3, 3), 7.0)
    found = cfg_norm(1.0).function(given)
    have, wanted = found.norm(dim=1), given["cond_denoised"].norm(dim=1)
    plain = given["denoised"].norm(dim=1)
    torch.testing.assert_close(have, torch.minimum(wanted, plain))
    cosine = torch.cosine_similarity(found, given["denoised"], dim=1)
    torch.testing.assert_close(cosine, torch.ones(1, 3, 3))
    torch.testing.assert_close(cfg_norm(0.5).function(given), found / 2)


@pytest.mark.parametrize(("sign", "share"), [(1.0, 1.0), (-1.0, 0.0)])
def test_the_positive_leap_is_guidance_for_equals_and_a_leap_for_opposites(
    sign: float, share: float
) -> None:
    cond = torch.ones(1, 4, 2, 2)
    given = values(cond, sign * cond, 3.0)
    wanted = share * given["denoised"] + (1 - share) * cond * 3.0
    torch.testing.assert_close(positive_leap(given), wanted)
