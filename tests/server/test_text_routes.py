"""What the editor asks about prompts while they are typed."""

import torch
from safetensors.torch import save_file

from tests.server.conftest import Site


async def test_tokens_of_a_text(site: Site):
    folder = site.services.folders.paths("embeddings")[0]
    folder.mkdir(parents=True, exist_ok=True)
    save_file({"emb_params": torch.zeros(2, 16)}, folder / "style.safetensors")
    text = "a (boat:1.2) embedding:style, embedding:gone"
    status, answer = await site.post("/weft/tokens", {"text": text, "kind": "clip"})
    assert status == 200
    assert answer["tokens"] == [
        ["a", 1.0, 0],
        ["boat", 1.2, 0],
        ["embedding:style", 1.0, 0],
        ["embedding:style", 1.0, 0],
        [",", 1.0, 0],
    ]
    assert answer["chunks"] == [5]
    assert answer["unknown_embeddings"] == ["gone"]
    assert (await site.get("/weft/tokens?text=a%20boat"))[1]["total"] == 2


async def test_tokens_of_an_unknown_kind_and_of_no_text(site: Site):
    status, answer = await site.post("/weft/tokens", {"text": "a", "kind": "t9"})
    assert (status, answer["error"]["hint"]) == (400, "Use clip.")
    assert (await site.post("/weft/tokens", {"text": 3}))[0] == 400
    assert (await site.post("/weft/tokens", {"text": "embedding:../x"}))[0] == 200
    assert (await site.post("/weft/tokens", {"text": "a" * 200_000}))[0] == 400
