"""Families are told apart by structure, at any width; unknown files get every family's reason."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import adaptive_avg_pool2d

from engine.api.errors import CorruptFile, EngineError, NotThisFamily
from engine.config import ROOT
from engine.diffusion.checkpoint import (
    PARTS,
    check_complete,
    open_checkpoint,
    open_controlnet,
    open_vae,
    part_source,
)
from engine.diffusion.families import FAMILIES, identify
from engine.diffusion.keymap import PREFIXES, from_ldm
from engine.diffusion.preview import FACTORS, latent_preview
from engine.diffusion.residency import ModelPool
from engine.diffusion.text import encode as encode_text
from engine.diffusion.training.dataset import denoiser_scenes, rendered
from engine.diffusion.vae import encode
from engine.diffusion.weightfile import open_weights
from engine.run.weight_header import family_of
from tests.tiny_checkpoint import (
    TINY_METADATA,
    Keys,
    clip_keys,
    control_keys,
    fill,
    tiny_keys,
    unet_keys,
    vae_keys,
)
from tests.tiny_families import KEYS


def save(path: Path, keys: Keys, metadata: dict[str, str] | None = None) -> Path:
    save_file(fill(keys), path, metadata=TINY_METADATA | (metadata or {}))
    return path


@pytest.mark.parametrize("family", [f.name for f in FAMILIES])
def test_family_knows_its_own_and_no_other(family: str, tmp_path: Path):
    file = open_weights(save(tmp_path / "a.safetensors", KEYS[family]()))
    assert identify(file).family == family
    assert family_of(file.path) == (family, "")  # what the server tells, without torch
    for other in FAMILIES:
        if other.name != family:
            with pytest.raises(NotThisFamily):
                other.match(file)


def test_sizes_are_read_from_shapes_and_metadata(tmp_path: Path):
    layout = identify(open_weights(save(tmp_path / "a.safetensors", tiny_keys())))
    unet, vae, (text,) = layout.unet, layout.vae, layout.text
    assert unet is not None
    assert vae is not None
    assert (unet.width, unet.mult, unet.blocks, unet.depth) == (32, (1, 2), 1, (1, 1))
    assert (unet.context_dim, unet.in_channels, unet.heads, unet.groups) == (16, 4, 8, 8)
    assert (vae.width, vae.mult, vae.blocks, vae.factor, vae.groups) == (8, (1, 1, 2, 2), 1, 8, 4)
    assert (text.width, text.layers, text.heads, text.vocabulary) == (16, 3, 2, 49408)
    assert layout.native_size == 64


def test_previews_of_the_built_in_model_have_its_own_colours(tmp_path: Path) -> None:
    path = ROOT / "models/checkpoints/weft-builtin.safetensors"
    layout, parts = identify(open_weights(path)), open_checkpoint(path, "builtin", path.name)
    assert parts.vae is not None
    pixels = rendered(tmp_path / "pictures.npy", denoiser_scenes(12, seed=5), 64)
    pictures = torch.from_numpy(pixels.copy()).float() / 255
    with ModelPool().use(parts.vae) as vae:
        latents = layout.space.entered(encode(vae, pictures))
    wanted = adaptive_avg_pool2d(pictures.movedim(-1, 1), 8).movedim(1, -1)

    def error(colours: Sequence[Sequence[float]] | None) -> float:
        shown = torch.cat([latent_preview(latent[None], colours) for latent in latents])
        return float((shown - wanted).square().mean().sqrt())

    assert error(layout.latent_rgb) < 0.15 < error(FACTORS["sd1"])


@pytest.mark.parametrize("inputs", [8, 9])
def test_models_with_more_inputs_are_sd1(inputs: int, tmp_path: Path):
    keys = tiny_keys()
    unet_keys(keys, inputs=inputs)
    layout = identify(open_weights(save(tmp_path / "a.safetensors", keys)))
    assert layout.family == "sd1"
    assert layout.unet is not None
    assert layout.unet.in_channels == inputs


def test_prediction_type_is_read_where_it_is_stated(tmp_path: Path):
    path = save(tmp_path / "a.safetensors", tiny_keys(), {"modelspec.prediction_type": "v"})
    assert identify(open_weights(path)).prediction == "v"
    keys = tiny_keys()
    keys["v_pred"] = ((1,), 1.0, 0.0)
    assert identify(open_weights(save(tmp_path / "b.safetensors", keys))).prediction == "v"


def test_unknown_file_gets_every_familys_reason(tmp_path: Path):
    path = tmp_path / "odd.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(NotThisFamily) as caught:
        open_checkpoint(path, "0", "odd.safetensors")
    for family in FAMILIES:
        assert family.title in caught.value.message
    for opener in (open_vae, open_controlnet):
        with pytest.raises(NotThisFamily, match=r"odd\.safetensors"):
            opener(path, "0", "odd.safetensors")


def test_nonsense_metadata_is_named(tmp_path: Path):
    path = save(tmp_path / "a.safetensors", tiny_keys(), {"weft.unet.norm_num_groups": "-3"})
    with pytest.raises(CorruptFile, match=r"weft\.unet\.norm_num_groups"):
        open_checkpoint(path, "0", "a")


def test_random_damage_to_names_and_shapes_is_always_an_engine_error(tmp_path: Path):
    seed = 3
    generator = random.Random(seed)
    sound = open_weights(save(tmp_path / "a.safetensors", tiny_keys()))
    for attempt in range(12):
        infos = dict(sound.infos)
        for _ in range(generator.choice((1, 1, 2, 30))):
            name = generator.choice(list(infos))
            info = infos.pop(name)
            if generator.random() < 0.7:
                shape = [generator.choice((n, 0, 1, 3, 7 * n)) for n in info.shape]
                infos[name] = replace(info, shape=tuple(shape[: generator.choice((1, 2, 4))]))
        file = replace(sound, infos=infos)
        for part, source_of in PARTS.items():
            try:
                source = source_of(file)
                check_complete(source, source.build())
            except EngineError:
                continue
            except ValueError as error:  # told as a CorruptFile by the pool
                assert "divisible" in str(error), (seed, attempt, part)


def test_parts_alone(tmp_path: Path):
    keys = Keys()
    vae_keys(keys, prefix="")
    assert open_vae(save(tmp_path / "vae.safetensors", keys), "1", "vae").part == "vae"
    whole = save(tmp_path / "whole.safetensors", tiny_keys())
    assert open_vae(whole, "2", "whole").part == "vae"
    keys = Keys()
    control_keys(keys)
    control = open_controlnet(save(tmp_path / "control.safetensors", keys), "3", "control")
    assert control.part == "control"


@pytest.mark.parametrize("is_old", [False, True])
def test_parts_in_diffusers_layout_are_the_same(is_old: bool, tmp_path: Path):
    keys = Keys()
    vae_keys(keys)
    control_keys(keys)
    tensors = fill(keys)
    for part, open_part in (("vae", open_vae), ("control", open_controlnet)):
        prefix = PREFIXES[part]
        state = from_ldm(part, {k: v for k, v in tensors.items() if k.startswith(prefix)})
        if is_old and part == "vae":
            for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value")):
                state = {k.replace(new, old): v for k, v in state.items()}
            state = {k.replace("to_out.0", "proj_attn"): v for k, v in state.items()}
        path = tmp_path / f"{part}.safetensors"
        save_file({k: v.contiguous() for k, v in state.items()}, path, metadata=TINY_METADATA)
        ldm = save(tmp_path / f"{part}_ldm.safetensors", keys)
        found, wanted = (part_source(open_part(p, str(p), p.name)) for p in (path, ldm))
        check_complete(found, found.build())
        assert found.sources.keys() == wanted.sources.keys()
        for name, source in wanted.sources.items():
            theirs = found.sources[name]
            assert torch.equal(
                theirs.read(found.file.tensor(theirs.key)),
                source.read(wanted.file.tensor(source.key)),
            )


def test_text_names_without_their_usual_start(tmp_path: Path):
    keys = Keys()
    unet_keys(keys)
    clip_keys(keys, "cond_stage_model.transformer.")
    clip = open_checkpoint(save(tmp_path / "a.safetensors", keys), "0", "a").clip
    assert clip is not None
    with ModelPool().use(clip) as loaded:
        assert encode_text(loaded, "a boat").embeds.shape == (1, 77, 16)


def test_checkpoint_without_text_or_vae(tmp_path: Path):
    keys = Keys()
    unet_keys(keys)
    parts = open_checkpoint(save(tmp_path / "a.safetensors", keys), "0", "a")
    assert parts.clip is None
    assert parts.vae is None
