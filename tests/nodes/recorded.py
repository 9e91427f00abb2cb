"""Recorded prompts of the reference engine, run on the built-in nodes without any checkpoint.

The test nodes of the recording (pattern picture, toy denoiser, noise, dump) are restated here.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from engine.api.node import node_type_of
from engine.api.recipe import Hook, Recipe
from engine.diffusion.latent_space import SD1
from engine.diffusion.network import sd_alphas_cumprod
from nodes import BUILTIN
from tests.nodes.context import Context

REFERENCE = Path(__file__).parents[1] / "fixtures" / "reference"
NODE_TYPES = {
    node_type_of(f).spec.name: node_type_of(f) for module in BUILTIN for f in module.NODES
}


class ToyNetwork:
    """What a loaded denoiser tells about itself; the toy model's wrapper never calls it."""

    family = "sd1"
    parameterization_name = "eps"
    alphas_cumprod = sd_alphas_cumprod()
    latent = SD1
    latent_rgb_factors = None
    in_channels = 4
    context_dim = 8
    adm_channels = None
    vector = ()
    has_noise_level = False
    embed_statistics = None
    sampling = None
    is_joint = False
    most_cells = None
    device = torch.device("cpu")
    dtype = torch.float32

    def extra_conditions(self, options: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    def predict(
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        y: Tensor | None = None,
        control: Any = None,
        options: Any = None,
        extras: Any = None,
    ) -> Tensor:
        return torch.zeros_like(x)


class ToyPool:
    @contextmanager
    def use(self, recipe: Recipe) -> Iterator[ToyNetwork]:
        yield ToyNetwork()


MODEL = Recipe(part="denoiser", family="sd1", files=())


def toy_denoised(x: Tensor, sigma: Tensor, sign: Tensor | float) -> Tensor:
    s = sigma.reshape(-1, *([1] * (x.ndim - 1))).to(x.dtype)
    r = torch.sqrt(1.0 + s * s)
    return x / (1.0 + s * s) + 0.3 * torch.tanh(x / r) * s / (1.0 + s) + 0.1 * sign


def _toy_wrapper(_apply_model: Any, a: Mapping[str, Any]) -> Tensor:
    x, groups = a["input"], a["cond_or_uncond"]
    n = x.shape[0] // len(groups)
    sign = torch.cat([torch.full((n, 1, 1, 1), 1.0 if c == 0 else -1.0) for c in groups])
    return toy_denoised(x, a["timestep"], sign)


def toy_model(model: Recipe) -> Recipe:
    return model.with_hook(Hook(slot="unet_function_wrapper", function=_toy_wrapper))


def _wave(h: int, w: int, c: int, b: int, phase: float) -> Tensor:
    y = torch.arange(h, dtype=torch.float64).view(1, h, 1, 1)
    x = torch.arange(w, dtype=torch.float64).view(1, 1, w, 1)
    k = torch.arange(c, dtype=torch.float64).view(1, 1, 1, c)
    n = torch.arange(b, dtype=torch.float64).view(b, 1, 1, 1)
    rows = torch.cos(0.23 * y * (1 + 0.1 * k) + 0.7 * n + 0.011 * x * y)
    v = 0.5 + 0.25 * torch.sin(0.37 * x + 0.9 * k + phase) + 0.25 * rows
    return v.clamp(0, 1).float()


def pattern(height: int, width: int, batch: int, phase: float) -> tuple[Any, ...]:
    image = _wave(height, width, 3, batch, phase)
    mask = (_wave(height, width, 1, batch, phase + 1.0)[..., 0] > 0.55).float()
    latent = _wave(max(1, height // 8), max(1, width // 8), 4, batch, phase + 2.0) - 0.5
    return image, mask, {"samples": (latent.movedim(-1, 1) * 12.0).contiguous()}


TOYS: Mapping[str, Callable[..., tuple[Any, ...]]] = {
    "CheckpointLoaderSimple": lambda ckpt_name: (MODEL, None, None),
    "CLIPTextEncode": lambda text, clip: ([(torch.zeros(1, 77, 8), {})],),
    "ReferenceToyModel": lambda model: (toy_model(model),),
    "ReferencePattern": pattern,
    "ReferenceNoise": lambda noise, latent: ({"samples": noise.generate_noise(latent)},),
}


def prompts(group: str, folder: Path = REFERENCE) -> list[dict[str, Any]]:
    return [json.loads(p.read_text()) for p in sorted(folder.glob(f"{group}.*.prompt.json"))]


def dump_names(group: str, folder: Path = REFERENCE) -> list[tuple[int, str, str]]:
    """(prompt, node id, dump name) of every recorded dump of a group."""
    return [
        (n, key, item["inputs"]["name"])
        for n, prompt in enumerate(prompts(group, folder))
        for key, item in prompt.items()
        if item["class_type"] == "ReferenceDump"
    ]


class Player:
    """Runs the nodes that a dump needs; results are kept between dumps."""

    def __init__(
        self,
        prompt: Mapping[str, Any],
        ctx: Context,
        toys: Mapping[str, Callable[..., tuple[Any, ...]]] = TOYS,
    ) -> None:
        self._prompt, self._ctx, self._toys = prompt, ctx, toys
        self._results: dict[str, tuple[Any, ...]] = {}

    def value(self, dump: str) -> Any:
        return self._input(self._prompt[dump]["inputs"]["value"])

    def _input(self, value: Any) -> Any:
        if isinstance(value, list):
            key, index = value
            return self._result(key)[index]
        return value

    def _result(self, key: str) -> tuple[Any, ...]:
        if key not in self._results:
            item = self._prompt[key]
            inputs = {k: self._input(v) for k, v in item["inputs"].items()}
            toy = self._toys.get(item["class_type"])
            if toy is not None:
                self._results[key] = toy(**inputs)
            else:
                output: Any = NODE_TYPES[item["class_type"]].call(inputs, self._ctx)
                self._results[key] = output.result
        return self._results[key]


def flatten(value: Any, name: str = "value") -> dict[str, Tensor]:
    """The tensors of a value by path, as the recording names them."""
    if isinstance(value, Tensor):
        return {name: value}
    items: Any = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    return {k: t for key, v in items for k, t in flatten(v, f"{name}.{key}").items()}


def error(have: Tensor, want: Tensor) -> float:
    """Largest difference over the recorded tensor's standard deviation; inf if it cannot match."""
    if have.shape != want.shape or not bool((have.isfinite() == want.isfinite()).all()):
        return float("inf")
    x, y = have.double().nan_to_num(), want.double().nan_to_num()
    spread = float(y.std(unbiased=False)) if y.numel() > 1 else 0.0
    scale = max(spread, 1e-3 * float(y.abs().max()), 1e-12)
    return float((x - y).abs().max()) / scale


def recorded_values(group: str, folder: Path = REFERENCE) -> dict[str, Tensor]:
    return load_file(folder / f"{group}.safetensors")
