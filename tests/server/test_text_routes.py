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


async def test_styles_and_wildcards_of_the_user(site: Site):
    assert (await site.get("/weft/styles"))[1] == []
    assert (await site.get("/weft/wildcards"))[1] == []
    user = site.services.folders.user
    (user / "wildcards" / "hair").mkdir(parents=True)
    (user / "wildcards" / "hair" / "colour.txt").write_text("red")
    (user / "styles.csv").write_text("name,prompt,negative_prompt\nink,{prompt} in ink,blur\n")
    assert (await site.get("/weft/wildcards"))[1] == ["hair/colour"]
    assert (await site.get("/weft/styles"))[1] == [
        {"name": "ink", "prompt": "{prompt} in ink", "negative_prompt": "blur"}
    ]
    assert (await site.get("/weft/styles?file=../../etc/passwd"))[0] == 403
    (user / "styles.csv").write_text("a,b\n1,2\n")
    status, answer = await site.get("/weft/styles")
    assert (status, answer["error"]["type"]) == (400, "styles")
