"""Our byte-pair tokenizer against transformers', on odd and random texts."""

import random

import pytest
from transformers import CLIPTokenizer

from engine.text.tokenizer import END, START, load_tokenizer

TEXTS = [
    "",
    "a red circle on a blue background",
    "AN Old WOODEN boat",
    "Zürich 湖 ⛵",
    "it's we're I'd you'll they've don't I'm",
    "3 cats, 42 dogs & 1/2 fish!?",
    "boat\nlake\tmist   and\u00a0more",
    "antidisestablishmentarianism",
    "naïve café e\u0301 ½ Ⅷ ٣",
    "👩‍🚀 <|endoftext|> x <|startoftext|>",
    "___ --- ... :::)",
]


@pytest.fixture(scope="module")
def oracle() -> CLIPTokenizer:
    ours = load_tokenizer()
    return CLIPTokenizer(vocab=dict(ours.numbers), merges=list(ours.ranks))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("text", TEXTS)
def test_tokens_are_transformers(text: str, oracle: CLIPTokenizer):
    assert load_tokenizer().encode(text) == oracle(text)["input_ids"][1:-1]


def test_random_texts_are_transformers(oracle: CLIPTokenizer):
    seed = 11
    generator = random.Random(seed)
    letters = "abc XYZ äß '’,.-1234 湖字 \n é★"
    for _ in range(200):
        text = "".join(generator.choice(letters) for _ in range(generator.randint(1, 40)))
        assert load_tokenizer().encode(text) == oracle(text)["input_ids"][1:-1], (seed, text)


def test_very_long_words_are_read_in_time(oracle: CLIPTokenizer):
    generator = random.Random(5)
    word = "".join(generator.choice("abcdeinorst") for _ in range(20_000))
    assert load_tokenizer().encode(word) == oracle(word)["input_ids"][1:-1]


def test_vocabulary_is_clips():
    numbers = load_tokenizer().numbers
    assert len(numbers) == 49408
    assert (numbers["<|startoftext|>"], numbers["<|endoftext|>"]) == (START, END)
    assert numbers["cat</w>"] == 2368  # published in CLIP's own examples
