"""`python3 main.py models verify NAME`: a fixed set of pictures of one checkpoint, with a report.

Text to image with the courses' seeds, the first of them twice, image to image, inpainting, a LoRA
and PNDM. The report holds each picture, the digest of its pixels and its time, so that two
machines, or two versions, can be compared.
"""

import argparse
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from engine.api.errors import EngineError, GraphInvalid, MissingModel
from engine.cli import describe_problems, say
from engine.commands.verify_report import Outcome, Report, write_report
from engine.config import Config
from engine.diffusion.families import identify
from engine.diffusion.weightfile import open_weights
from engine.launch_flags import add_folder_flags, add_run_flags, config_of
from engine.local import Weft
from engine.run.digests import Digests
from engine.run.folders import Folders
from engine.run.known_models import by_digest, known_models
from engine.run.settings import folders_of

SEEDS = (2551426893, 3099373267, 2470332296, 668581889)
GUIDANCE = (7.0, 8.0)
PROMPT = "a photograph of an astronaut riding a horse"
NEGATIVE = "blurry, low quality"
BUILTIN_PROMPT = "a red circle on a blue background"
STEPS, PNDM_STEPS = 20, 50

Prompt = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all cases share. `shown` is the report's folder as the output folder names it."""

    checkpoint: str
    size_px: int
    prompt: str
    steps: int
    pndm_steps: int
    lora: str | None
    shown: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One picture of the set; `equals` names the case whose pixels it has to have."""

    name: str
    title: str
    graph: Callable[[Setting], Prompt]
    equals: str | None = None


def main(argv: Sequence[str]) -> int:
    """Run the set; 0 when every case gave a picture."""
    parser = argparse.ArgumentParser(prog="main.py models verify", description=__doc__)
    parser.add_argument("name", help="a checkpoint, by its file's name")
    parser.add_argument("--lora", help="also with this LoRA, by its file's name")
    parser.add_argument("--prompt", help="instead of the fixed prompt")
    parser.add_argument("--steps", type=_count, default=STEPS, help="instead of %(default)s")
    parser.add_argument("--pndm-steps", type=_count, default=PNDM_STEPS)
    add_folder_flags(parser)
    add_run_flags(parser)
    parser.set_defaults(precision="fp32")  # what "the same picture" means
    options = parser.parse_args(argv)
    config = replace(config_of(options), use_cache=False)
    folders = folders_of(config)
    name = find_checkpoint(options.name, folders)
    path = folders.resolve("checkpoints", name)
    file = open_weights(path)
    layout = identify(file)
    is_builtin = "weft.native_size" in file.metadata
    shown = f"verify/{Path(name).stem}"
    with closing(Digests(config.state_dir / "digests.sqlite")) as digests:
        sha256 = digests.digest(path)
    setting = Setting(
        checkpoint=name,
        size_px=layout.native_size,
        prompt=options.prompt or (BUILTIN_PROMPT if is_builtin else PROMPT),
        steps=options.steps,
        pndm_steps=options.pndm_steps,
        lora=folders_lora(options.lora, folders),
        shown=shown,
    )
    place = folders.join("output", shown)
    known = by_digest(known_models(), sha256)
    report = Report(
        checkpoint=name,
        published_as=known.title if known else "",
        sha256=sha256,
        family=layout.family,
        size_px=layout.native_size,
        prompt=setting.prompt,
        machine=_machine(config),
        outcomes=run_set(setting, config, place),
    )
    page = write_report(report, place)
    return _tell(report, page)


def find_checkpoint(wanted: str, folders: Folders) -> str:
    """The checkpoint of that name, with or without folder and ending. Raises: MissingModel."""
    names = folders.list_files("checkpoints")
    published = {m.name: m.file for m in known_models()}
    for text in (wanted, published.get(wanted, wanted)):
        for name in names:
            if text in (name, Path(name).name, Path(name).stem):
                return name
    if wanted in published:
        raise MissingModel(
            f"{published[wanted]} is not here.", hint=f"python3 main.py models get {wanted}"
        )
    folders.resolve("checkpoints", wanted)  # raises, with the closest names
    return wanted


def folders_lora(wanted: str | None, folders: Folders) -> str | None:
    """The LoRA of that name. Raises: MissingModel."""
    if wanted is None:
        return None
    for name in folders.list_files("loras"):
        if wanted in (name, Path(name).name, Path(name).stem):
            return name
    folders.resolve("loras", wanted)  # raises, with the closest names
    return wanted


def run_set(setting: Setting, config: Config, place: Path) -> list[Outcome]:
    """Run every case; one that fails is told and the others go on. Raises: StorageError."""
    outcomes: list[Outcome] = []
    with Weft(config) as weft:
        _put_mask(place, setting.size_px)
        for case in tqdm(list(cases(setting)), unit="picture", disable=None):
            outcome = _run(case, setting, weft, place)
            if case.equals is not None and not outcome.problem:
                other = next(o for o in outcomes if o.name == case.equals)
                if other.pixels_sha256 != outcome.pixels_sha256:
                    outcome = replace(outcome, problem=f"its pixels differ from {other.name}")
            outcomes.append(outcome)
    return outcomes


def _run(case: Case, setting: Setting, weft: Weft, place: Path) -> Outcome:
    try:
        result = weft.load(case.graph(setting)).run()
    except GraphInvalid as error:
        return Outcome(name=case.name, title=case.title, problem=describe_problems(error))
    except EngineError as error:
        return Outcome(name=case.name, title=case.title, problem=str(error))
    return Outcome.of_picture(
        name=case.name,
        title=case.title,
        picture=result.files[0],
        place=place,
        seconds={
            result.titles[node_id]: record.seconds for node_id, record in result.records.items()
        },
    )


# The set ------------------------------------------------------------------------------------------


def cases(setting: Setting) -> Iterator[Case]:
    """Every picture of the set that this installation can make."""
    for seed in SEEDS:
        for cfg in GUIDANCE:
            yield Case(
                name=_seed_name(seed, cfg),
                title=f"Euler a, {setting.steps} steps, CFG {cfg:g}, seed {seed}",
                graph=lambda s, seed=seed, cfg=cfg: _from_text(s, seed=seed, cfg=cfg),
            )
    first = _seed_name(SEEDS[0], GUIDANCE[0])
    yield Case(
        name="again",
        title="The first picture again",
        graph=lambda s: _from_text(s, seed=SEEDS[0], cfg=GUIDANCE[0]),
        equals=first,
    )
    yield Case(name="image-to-image", title="Image to image, denoise 0.6", graph=_from_picture)
    yield Case(name="inpaint", title="Inpainting of the middle", graph=_inpainted)
    if setting.lora is not None:
        yield Case(name="lora", title=f"With the LoRA {setting.lora}", graph=_with_lora)
    yield Case(
        name="pndm",
        title=f"PNDM, {setting.pndm_steps} steps, CFG 7.5",
        graph=lambda s: _from_text(
            s, sampler="pndm", scheduler="ddim_uniform", steps=s.pndm_steps, cfg=7.5
        ),
    )


def _seed_name(seed: int, cfg: float) -> str:
    return f"seed-{seed}-cfg-{cfg:g}"


def _from_text(
    setting: Setting,
    *,
    seed: int = SEEDS[0],
    cfg: float = GUIDANCE[0],
    sampler: str = "euler_ancestral",
    scheduler: str = "normal",
    steps: int | None = None,
) -> Prompt:
    size = setting.size_px
    return {
        "4": _node("CheckpointLoaderSimple", ckpt_name=setting.checkpoint),
        "5": _node("EmptyLatentImage", width=size, height=size, batch_size=1),
        "6": _node("CLIPTextEncode", text=setting.prompt, clip=["4", 1]),
        "7": _node("CLIPTextEncode", text=NEGATIVE, clip=["4", 1]),
        "3": _node(
            "KSampler", model=["4", 0], positive=["6", 0], negative=["7", 0],
            latent_image=["5", 0], seed=seed, steps=steps or setting.steps, cfg=cfg,
            sampler_name=sampler, scheduler=scheduler, denoise=1.0,
        ),
        "8": _node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": _node("PreviewImage", images=["8", 0]),
    }  # fmt: skip


def _from_picture(setting: Setting) -> Prompt:
    first = f"{setting.shown}/{_seed_name(SEEDS[0], GUIDANCE[0])}.png [output]"
    graph = _from_text(setting, seed=SEEDS[1])
    graph["10"] = _node("LoadImage", image=first)
    graph["5"] = _node("VAEEncode", pixels=["10", 0], vae=["4", 2])
    graph["3"]["inputs"]["denoise"] = 0.6
    return graph


def _inpainted(setting: Setting) -> Prompt:
    graph = _from_picture(setting)
    mask = f"{setting.shown}/mask.png [output]"
    graph["11"] = _node("LoadImageMask", image=mask, channel="red")
    graph["5"] = _node(
        "VAEEncodeForInpaint", pixels=["10", 0], vae=["4", 2], mask=["11", 0], grow_mask_by=6
    )
    graph["3"]["inputs"]["denoise"] = 1.0
    return graph


def _with_lora(setting: Setting) -> Prompt:
    graph = _from_text(setting)
    graph["10"] = _node(
        "LoraLoader", model=["4", 0], clip=["4", 1], lora_name=setting.lora,
        strength_model=1.0, strength_clip=1.0,
    )  # fmt: skip
    graph["3"]["inputs"]["model"] = ["10", 0]
    for encoder in ("6", "7"):
        graph[encoder]["inputs"]["clip"] = ["10", 1]
    return graph


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _put_mask(place: Path, size_px: int) -> None:
    """A white square in the middle of black, half as wide."""
    from PIL import Image

    place.mkdir(parents=True, exist_ok=True)
    mask = Image.new("RGB", (size_px, size_px))
    quarter = size_px // 4
    mask.paste((255, 255, 255), (quarter, quarter, 3 * quarter, 3 * quarter))
    mask.save(place / "mask.png")


# Telling ------------------------------------------------------------------------------------------


def _machine(config: Config) -> dict[str, str]:
    import torch

    gpu = (
        torch.cuda.get_device_name() if torch.cuda.is_available() and config.device != "cpu" else ""
    )
    return {
        "system": platform.platform(),
        "processor": gpu or platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "precision": config.precision,
    }


def _tell(report: Report, page: Path) -> int:
    for outcome in report.outcomes:
        words = outcome.problem or f"{outcome.total_s:6.1f} s  {outcome.pixels_sha256[:16]}"
        sys.stdout.write(f"{outcome.name:24} {words}\n")
    sys.stdout.write(f"{page}\n")
    failed = sum(bool(outcome.problem) for outcome in report.outcomes)
    if failed:
        say(f"{failed} of {len(report.outcomes)} went wrong; the report has the reasons.")
    if report.published_as:
        say(f"This is {report.published_as}. Please share report.json with the project.")
    return 1 if failed else 0


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text} is no number of steps from 1 to 1000")
    return int(text)
