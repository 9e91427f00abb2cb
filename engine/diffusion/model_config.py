"""Training configurations (YAML) of old checkpoints: what they say beside the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from engine.api.errors import CorruptFile, NotThisFamily
from engine.api.recipe import Recipe
from engine.diffusion.checkpoint import part_source

PREDICTIONS = {"eps": "eps", "v": "v"}


def with_config(model: Recipe, path: Path) -> Recipe:
    """A model with the prediction type of a configuration; its sizes must be the file's own.

    Raises: CorruptFile; NotThisFamily, where configuration and weights are of different models.
    """
    params = _params(path)
    unet = part_source(model).unet
    assert unet is not None
    stated = _table(_table(params.get("unet_config")).get("params"))
    for name, found in (("in_channels", unet.in_channels), ("context_dim", unet.context_dim)):
        wanted = stated.get(name)
        if isinstance(wanted, int) and wanted != found:
            raise NotThisFamily(
                f"The configuration {path.name} has {name} {wanted}, but {model.files[0].name} "
                f"has {found}.",
                hint="Choose the configuration of this checkpoint, or use Load Checkpoint.",
            )
    prediction = PREDICTIONS.get(str(params.get("parameterization", "eps")))
    if prediction is None:
        raise CorruptFile(f"{path.name} has the parameterization {params['parameterization']!r}.")
    return model.with_option("prediction", prediction)


def _params(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise CorruptFile(f"{path.name} cannot be read as a configuration: {error}.") from error
    params = _table(_table(_table(document).get("model")).get("params"))
    if not params:
        raise CorruptFile(
            f"{path.name} is no configuration of a model: it has no model.params.",
            hint="Use Load Checkpoint, which needs no configuration.",
        )
    return params


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
