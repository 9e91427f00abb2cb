"""The configuration as the parts of a run need it: as JSON for a worker, and as folders."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

from engine.config import ROOT, Config
from engine.run.added_folders import with_added
from engine.run.folders import DATASETS, Folders, make_folders

SECRETS = frozenset(("token",))  # no node and no pack needs to know them
SHIPPED = ROOT / "models"  # the built-in model, its companions, captioned pictures
SHIPPED_CHECKPOINTS = SHIPPED / "checkpoints"
SHIPPED_KINDS = ("checkpoints", "loras", "embeddings", "controlnet", "upscale_models")


def config_to_json(config: Config) -> dict[str, Any]:
    """The configuration as JSON, without secrets."""
    values = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in SECRETS}
    return {name: _plain(value) for name, value in values.items()}


def config_from_json(data: dict[str, Any]) -> Config:
    """The configuration of its JSON."""
    return Config(**{name: _value(item) for name, item in data.items()})


def _plain(value: object) -> Any:
    if isinstance(value, Path):
        return {"path": str(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in cast(tuple[object, ...], value)]
    return value


def _value(item: Any) -> Any:
    if isinstance(item, dict):
        return Path(cast(dict[str, str], item)["path"])
    if isinstance(item, list):
        return tuple(_value(i) for i in cast(list[Any], item))
    return item


def folders_of(config: Config) -> Folders:
    """The folders that a configuration names, those that were added by `main.py models add`, and
    those of what is shipped as the last resort.

    Raises: LaunchError.
    """
    folders = make_folders(
        base=config.base_dir,
        models=config.models_dir,
        input=config.input_dir,
        output=config.output_dir,
        temp=config.temp_dir,
        user=config.user_dir,
        custom_nodes=config.custom_nodes_dir,
        extra_model_paths=config.extra_model_paths,
    )
    folders = with_added(folders)
    shipped = {kind: _with_shipped(folders.models[kind], kind) for kind in SHIPPED_KINDS}
    datasets = _with_shipped(folders.datasets, DATASETS)
    return replace(folders, models={**folders.models, **shipped}, datasets=datasets)


def _with_shipped(paths: tuple[Path, ...], kind: str) -> tuple[Path, ...]:
    shipped = SHIPPED / kind
    return paths if any(path.resolve() == shipped for path in paths) else (*paths, shipped)
