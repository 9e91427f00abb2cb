"""Noise, sigmas, samplers and picture operations are those of the reference engine.

Recorded values (tests/fixtures/reference) and its own tolerances: the largest difference over the
standard deviation of the recorded tensor.
"""

from functools import cache
from pathlib import Path

import pytest

from tests.nodes.context import context
from tests.nodes.recorded import (
    Player,
    ToyPool,
    dump_names,
    error,
    flatten,
    prompts,
    recorded_values,
)

TOLERANCES = {"noise": 1e-6, "sigmas": 1e-6, "toy": 1e-6, "ops": 5e-6}
NOT_BUILT = {"sigmas/node/gits"}
CASES = [
    pytest.param(group, number, key, name, id=name)
    for group in TOLERANCES
    for number, key, name in dump_names(group)
    if name not in NOT_BUILT
]


@cache
def _player(group: str, number: int) -> Player:
    return Player(prompts(group)[number], context(Path("nowhere"), models=ToyPool()))


_values = cache(recorded_values)


@pytest.mark.parametrize(("group", "number", "key", "name"), CASES)
def test_recorded_value(group: str, number: int, key: str, name: str) -> None:
    found = flatten(_player(group, number).value(key))
    wanted = {k: v for k, v in _values(group).items() if k.split("|")[0] == name}
    assert wanted
    for path, want in wanted.items():
        assert error(found[path.split("|")[1]], want) <= TOLERANCES[group], path
