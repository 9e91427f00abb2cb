"""How far bf16 and fp16 are from fp32 after 20 steps, on the built-in model.

    python -m tests.benchmarks.bench_precision [STEPS]

Relative error of the latents (root of the mean square over that of fp32) and PSNR of the pictures,
each over four prompts and seeds; euler, cfg 4.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from engine.config import ROOT, Config
from engine.local import Weft

PROMPTS = ("a red circle", "a blue square", "a green triangle and a yellow circle", "a purple star")


def made(precision: Any, steps: int, base: Path) -> list[tuple[Any, Any]]:
    """The latent and the picture of each prompt."""
    prompt = json.loads((ROOT / "web" / "templates" / "text_to_image.json").read_text())
    config = Config(output_override=base, use_cache=False, precision=precision)
    found: list[tuple[Any, Any]] = []
    with Weft(config) as weft:
        job = weft.load(prompt)
        kinds = {node["class_type"]: key for key, node in job.prompt.items()}
        sampler = kinds["KSampler"]
        text = job.prompt[sampler]["inputs"]["positive"][0]
        links = {"samples": [sampler, 0], "filename_prefix": "latent"}
        job.prompt["kept"] = {"class_type": "SaveLatent", "inputs": links}
        job.set(f"{sampler}.steps", steps).set(f"{sampler}.sampler_name", "euler")
        job.set(f"{sampler}.cfg", 4.0)
        for seed, words in enumerate(PROMPTS):
            result = job.set(f"{sampler}.seed", seed).set(f"{text}.text", words).run()
            latent = base / result.outputs["kept"]["latents"][0]["filename"]
            picture = np.asarray(result.images[0].convert("RGB"), dtype=np.float64)
            found.append((load_file(latent)["latent_tensor"], picture))
    return found


def main(arguments: list[str]) -> None:
    """Print both figures of each type."""
    steps = int(arguments[0]) if arguments else 20
    with tempfile.TemporaryDirectory() as folder:
        exact = made("fp32", steps, Path(folder))
        for precision in ("bf16", "fp16"):
            errors, ratios = [], []
            for (latent, picture), (other, seen) in zip(
                exact, made(precision, steps, Path(folder))
            ):
                errors.append(float(np.sqrt(((other - latent) ** 2).mean() / (latent**2).mean())))
                ratios.append(10 * np.log10(255**2 / max(((seen - picture) ** 2).mean(), 1e-9)))
            print(
                f"{precision}: relative error of latents {min(errors):.1e} to {max(errors):.1e}, "
                f"PSNR {min(ratios):.1f} to {max(ratios):.1f} dB",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
