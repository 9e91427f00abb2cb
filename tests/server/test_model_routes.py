"""`/weft/models` over real files."""

import hashlib
import json
from pathlib import Path

from engine.run.digests import Digests
from engine.run.folders import make_folders
from engine.run.known_models import known_models
from engine.server.model_routes import model_files, published_models
from tests.run.model_trees import put_hub
from tests.server.conftest import Open


def write_header(path: Path, header: dict[str, object]) -> None:
    body = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(body).to_bytes(8, "little") + body)


def test_family_size_digest_and_folder_of_each_file(tmp_path: Path) -> None:
    models = tmp_path / "models"
    key = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
    write_header(models / "checkpoints/a/one.safetensors", {key: {}})
    base = {"ss_base_model_version": "sdxl_base_v1-0"}
    write_header(models / "loras/two.safetensors", {"__metadata__": base})
    write_header(models / "vae/three.safetensors", {"__metadata__": {"weft.family": "sd15"}})
    (models / "checkpoints/broken.safetensors").write_bytes(b"no header")
    (models / "checkpoints/old.ckpt").write_bytes(b"pickle")
    folders = make_folders(base=tmp_path, models=models)
    digests = Digests(tmp_path / "digests.sqlite")
    known = digests.digest(models / "loras/two.safetensors")

    found = {file["name"]: file for file in model_files(folders, tmp_path / "digests.sqlite")}

    assert {name: file["family"] for name, file in found.items()} == {
        "a/one.safetensors": "sd15",
        "broken.safetensors": "",
        "old.ckpt": "",
        "two.safetensors": "sdxl",
        "three.safetensors": "sd15",
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
