"""Models in diffusers' layout: a folder with an index and one folder for each network."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.api.errors import CorruptFile, NotThisFamily
from engine.api.recipe import FileRef, Recipe
from engine.diffusion.checkpoint import CheckpointParts, open_vae, part_source
from engine.diffusion.single_file import TOWERS

PREDICTIONS = {"epsilon": "eps", "v_prediction": "v"}
NETWORK = "diffusion_pytorch_model"
TEXT_NETWORKS = ("model", "pytorch_model")


def open_diffusers(folder: Path, digest: Callable[[Path], str]) -> CheckpointParts:
    """The parts of a model in diffusers' layout: UNet, VAE and CLIP text encoders.

    Raises: CorruptFile; NotThisFamily, for a UNet of no known family.
    """
    index = _json(folder / "model_index.json")
    if not (folder / "unet").is_dir():
        raise NotThisFamily(
            f"{folder.name} is a {index.get('_class_name', 'model')} without a unet folder.",
            hint="Stable Diffusion 1.x, 2.x, XL, its refiner and the x4 upscaler can be opened.",
        )

    def files(name: str, *stems: str) -> tuple[FileRef, ...]:
        return tuple(
            FileRef(path=str(path), digest=digest(path), name=f"{folder.name}/{name}")
            for path in _weights(folder / name, stems)
        )

    model = Recipe(part="denoiser", family="", files=files("unet", NETWORK))
    layout = part_source(model).layout
    assert layout is not None
    model = Recipe(part="denoiser", family=layout.family, files=model.files)
    stated = _prediction(folder)
    vae = None
    if (folder / "vae").is_dir():
        (file,) = files("vae", NETWORK)
        vae = open_vae(Path(file.path), file.digest, file.name)
    return CheckpointParts(
        model=model.with_option("prediction", stated) if stated else model,
        clip=_text(folder, layout.family, files),
        vae=vae,
    )


def _text(folder: Path, family: str, files: Callable[..., tuple[FileRef, ...]]) -> Recipe | None:
    names = [n for n in ("text_encoder", "text_encoder_2") if (folder / n).is_dir()]
    wanted = TOWERS[family]
    if len(names) != len(wanted):
        return None
    refs = [ref for name in names for ref in files(name, *TEXT_NETWORKS)]
    if len(refs) != len(wanted):
        raise NotThisFamily(f"{folder.name} has text encoders that are cut into several files.")
    return Recipe(part="text", family=family, files=tuple(refs))


def _prediction(folder: Path) -> str | None:
    """The prediction type that the folder's schedule states."""
    path = folder / "scheduler" / "scheduler_config.json"
    return PREDICTIONS.get(_json(path).get("prediction_type", "")) if path.is_file() else None


def _weights(folder: Path, stems: tuple[str, ...]) -> list[Path]:
    """The weight file of a network, the full one first; or all of those it is cut into."""
    for stem in stems:
        for ending in (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin"):
            if (folder / f"{stem}{ending}").is_file():
                return [folder / f"{stem}{ending}"]
        if parts := sorted(folder.glob(f"{stem}-*-of-*.safetensors")):
            return parts
    raise CorruptFile(
        f"{folder.parent.name}/{folder.name} holds no weights.",
        hint=f"It needs {stems[0]}.safetensors; copy the folder again.",
    )


def _json(path: Path) -> Mapping[str, Any]:
    """Raises: CorruptFile."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CorruptFile(f"{path.parent.name}/{path.name} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise CorruptFile(f"{path.parent.name}/{path.name} is no table.")
    return value
