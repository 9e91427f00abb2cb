"""`POST /weft/peek`: the value of an output as the caches hold it, without running anything."""

from aiohttp import web

from engine.graph.prompt import Graph, parse_prompt
from engine.graph.validate import Validation, validate
from engine.graph.walk import walk
from engine.server.bodies import BadRequest, Json, read_object, text_field
from engine.server.prompt_routes import answer
from engine.server.routes import SERVICES, Route


async def peek(request: web.Request) -> web.Response:
    """What is kept for an output of the prompt of the body."""
    body = await read_object(request)
    node_id, output = text_field(body, "node"), body.get("output", 0)
    if not node_id or isinstance(output, bool) or not isinstance(output, int):
        raise BadRequest(
            "The body names no output.",
            hint='{"prompt": {…}, "node": ID, "output": NUMBER}',
            code="invalid_field",
        )
    services = request.app[SERVICES]
    graph = parse_prompt(body.get("prompt"))
    if node_id not in graph.nodes:
        return answer(_nothing("It is no part of what would run."))
    needed = Graph(nodes={i: graph.nodes[i] for i in walk(graph, [node_id]).order})
    checked = validate(needed, services.worker.catalogue, services.folders.list_files, [node_id])
    if not checked.can_run:
        return answer(_nothing(f"It cannot be computed: {_first_error(checked)}"))
    prompt, job_id = checked.graph.to_json(), text_field(body, "job") or ""
    found = await services.worker.peek(prompt, node_id, output, job_id)
    return answer({name: found[name] for name in ("words", "seconds", "value")})


def _nothing(words: str) -> Json:
    return {"words": words, "seconds": 0, "value": None}


def _first_error(validation: Validation) -> str:
    return next((problem.message for problem in validation.errors), "it needs nodes in a circle.")


ROUTES = (
    Route(
        method="POST",
        path="/weft/peek",
        handler=peek,
        summary="The kept value of an output, in words and small pictures; runs nothing",
        body={
            "prompt": {"6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat"}}},
            "node": "6",
            "output": 0,
            "job": "optional: whose results count for nodes that run in every job",
        },
        answer={
            "words": "its result was in memory",
            "seconds": 0.2,
            "value": {
                "count": 1,
                "type": "IMAGE",
                "entries": [
                    {
                        "facts": [["Size", "512 × 512"]],
                        "pictures": [{"mime": "image/webp", "data": "base64", "words": "1 of 1"}],
                    }
                ],
            },
        },
        errors=(400, 413, 503),
    ),
)
