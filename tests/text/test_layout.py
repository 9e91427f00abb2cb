"""How prompts fill chunks, and embeddings by their files' headers alone."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from engine.text.embeddings import vector_count
from engine.text.layout import count


def test_tokens_carry_their_weight_and_chunk():
    found = count("a (red:1.3) circle")
    assert found.tokens == [("a", 1.0, 0), ("red", 1.3, 0), ("circle", 1.0, 0)]
    assert found.in_words() == "3 tokens in 1 chunk (3 of 75 each)"


def test_long_texts_fill_further_chunks():
    found = count(" ".join(["lake"] * 74) + " (old wooden boat:1.2)")
    assert found.chunks == [74, 3]
    assert found.tokens[-1] == ("boat", 1.2, 1)


def test_an_empty_text_is_one_empty_chunk():
    assert (count("").chunks, count("").tokens) == ([0], [])


def test_letters_of_several_tokens_are_told():
    assert "".join(text for text, _, _ in count("Zürich ⛵!").tokens).startswith("zürich")


@pytest.mark.parametrize("name", ["one.safetensors", "two.safetensors", "three.pt", "four.pt"])
def test_embeddings_take_as_many_tokens_as_they_have_vectors(tmp_path: Path, name: str):
    vectors, path = torch.zeros(3, 16), tmp_path / name
    if name.endswith("pt"):
        torch.save(
            {"string_to_param": {"*": vectors}, "x": 1} if "three" in name else vectors, path
        )
    else:
        save_file({"emb_params": vectors} if name[0] == "o" else {"clip_l": vectors}, path)
    assert vector_count(path) == 3


def test_files_that_are_no_embeddings_have_no_count(tmp_path: Path):
    path = tmp_path / "a.pt"
    for content in (b"", b"PK\3\4 nothing", b"\x80\x02cos\nsystem\n.", b"{" * 100):
        path.write_bytes(content)
        assert vector_count(path) is None
