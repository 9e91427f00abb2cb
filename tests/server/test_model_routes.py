"""`/weft/models` over real files."""

import base64
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageColor

from engine.run.digests import Digests
from engine.run.folders import make_folders
from engine.run.known_models import known_models
from engine.server.model_routes import model_files, published_models
from tests.run.model_trees import put_hub
from tests.server.conftest import Open


def write_header(path: Path, header: Mapping[str, object]) -> None:
    body = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(body).to_bytes(8, "little") + body)


def test_family_size_digest_and_folder_of_each_file(tmp_path: Path) -> None:
    models = tmp_path / "models"
    key = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    write_header(models / "checkpoints/a/one.safetensors", {key: {}})
    base = {"ss_base_model_version": "sdxl_base_v1-0"}
    write_header(models / "loras/two.safetensors", {"__metadata__": base})
    write_header(models / "vae/three.safetensors", {"__metadata__": {"weft.family": "sd1"}})
    (models / "checkpoints/broken.safetensors").write_bytes(b"no header")
    (models / "checkpoints/old.ckpt").write_bytes(b"pickle")
    folders = make_folders(base=tmp_path, models=models)
    digests = Digests(tmp_path / "digests.sqlite")
    known = digests.digest(models / "loras/two.safetensors")

    found = {file["name"]: file for file in model_files(folders, tmp_path / "digests.sqlite")}

    assert {name: file["family"] for name, file in found.items()} == {
        "a/one.safetensors": "sd1",
        "broken.safetensors": "",
        "old.ckpt": "",
        "two.safetensors": "sdxl",
        "three.safetensors": "sd1",
    }
    assert found["broken.safetensors"]["problem"]
    assert found["old.ckpt"]["size"] == 6
    assert found["a/one.safetensors"]["folder"] == str(models / "checkpoints" / "a")
    two = (models / "loras/two.safetensors").read_bytes()
    assert found["two.safetensors"]["sha256"] == known == hashlib.sha256(two).hexdigest()
    assert found["a/one.safetensors"]["sha256"] == ""


async def test_the_route_answers(open_site: Open) -> None:
    site = await open_site()
    status, answer = await site.get("/weft/models")
    assert status == 200
    assert isinstance(answer["models"], list)
    offered = {model["name"]: model for model in answer["published"]}
    assert offered["sd15"]["command"] == "python3 main.py models get sd15"


def test_a_published_file_is_named_and_no_longer_offered(tmp_path: Path) -> None:
    known = known_models()[0]
    link = put_hub(tmp_path / "hub", "me/mine", "renamed.safetensors", known.sha256)
    folders = make_folders(base=tmp_path, models=tmp_path / "models")
    (tmp_path / "models/checkpoints").mkdir(parents=True)
    (tmp_path / "models/checkpoints/mine.safetensors").symlink_to(
        link.parent.parent.parent / "blobs" / known.sha256
    )
    (file,) = model_files(folders, tmp_path / "digests.sqlite")
    assert file["published_as"] == known.title
    offered = published_models([file])
    assert known.name not in {m["name"] for m in offered}
    assert len(offered) == len(known_models()) - 1


def picture(colour: str, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (1000, 600), colour).save(out, form)
    return out.getvalue()


async def test_the_preview_is_the_picture_beside_the_file_or_in_its_metadata(
    open_site: Open, tmp_path: Path
) -> None:
    site = await open_site()
    loras = tmp_path / "models" / "loras"
    inner = "data:image/jpeg;base64," + base64.b64encode(picture("blue", "JPEG")).decode()
    told = {"__metadata__": {"modelspec.thumbnail": inner}}
    for name in ("beside", "both", "inner"):
        write_header(loras / f"{name}.safetensors", {} if name == "beside" else told)
    write_header(loras / "none.safetensors", {})
    write_header(loras / "bad.safetensors", {"__metadata__": {"modelspec.thumbnail": "data:x"}})
    broken = {"__metadata__": {"modelspec.thumbnail": "data:image/png;base64,AAAA"}}
    write_header(loras / "broken.safetensors", broken)
    (loras / "beside.preview.png").write_bytes(picture("red"))
    (loras / "both.jpg").write_bytes(picture("lime", "JPEG"))
    _, found = await site.get("/weft/models")
    has = {m["name"].split(".")[0]: m["has_preview"] for m in found["models"]}
    assert has == {
        "beside": True, "both": True, "inner": True, "none": False, "bad": False, "broken": True,
    }  # fmt: skip
    address = "/weft/models/preview?kind=loras&name="
    for name, colour in (("beside", "red"), ("both", "lime"), ("inner", "blue")):
        status, data = await site.get(f"{address}{name}.safetensors")
        assert status == 200
        shown = Image.open(io.BytesIO(data)).convert("RGB")
        assert shown.size == (512, 307)
        near = zip(shown.getpixel((9, 9)), ImageColor.getrgb(colour), strict=True)  # type: ignore[arg-type]
        assert all(abs(a - b) < 12 for a, b in near)
    assert (await site.get(f"{address}none.safetensors"))[0] == 404
    assert (await site.get(f"{address}broken.safetensors"))[0] == 400
    assert (await site.get(f"{address}../../secret.safetensors"))[0] == 403
    assert (await site.get("/weft/models/preview?kind=nothing&name=a"))[0] in (400, 404)


async def test_it_says_which_file_is_being_read(open_site: Open) -> None:
    site = await open_site()
    assert (await site.get("/weft/models"))[1]["reading"] is None
    site.services.worker.reading = ("/models/a.safetensors", 0.25)
    found = (await site.get("/weft/models"))[1]["reading"]
    assert found == {"path": "/models/a.safetensors", "share": 0.25}
