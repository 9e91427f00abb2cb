"""Values survive the way to bytes and back."""

from typing import Any

import pytest
import torch

from engine.api.errors import CorruptFile
from engine.diffusion.codecs import can_dump, dump_value, load_value, size_of


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


IMAGE = torch.rand(1, 8, 6, 3)
VALUES = {
    "image": IMAGE,
    "view": IMAGE[:, ::2, :, 1],
    "latent": {
        "samples": torch.randn(2, 4, 3, 5),
        "batch_index": [0, 7],
        "noise_mask": IMAGE[..., 0],
    },
    "conditioning": [
        (torch.randn(1, 77, 16), {"pooled_output": torch.randn(1, 16), "area": (8, 8, 0, 0)}),
        [torch.randn(1, 77, 16).half(), {"strength": 0.5, "nested": {"a": [None, True, {3: "x"}]}}],
    ],
    "tensor_twice": [IMAGE, {"again": IMAGE}],
    "no_tensor": {"text": "Zürich \ud800", "number": 2**70, "float": 0.1, "tuple": ((), [])},
    "empty_tensor": torch.empty(0, 4),
    "scalar": torch.tensor(3),
}


@pytest.mark.parametrize("name", VALUES)
def test_value_comes_back_exactly(name: str):
    assert can_dump(VALUES[name])
    assert same(load_value(dump_value(VALUES[name])), VALUES[name])


def test_unknown_objects_are_refused_not_changed():
    class Odd(dict): ...

    deep: list = []
    for _ in range(200):
        deep = [deep]
    for value in (object(), {"a": object()}, Odd(), {(1, 2): 1}, deep, torch.zeros(2).to_sparse()):
        assert not can_dump(value)
    with pytest.raises(TypeError, match="object"):
        dump_value([object()])


def test_size_counts_shared_memory_once():
    image = torch.zeros(1, 64, 64, 3)
    size = image.numel() * 4
    assert size_of([image, {"half": image[:, :32]}]) == pytest.approx(size, abs=100)
    assert size_of({"a": 1}) is None


@pytest.mark.parametrize("cut", [0, 4, 40, -3])
def test_damaged_bytes_are_an_error(cut: int):
    with pytest.raises(CorruptFile):
        load_value(dump_value(VALUES["latent"])[:cut])
