"""Sound weight files are mapped; damaged and hostile ones are refused with a reason."""

import json
import os
import pickle
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from engine.api.errors import CorruptFile
from engine.diffusion.weightfile import open_weights

TENSORS = {
    "half": torch.randn(3, 5).half(),
    "full": torch.randn(7),
    "odd": torch.tensor([1, 2, 3], dtype=torch.int8),
    "after_odd": torch.randn(2, 2).double(),
    "scalar": torch.tensor(2.5),
    "none": torch.zeros(0, 4),
}


def write(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(begin: int, end: int, shape: Any = None, dtype: str = "U8") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [end - begin] if shape is None else shape,
        "data_offsets": [begin, end],
    }


def test_tensors_are_those_that_safetensors_wrote(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path, metadata={"format": "pt"})
    file = open_weights(path)
    assert file.metadata == {"format": "pt"}
    assert set(file.infos) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert file.shape(name) == tuple(tensor.shape)
        assert torch.equal(file.tensor(name), tensor)


HOSTILE: dict[str, tuple[Any, bytes, int | None, str]] = {
    "empty": (b"", b"", 0, "no safetensors header"),
    "giant_header": (b"{}", b"", 2**62, "claims"),
    "cut_in_header": (b"{}", b"", 500, "ends inside its header"),
    "no_json": (b"{nonsense", b"", None, "no valid JSON"),
    "deep_json": (b"[" * 100_000, b"", None, "no valid JSON"),
    "list": ([1, 2], b"", None, "no table of tensors"),
    "metadata": ({"__metadata__": [1]}, b"", None, "metadata"),
    "incomplete": ({"a": {"dtype": "U8"}}, b"", None, "incomplete"),
    "not_an_entry": ({"a": 7}, b"", None, "incomplete"),
    "dtype": ({"a": entry(0, 4, dtype="X9")}, b"1234", None, "unknown type"),
    "dtype_list": ({"a": {**entry(0, 4), "dtype": ["U8"]}}, b"1234", None, "unknown type"),
    "negative": ({"a": entry(-4, 0, [4])}, b"1234", None, "impossible"),
    "shape_text": ({"a": entry(0, 4, "4")}, b"1234", None, "impossible"),
    "shape_bool": ({"a": entry(0, 1, [True])}, b"1", None, "impossible"),
    "shape_huge": ({"a": entry(0, 4, [2**47, 2**47])}, b"1234", None, "needs"),
    "offsets_beyond": ({"a": entry(0, 4000)}, b"1234", None, "cut off"),
    "overlap": ({"a": entry(0, 4), "b": entry(2, 6)}, b"123456", None, "overlaps"),
    "gap": ({"a": entry(0, 2), "b": entry(4, 6)}, b"123456", None, "gap"),
    "trailing": ({"a": entry(0, 2)}, b"123456", None, "no tensor owns"),
    "twice": (
        b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
        b'"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
        b"1",
        None,
        "twice",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_header_is_refused(case: str, tmp_path: Path):
    header, data, length, reason = HOSTILE[case]
    path = write(tmp_path / "bad.safetensors", header, data, length)
    with pytest.raises(CorruptFile, match=reason):
        open_weights(path)


def test_truncated_file_says_what_was_expected(tmp_path: Path):
    path = tmp_path / "a.safetensors"
    save_file(TENSORS, path)
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 9, 3, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptFile, match=r"a\.safetensors"):
            open_weights(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(CorruptFile, match=f"{len(whole) - 1} bytes, {len(whole)} expected"):
        open_weights(path)


def test_missing_file_is_an_engine_error(tmp_path: Path):
    with pytest.raises(CorruptFile, match="No such file"):
        open_weights(tmp_path / "gone.safetensors")


# Pickled checkpoints ------------------------------------------------------------------------------


class Evil:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


class ModelCheckpoint:
    """Pickled under the name of a training library's class."""

    best = 3


ModelCheckpoint.__module__ = "pytorch_lightning.callbacks.model_checkpoint"


@pytest.mark.parametrize("is_zip", [True, False])
def test_ckpt_loads_as_plain_weights(tmp_path: Path, is_zip: bool):
    path = tmp_path / "a.ckpt"
    state = {"state_dict": {"w": torch.randn(4, 4)}, "epoch": 3}
    torch.save(state, path, _use_new_zipfile_serialization=is_zip)
    file = open_weights(path)
    assert file.shape("w") == (4, 4)
    assert torch.equal(file.tensor("w"), state["state_dict"]["w"])


@pytest.mark.parametrize("is_zip", [True, False])
def test_ckpt_that_would_execute_is_refused_by_name(tmp_path: Path, is_zip: bool):
    path, target = tmp_path / "evil.ckpt", tmp_path / "executed"
    torch.save({"w": Evil(target)}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(CorruptFile, match="mkdir"):
        open_weights(path)
    assert not target.exists()


def test_bare_pickle_is_not_executed(tmp_path: Path):
    path, target = tmp_path / "evil.pt", tmp_path / "executed"
    path.write_bytes(pickle.dumps(Evil(target)))
    with pytest.raises(CorruptFile):
        open_weights(path)
    assert not target.exists()


def test_names_of_lightning_are_inert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", ModelCheckpoint.__module__]
    for name in names:
        module = types.ModuleType(name)
        module.__dict__["ModelCheckpoint"] = ModelCheckpoint
        monkeypatch.setitem(sys.modules, name, module)
    path = tmp_path / "old.ckpt"
    callback = ModelCheckpoint()
    callback.__dict__["seen"] = {"deep": [1, 2]}
    torch.save({"callbacks": {ModelCheckpoint: callback}, "state_dict": {"w": torch.ones(2)}}, path)
    for name in names:
        monkeypatch.delitem(sys.modules, name)
    assert torch.equal(open_weights(path).tensor("w"), torch.ones(2))
    assert "pytorch_lightning" not in sys.modules


def test_textual_inversion_table_is_flattened(tmp_path: Path):
    path = tmp_path / "word.pt"
    torch.save({"string_to_param": {"*": torch.ones(2, 4)}, "name": "word"}, path)
    assert open_weights(path).shape("string_to_param.*") == (2, 4)


def test_zip_that_is_no_checkpoint_is_refused(tmp_path: Path):
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CorruptFile):
        open_weights(path)
