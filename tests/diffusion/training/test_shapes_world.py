"""Renderer, captions and checker: truth is recognised, shuffled prompts are chance."""

from dataclasses import replace

import numpy as np
import pytest

from engine.diffusion.training.shapes_world.captions import ATTRIBUTES, cut, describe
from engine.diffusion.training.shapes_world.checker import grade, look
from engine.diffusion.training.shapes_world.drawing import edge_map, render
from engine.diffusion.training.shapes_world.evaluation import (
    KINDS,
    evaluate,
    sample_sheet,
    trials,
)
from engine.diffusion.training.shapes_world.scene import (
    Scene,
    autoencoder_scene,
    composed,
    pair,
    training_scene,
)
from engine.diffusion.training.shapes_world.vocabulary import (
    ICONS,
    NAMELESS_SHAPES,
    PALETTE,
    STYLES,
    UNDRAWN_SHAPES,
    WITHHELD_PAIRS,
)


def scenes(count: int = 500) -> list[Scene]:
    rng = np.random.default_rng(11)
    return [training_scene(rng) for _ in range(count)]


@pytest.mark.parametrize("kind", KINDS)
def test_checker_confirms_rendered_truth(kind: str) -> None:
    asked = trials(kind, range(120))
    grades = [grade(trial.scene, render(trial.scene)) for trial in asked]
    assert np.mean([g.background for g in grades]) >= 0.97
    assert np.mean([g.all_three for g in grades]) >= 0.97
    assert np.mean([g.count for g in grades]) >= 0.97
    assert all(g.relation is not False for g in grades)


def test_checker_gives_chance_on_shuffled_prompts() -> None:
    asked = trials("single", range(240))
    grades = [grade(asked[i - 1].scene, render(trial.scene)) for i, trial in enumerate(asked)]
    assert np.mean([g.background for g in grades]) < 0.15
    assert np.mean([g.colour for g in grades]) < 0.15
    assert np.mean([g.shape for g in grades]) < 0.22
    assert np.mean([g.all_three for g in grades]) < 0.02


def test_checker_sees_a_swapped_pair() -> None:
    rng = np.random.default_rng(2)
    for seed in range(30):
        scene = replace(pair(rng), seed=seed)
        first, second = scene.things
        swapped = replace(
            scene,
            things=(
                replace(first, cx=second.cx, cy=second.cy),
                replace(second, cx=first.cx, cy=first.cy),
            ),
        )
        assert grade(scene, render(swapped)).relation is False


def test_checker_calls_noise_no_shape() -> None:
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (64, 64, 3), np.uint8)
    assert all(seen.shape == "none" for seen in look(noise).objects)


def test_withheld_things_are_never_in_training_pictures() -> None:
    for scene in scenes():
        for thing in scene.things:
            assert (thing.colour, thing.shape) not in WITHHELD_PAIRS
            assert thing.shape not in UNDRAWN_SHAPES
            assert thing.colour in PALETTE


def test_nameless_shapes_are_drawn_but_never_named() -> None:
    rng = np.random.default_rng(4)
    shown = [s for s in scenes() if s.things[0].shape in NAMELESS_SHAPES]
    assert shown
    for scene in shown:
        text = describe(scene, rng).text
        assert "shape" in text
        assert not any(name in text for name in NAMELESS_SHAPES)


def test_captions_state_what_their_labels_say() -> None:
    rng = np.random.default_rng(5)
    for scene in scenes(200):
        caption = describe(scene, rng, name_background=0.0)
        said = dict(zip(ATTRIBUTES, caption.labels, strict=True))
        assert said["colour 1"] == 1 + list(PALETTE).index(scene.things[0].colour)
        if scene.backdrop == "plain":
            assert said["background"] == 0
            assert "back" not in caption.text


def test_cut_captions_are_beginnings() -> None:
    rng = np.random.default_rng(6)
    text = "a red circle on a blue background"
    assert all(text.startswith(cut(text, rng)) for _ in range(20))


def test_same_seed_same_picture_and_every_style_differs() -> None:
    scene = composed(np.random.default_rng(7))
    assert (render(scene) == render(scene)).all()
    pictures = [render(replace(scene, style=style)) for style in STYLES]
    for i, a in enumerate(pictures):
        assert all((a != b).any() for b in pictures[i + 1 :])


@pytest.mark.parametrize("icon", ICONS)
def test_every_icon_is_drawn(icon: str) -> None:
    scene = replace(composed(np.random.default_rng(8)), icon=icon, backdrop="plain")
    assert look(render(scene)).objects


def test_aspects_and_sizes() -> None:
    scene = replace(autoencoder_scene(np.random.default_rng(9)), aspect=(1.5, 1.0))
    assert render(scene, 64).shape == (64, 96, 3)
    assert render(scene, 128).shape == (128, 192, 3)
    assert edge_map(scene, 64).shape == (64, 96)


def test_evaluation_of_the_renderer_itself_is_perfect_and_labelled() -> None:
    asked = {(t.prompt, t.seed): t for kind in KINDS for t in trials(kind, range(6))}

    def perfect(prompts: object, seeds: object) -> np.ndarray:
        pairs = zip(list(prompts), list(seeds), strict=True)  # type: ignore[call-overload]
        return np.stack([render(asked[pair].scene) for pair in pairs])

    result = evaluate(perfect, range(6), batch=4)
    assert all(f["all three"] == 1 for f in result.figures.values())
    assert result.figures["pair"]["relation"] == 1
    assert sample_sheet(result.samples, columns=6).width == 6 * 160
