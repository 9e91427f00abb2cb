"""T5's tokenizer from the file a user has: a `tokenizer.json` or a SentencePiece model.

No copy of it ships with Weft; a checkpoint may hold one itself.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from struct import error as StructError  # noqa: N812
from struct import unpack_from
from typing import TYPE_CHECKING

from engine.api.errors import CorruptFile, NodeError
from engine.diffusion.weightfile import WeightFile

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END, PAD, UNKNOWN = 1, 0, 2
T5_FAMILIES = ("sd3", "flux")
FOLDER = "text_encoders"
# Customary names, in the order in which they are looked for in that folder.
FILE_NAMES = ("t5_tokenizer.json", "t5xxl_tokenizer.json", "spiece.model", "tokenizer.json")
EMBEDDED = "spiece_model"  # the tensor in which some text encoder files hold it


def t5_tokenizer(weights: WeightFile, path: str | None) -> "Tokenizer":
    """The tokenizer that the weight file holds itself, or the one at `path`.

    Raises: NodeError, where there is neither; CorruptFile.
    """
    held = next((key for key in weights.infos if key.endswith(EMBEDDED)), None)
    if held is not None:
        return from_sentencepiece(weights.tensor(held).numpy().tobytes(), weights.path.name)
    if path is None:
        raise missing_tokenizer()
    return _read(Path(path), Path(path).stat().st_mtime_ns)


def missing_tokenizer() -> NodeError:
    """What to tell where a prompt needs T5's tokenizer and there is none."""
    return NodeError(
        "The text encoder T5 needs its tokenizer, and there is no file of it.",
        hint=f"Put t5_tokenizer.json or spiece.model into models/{FOLDER}/. It is the file "
        "tokenizer.json or spiece.model beside any T5 v1.1 model (in diffusers' folders: "
        "tokenizer_3/ of SD3, tokenizer_2/ of Flux).",
    )


@functools.lru_cache(maxsize=4)
def _read(path: Path, _: int) -> "Tokenizer":
    data = path.read_bytes()
    if path.suffix == ".json":
        return _from_json(data, path.name)
    return from_sentencepiece(data, path.name)


def _from_json(data: bytes, name: str) -> "Tokenizer":
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(data)
    except Exception as error:
        raise CorruptFile(f"{name} is no tokenizer file: {error}.") from error


def from_sentencepiece(data: bytes, name: str) -> "Tokenizer":
    """The tokenizer of a SentencePiece unigram model.

    Source: google/sentencepiece `sentencepiece_model.proto` (Apache-2.0): pieces are field 1 (text
    1, score 2), the normalizer is field 3 (its character map 2). Raises: CorruptFile.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    pieces: list[tuple[str, float]] = []
    characters = b""
    try:
        for field, value in _fields(data):
            if field == 1 and isinstance(value, bytes):
                parts = dict(_fields(value))
                text, score = parts.get(1, b""), parts.get(2, 0.0)
                assert isinstance(text, bytes) and isinstance(score, float)
                pieces.append((text.decode(), score))
            elif field == 3 and isinstance(value, bytes):
                found = dict(_fields(value)).get(2, b"")
                characters = found if isinstance(found, bytes) else b""
        if len(pieces) <= UNKNOWN:
            raise ValueError("it has no pieces")
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=UNKNOWN, byte_fallback=False))
        steps = [normalizers.Precompiled(characters)] if characters else []
        tokenizer.normalizer = normalizers.Sequence(
            [*steps, normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
        )
    except (ValueError, AssertionError, IndexError, StructError) as error:
        raise CorruptFile(f"{name} is no SentencePiece model: {error}.") from error
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    return tokenizer


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The fields of a protocol buffer message, as far as its types tell them apart."""
    position = 0
    while position < len(data):
        tag, position = _number(data, position)
        match tag & 7:
            case 0:
                value, position = _number(data, position)
                yield tag >> 3, value
            case 1:
                position += 8
            case 2:
                length, position = _number(data, position)
                if position + length > len(data):
                    raise ValueError("it is cut off")
                yield tag >> 3, data[position : position + length]
                position += length
            case 5:
                yield tag >> 3, unpack_from("<f", data, position)[0]
                position += 4
            case kind:
                raise ValueError(f"it has a field of the unknown kind {kind}")


def _number(data: bytes, position: int) -> tuple[int, int]:
    """A variable-length number and the place after it."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
