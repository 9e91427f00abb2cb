"""What the editor asks about prompts while they are typed."""

import asyncio
from collections.abc import Sequence

from aiohttp import web

from engine.api.errors import UnsafePath
from engine.run.folders import Folders
from engine.server.bodies import BadRequest, Json, read_object, text_field
from engine.server.prompt_routes import answer
from engine.server.routes import SERVICES, Query, Route
from engine.text.embeddings import find_embedding, vector_count
from engine.text.layout import CHUNK, count

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
)
