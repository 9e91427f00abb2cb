"""The line of parameters that many programs write into pictures, made from a graph.

prompt <lora:name:weight>
Negative prompt: …
Steps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, …

The graph is read from the saving node backwards to the sampler nearest to it.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType

from engine.diffusion.prompt_walk import Prompt, class_of, inputs_of, source_of, upstream
from engine.text.lora_tags import ENDINGS, lora_tags, without_lora_tags

HashOf = Callable[[str, str], str]  # kind of models, name -> SHA-256, "" when it is not known

_SAMPLERS: Mapping[str, str] = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "lms": "LMS",
    "heun": "Heun",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_2m_sde_heun": "DPM++ 2M SDE Heun",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "dpm_fast": "DPM fast",
    "dpm_adaptive": "DPM adaptive",
    "lcm": "LCM",
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "uni_pc": "UniPC",
}
_SCHEDULES: Mapping[str, str] = {
    "normal": "Normal",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
    "ddim_uniform": "DDIM",
    "beta": "Beta",
    "kl_optimal": "KL Optimal",
}
_SCHEDULE_NODES: Mapping[str, str] = {
    "KarrasScheduler": "Karras",
    "ExponentialScheduler": "Exponential",
    "PolyexponentialScheduler": "Polyexponential",
    "AlignYourStepsScheduler": "Align Your Steps",
    "BetaSamplingScheduler": "Beta",
}
_PARTS_OF_SAMPLERS = ("noise", "guider", "sampler", "sigmas")  # linked nodes with its values
_TO_PICTURE = ("images", "image", "samples", "pixels", "latent_image", "latent")
_WORDS_BETWEEN: Mapping[str, str] = {
    "ConditioningConcat": " BREAK ",
    "ConditioningCombine": " AND ",
}
_DEPTH = 64
_MOST_TEXTS = 200

Constant = str | int | float


@dataclass(frozen=True, slots=True)
class _Graph:
    """Look-ups in one prompt."""

    prompt: Prompt

    def constant(self, value: object, depth: int = 0) -> Constant | None:
        """A constant, or that of the plain node (a text, a number) that it is linked to."""
        source = source_of(value)
        if source is None:
            return value if isinstance(value, Constant) and not isinstance(value, bool) else None
        if depth > _DEPTH:
            return None
        inputs = inputs_of(self.prompt, source)
        for name in (
            "value",
            "text",
            "tagged_text",
            "string",
            "seed",
            "noise_seed",
            "int",
            "float",
        ):
            if name in inputs:
                return self.constant(inputs[name], depth + 1)
        return None

    def find(self, sampler: str, *names: str) -> Constant | None:
        """A value of a sampler node, or of the nodes that are its parts."""
        parts = upstream(self.prompt, sampler, only=_PARTS_OF_SAMPLERS)
        for node_id in (sampler, *parts):
            inputs = inputs_of(self.prompt, node_id)
            for name in names:
                found = self.constant(inputs[name]) if name in inputs else None
                if found is not None:
                    return found
        return None

    def link(self, sampler: str, *names: str) -> str | None:
        """The node linked to an input of a sampler node or of its parts."""
        parts = upstream(self.prompt, sampler, only=_PARTS_OF_SAMPLERS)
        for node_id in (sampler, *parts):
            inputs = inputs_of(self.prompt, node_id)
            for name in names:
                found = source_of(inputs.get(name))
                if found is not None:
                    return found
        return None

    def samplers(self, node_id: str) -> Iterator[str]:
        """The samplers that a picture passed, the last one first."""
        for other in upstream(self.prompt, node_id, only=_TO_PICTURE):
            inputs = inputs_of(self.prompt, other)
            if "latent_image" in inputs and ("sampler_name" in inputs or "sampler" in inputs):
                yield other

    def text(self, node_id: str | None, known: dict[str, str] | None = None) -> str:
        """The words behind a conditioning; `known` holds what was read already."""
        known = {} if known is None else known
        if node_id is None or len(known) > _MOST_TEXTS:
            return ""
        if node_id not in known:
            known[node_id] = ""  # what a circle of links gives
            known[node_id] = self._own_text(node_id, known)
        return known[node_id]

    def _own_text(self, node_id: str, known: dict[str, str]) -> str:
        inputs = inputs_of(self.prompt, node_id)
        for name in ("text", "text_g", "text_l", "prompt"):
            found = self.constant(inputs[name]) if name in inputs else None
            if isinstance(found, str):
                return without_lora_tags(found)
        links = [source_of(v) for k, v in inputs.items() if k.startswith(("cond", "positive"))]
        texts = [self.text(link, known) for link in links]
        between = _WORDS_BETWEEN.get(class_of(self.prompt, node_id), ", ")
        return between.join(dict.fromkeys(text for text in texts if text))


def parameters_text(
    prompt: Prompt,
    node_id: str,
    size_px: tuple[int, int],
    hash_of: HashOf,
    made: Mapping[str, Mapping[str, object]] = MappingProxyType({}),
) -> str | None:
    """The text for the pictures that a node saves; None when no sampler made them.

    `size_px` is (width, height). `made` holds the texts that nodes before made of dynamic prompts,
    by node and input; they stand in place of the links to them.
    """
    graph = _Graph(_with_made(prompt, made))
    samplers = list(graph.samplers(node_id))
    if not samplers:
        return None
    last, first = samplers[0], samplers[-1]
    positive = graph.text(graph.link(last, "positive", "conditioning", "cond1"))
    negative = graph.text(graph.link(last, "negative"))
    loras = list(_loras(graph, last))
    tags = "".join(f" <lora:{PurePosixPath(n).stem}:{weights}>" for n, weights in loras)
    facts = {
        **_sampling(graph, first),
        **_sizes(graph, first, last, size_px),
        **_models(graph, last, node_id, loras, hash_of),
        "Version": "Weft",
    }
    lines = [f"{positive}{tags}".strip()]
    if negative:
        lines.append(f"Negative prompt: {negative}")
    lines.append(", ".join(f"{name}: {_quoted(value)}" for name, value in facts.items()))
    return "\n".join(lines)


def _with_made(prompt: Prompt, made: Mapping[str, Mapping[str, object]]) -> Prompt:
    """The prompt with texts in place of links; of several texts the first."""
    whole = dict(prompt)
    for node_id, texts in made.items():
        if node_id in whole:
            first = {k: v[0] if isinstance(v, list) else v for k, v in texts.items()}
            inputs = {**inputs_of(prompt, node_id), **first}
            whole[node_id] = {**whole[node_id], "inputs": inputs}
    return whole


def _sampling(graph: _Graph, sampler: str) -> dict[str, Constant]:
    name = str(graph.find(sampler, "sampler_name") or "")
    schedule = str(graph.find(sampler, "scheduler") or "")
    if not schedule:
        node = graph.link(sampler, "sigmas")
        schedule = _SCHEDULE_NODES.get(class_of(graph.prompt, node or ""), "")
    found = {
        "Steps": graph.find(sampler, "steps"),
        "Sampler": _SAMPLERS.get(name, name) or None,
        "Schedule type": _SCHEDULES.get(schedule, schedule) or None,
        "CFG scale": graph.find(sampler, "cfg", "cfg_conds"),
        "Seed": graph.find(sampler, "seed", "noise_seed"),
    }
    return {name: value for name, value in found.items() if value is not None}


def _sizes(graph: _Graph, first: str, last: str, size_px: tuple[int, int]) -> dict[str, Constant]:
    """The size that sampling began with; a second pass at a larger one; and the denoising."""
    start = inputs_of(graph.prompt, graph.link(first, "latent_image") or "")
    width, height = (graph.constant(start.get(name)) for name in ("width", "height"))
    began = isinstance(width, int) and isinstance(height, int)
    wide, high = (width, height) if began else size_px
    facts: dict[str, Constant] = {"Size": f"{wide}x{high}"}
    between = upstream(graph.prompt, last, only=_TO_PICTURE)
    enlarging = next((i for i in between if "scale" in class_of(graph.prompt, i).lower()), None)
    is_second_pass = first != last and began and enlarging is not None
    denoise = graph.find(last if is_second_pass else first, "denoise")
    if is_second_pass and isinstance(wide, int):
        inputs = inputs_of(graph.prompt, enlarging or "")
        is_latent = "latent" in class_of(graph.prompt, enlarging or "").lower()
        name = graph.constant(inputs.get("upscale_method")) or "Lanczos"
        facts["Denoising strength"] = 1.0 if denoise is None else denoise
        facts["Hires upscale"] = round(size_px[0] / wide, 4)
        facts["Hires steps"] = graph.find(last, "steps") or 0
        facts["Hires upscaler"] = f"Latent ({name})" if is_latent else name
    elif isinstance(denoise, int | float) and denoise < 1:
        facts["Denoising strength"] = denoise
    return facts


def _loras(graph: _Graph, sampler: str) -> Iterator[tuple[str, str]]:
    """Name, and weight or weights, of each LoRA, in the order in which they are put on."""
    found: list[tuple[str, str]] = []
    for node_id in _model_chain(graph, sampler):
        inputs = inputs_of(graph.prompt, node_id)
        name, weight = (
            graph.constant(inputs.get("lora_name")),
            graph.constant(inputs.get("strength_model")),
        )
        if isinstance(name, str) and isinstance(weight, int | float):
            found.append((name, _weights(weight, graph.constant(inputs.get("strength_clip")))))
        tagged = graph.constant(inputs.get("tagged_text"))
        for tag in reversed(lora_tags(tagged) if isinstance(tagged, str) else ()):
            found.append((tag.name, _weights(tag.model, tag.clip)))
    return reversed(found)


def _weights(model: float, clip: Constant | None) -> str:
    return f"{model:g}" if clip in (None, model) else f"{clip:g}:{model:g}"


def _model_chain(graph: _Graph, sampler: str) -> Iterator[str]:
    start = graph.link(sampler, "model")
    if start is not None:
        yield start
        yield from upstream(graph.prompt, start, only=("model", "model1"))


def _models(
    graph: _Graph, sampler: str, node_id: str, loras: list[tuple[str, str]], hash_of: HashOf
) -> dict[str, Constant]:
    facts: dict[str, Constant] = {}
    for loader in _model_chain(graph, sampler):
        inputs = inputs_of(graph.prompt, loader)
        for key, kind in (("ckpt_name", "checkpoints"), ("unet_name", "diffusion_models")):
            name = graph.constant(inputs.get(key))
            if isinstance(name, str):
                facts |= _file_facts("Model", kind, name, hash_of)
    for other in upstream(graph.prompt, node_id):
        inputs = inputs_of(graph.prompt, other)
        layer, vae = (graph.constant(inputs.get(k)) for k in ("stop_at_clip_layer", "vae_name"))
        if isinstance(layer, int) and layer < -1:
            facts.setdefault("Clip skip", -layer)
        if isinstance(vae, str) and "VAE" not in facts:
            facts |= _file_facts("VAE", "vae", vae, hash_of)
    hashes = {PurePosixPath(name).stem: _lora_hash(name, hash_of) for name, _ in loras}
    if any(hashes.values()):
        facts["Lora hashes"] = ", ".join(f"{name}: {h}" for name, h in hashes.items() if h)
    return facts


def _lora_hash(name: str, hash_of: HashOf) -> str:
    """The start of a LoRA's hash; tags name it without its ending."""
    found = (hash_of("loras", name + ending) for ending in ("", *ENDINGS))
    return next(filter(None, found), "")[:10]


def _file_facts(title: str, kind: str, name: str, hash_of: HashOf) -> dict[str, Constant]:
    """A file as other programs name it: without its ending, by the start of its hash."""
    digest = hash_of(kind, name)[:10]
    facts: dict[str, Constant] = {f"{title} hash": digest} if digest else {}
    # A VAE is told with its ending, a checkpoint without, as those programs have it.
    return {**facts, title: name if title == "VAE" else PurePosixPath(name).stem}


def _quoted(value: Constant) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if any(c in text for c in ',:\n"') else text
