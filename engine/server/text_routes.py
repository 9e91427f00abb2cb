"""What the editor asks about prompts while they are typed."""

import asyncio
from collections.abc import Sequence

from aiohttp import web

from engine.api.errors import UnsafePath
from engine.run.folders import Folders
from engine.server.bodies import BadRequest, Json, read_object, text_field
from engine.server.prompt_routes import answer
from engine.server.routes import SERVICES, Query, Route
from engine.text.dynamic import read_wildcards
from engine.text.embeddings import find_embedding, vector_count
from engine.text.layout import CHUNK, count
from engine.text.styles import FILE, read_all, style_files

_MAX_LETTERS = 100_000


async def tokens(request: web.Request) -> web.Response:
    """The tokens of a text and the chunks that they fill, without running anything."""
    body = {**request.query} if request.method == "GET" else await read_object(request)
    text, kind = text_field(body, "text") or "", text_field(body, "kind") or "clip"
    if kind != "clip":
        raise BadRequest(f"Tokens of the kind '{kind[:40]}' are not counted.", hint="Use clip.")
    if len(text) > _MAX_LETTERS:
        raise BadRequest(f"The text has more than {_MAX_LETTERS} letters.")
    folders = request.app[SERVICES].folders
    return answer(await asyncio.to_thread(_counted, folders, text))


def _counted(folders: Folders, text: str) -> Json:
    unknown: list[str] = []

    def vectors(name: str) -> tuple[Sequence[str], str]:
        short = name.rstrip(",")
        try:
            path = find_embedding(folders.resolve, short)
        except UnsafePath:
            path = None
        size = vector_count(path) if path else None
        if size is None:
            unknown.append(short)
        return [f"embedding:{short}"] * (size or 0), name[len(short) :]

    found = count(text, vectors)
    return {
        "chunks": found.chunks,
        "tokens": found.tokens,
        "total": found.total,
        "chunk_size": CHUNK,
        "unknown_embeddings": unknown,
    }


# Styles and wildcards -----------------------------------------------------------------------------


async def styles(request: web.Request) -> web.Response:
    """The styles of the styles file in user/ and input/."""
    folders = request.app[SERVICES].folders
    file = request.query.get("file") or FILE
    found = await asyncio.to_thread(lambda: read_all(style_files(folders.resolve, file)))
    return answer(
        [
            {"name": style.name, "prompt": style.prompt, "negative_prompt": style.negative}
            for style in found.values()
        ]
    )


async def wildcards(request: web.Request) -> web.Response:
    """The names of the wildcards in user/wildcards."""
    folders = request.app[SERVICES].folders
    files = await asyncio.to_thread(folders.below, "user", "wildcards")
    return answer(list(read_wildcards(files)))


_ANSWER = {
    "chunks": [2],
    "tokens": [["a", 1.0, 0], ["boat", 1.2, 0]],
    "total": 2,
    "chunk_size": 75,
    "unknown_embeddings": [],
}
_TOKENS = "The tokens of a text as [text, weight, chunk], and how many each chunk holds"

ROUTES = (
    Route(
        method="POST",
        path="/weft/tokens",
        handler=tokens,
        summary=_TOKENS,
        body={"text": "a (boat:1.2)", "kind": "clip"},
        answer=_ANSWER,
        errors=(400,),
        has_api_twin=False,
    ),
    Route(
        method="GET",
        path="/weft/tokens",
        handler=tokens,
        summary=_TOKENS,
        query=(
            Query(name="text", description="the prompt"),
            Query(name="kind", description="clip"),
        ),
        answer=_ANSWER,
        errors=(400,),
        has_api_twin=False,
    ),
    Route(
        method="GET",
        path="/weft/styles",
        handler=styles,
        summary="The styles of styles.csv in user/ and input/",
        query=(Query(name="file", description="another file than styles.csv"),),
        answer=[{"name": "ink", "prompt": "{prompt}, ink", "negative_prompt": "colour"}],
        errors=(400, 403),
        has_api_twin=False,
    ),
    Route(
        method="GET",
        path="/weft/wildcards",
        handler=wildcards,
        summary="The names of the wildcards in user/wildcards",
        answer=["hair/colour"],
        has_api_twin=False,
    ),
)
