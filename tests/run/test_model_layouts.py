"""Other programs' folders are recognised and used in place, never written to."""

from pathlib import Path

import pytest

from engine.api.errors import LaunchError
from engine.config import Config
from engine.run.added_folders import AddedFolder, count_models, read_added, write_added
from engine.run.digests import Digests
from engine.run.folders import make_folders
from engine.run.model_layouts import plain_source, recognise
from engine.run.model_places import Machine, hub_places, scan
from engine.run.settings import SHIPPED, folders_of
from engine.run.weight_header import kind_of
from tests.run.model_trees import KEYS, put, put_hub, put_invoke

TREES = {
    "ComfyUI": {
        "models/checkpoints/a.safetensors": "checkpoints",
        "models/unet/f.safetensors": "diffusion_models",
        "models/clip/t.safetensors": "text_encoders",
        "models/loras/b/l.safetensors": "loras",
    },
    "A1111, Forge or SD.Next": {
        "models/Stable-diffusion/a.safetensors": "checkpoints",
        "models/Lora/l.safetensors": "loras",
        "models/LyCORIS/m.safetensors": "loras",
        "models/VAE/v.safetensors": "vae",
        "models/ESRGAN/u.safetensors": "upscale_models",
        "models/ControlNet/c.safetensors": "controlnet",
        "extensions/sd-webui-controlnet/models/d.safetensors": "controlnet",
        "embeddings/e.safetensors": "embeddings",
    },
    "SwarmUI": {
        "src/Core.txt": "",
        "Models/Stable-Diffusion/OfficialStableDiffusion/a.safetensors": "checkpoints",
        "Models/Lora/l.safetensors": "loras",
        "Models/VAE/v.safetensors": "vae",
        "Models/Embeddings/e.safetensors": "embeddings",
    },
    "Stability Matrix": {
        "Data/Models/StableDiffusion/a.safetensors": "checkpoints",
        "Data/Models/Lora/l.safetensors": "loras",
        "Data/Models/TextEncoders/t.safetensors": "text_encoders",
    },
    "Fooocus": {
        "fooocus_version.py": "",
        "models/checkpoints/a.safetensors": "checkpoints",
        "models/upscale_models/u.safetensors": "upscale_models",
    },
    "models folder": {
        "checkpoints/a.safetensors": "checkpoints",
        "vae/v.safetensors": "vae",
    },
}


def grow(root: Path, tree: dict[str, str]) -> Path:
    for name, kind in tree.items():
        if kind:
            put(root / name, kind)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("")
    return root


@pytest.mark.parametrize("title", TREES)
def test_each_program_is_recognised_with_all_its_kinds(tmp_path: Path, title: str) -> None:
    source = recognise(grow(tmp_path, TREES[title]))
    assert source is not None and source.title == title
    wanted: dict[str, int] = {}
    for kind in filter(None, TREES[title].values()):
        wanted[kind] = wanted.get(kind, 0) + 1
    assert count_models(source) == wanted


def test_names_are_found_in_any_case(tmp_path: Path) -> None:
    put(tmp_path / "MODELS/stable-diffusion/a.safetensors")
    source = recognise(tmp_path)
    assert source is not None and count_models(source) == {"checkpoints": 1}


def test_other_folders_are_no_program(tmp_path: Path) -> None:
    put(tmp_path / "pictures/a.safetensors")
    assert recognise(tmp_path) is None
    assert recognise(tmp_path / "not there") is None


@pytest.mark.parametrize("kind", KEYS)
def test_the_header_tells_the_kind(tmp_path: Path, kind: str) -> None:
    assert kind_of(put(tmp_path / "a.safetensors", kind)) == kind


def test_a_plain_folder_is_sorted_by_headers(tmp_path: Path) -> None:
    for kind in KEYS:
        put(tmp_path / f"deep/{kind}.safetensors", kind)
    (tmp_path / "old.ckpt").write_bytes(b"x")
    (tmp_path / "broken.safetensors").write_bytes(b"x")
    (tmp_path / "unknown.pt").write_bytes(b"x")
    counts = count_models(plain_source(tmp_path, None))
    assert counts == {**dict.fromkeys(KEYS, 1), "checkpoints": 2}
    assert count_models(plain_source(tmp_path, "loras")) == {"loras": len(KEYS) + 3}


def test_the_hub_cache_gives_names_and_digests_without_reading(tmp_path: Path) -> None:
    digest = "ab" * 32
    put_hub(tmp_path / "hub", "org/name", "v1.safetensors", digest)
    put_hub(tmp_path / "hub", "org/other", "vae/model.safetensors", "cd" * 32, "vae")
    config = Config(base_dir=tmp_path / "weft")
    write_added(config.user_dir, [AddedFolder(path=tmp_path / "hub")])
    folders = folders_of(config)
    assert "org/name/v1.safetensors" in folders.list_files("checkpoints")
    assert folders.list_files("vae") == ["org/other/vae/model.safetensors"]
    path = folders.resolve("checkpoints", "org/name/v1.safetensors")
    assert folders.source_of(path) == "Hugging Face cache"
    digests = Digests(tmp_path / "digests.sqlite")
    # The content is another, so it was not read.
    assert digests.known(path) == digests.digest(path) == digest


def test_only_blobs_of_the_cache_are_trusted_by_name(tmp_path: Path) -> None:
    real = put(tmp_path / "blobs" / ("ab" * 32))
    link = tmp_path / "a.safetensors"
    link.symlink_to(real)
    digests = Digests(tmp_path / "digests.sqlite")
    assert digests.known(link) is None
    assert digests.digest(link) != "ab" * 32


def test_invokes_own_list_is_read(tmp_path: Path) -> None:
    put(tmp_path / "models/uuid-1/x.safetensors")
    elsewhere = put(tmp_path / "far/l.safetensors", "loras")
    rows = [
        {"path": "uuid-1/x.safetensors", "type": "main", "name": "Dream/Shaper"},
        {"path": str(elsewhere), "type": "lora", "name": "Ink"},
        {"path": "gone.safetensors", "type": "main", "name": "gone"},
        {"path": "folder", "type": "main", "name": "in diffusers' form"},
        {"type": "main"},
    ]
    put_invoke(tmp_path, rows)
    source = recognise(tmp_path)
    assert source is not None and source.list_loose is not None
    found = sorted((kind, name) for kind, name, _ in source.list_loose(tmp_path))
    assert found == [("checkpoints", "Dream-Shaper.safetensors"), ("loras", "Ink.safetensors")]


def test_added_folders_come_after_our_own_and_may_be_away(tmp_path: Path) -> None:
    comfy = grow(tmp_path / "ComfyUI", TREES["ComfyUI"])
    config = Config(base_dir=tmp_path / "weft")
    ours = put(config.models_dir / "checkpoints/a.safetensors")
    write_added(
        config.user_dir, [AddedFolder(path=comfy), AddedFolder(path=tmp_path / "usb stick")]
    )
    folders = folders_of(config)
    assert folders.resolve("checkpoints", "a.safetensors") == ours
    assert folders.resolve("clip", "t.safetensors") == comfy / "models/clip/t.safetensors"
    shipped = [path.name for path in (SHIPPED / "loras").glob("*.safetensors")]
    assert sorted(folders.list_files("loras")) == sorted(["b/l.safetensors", *shipped])
    assert folders.source_of(ours) == ""
    before = sorted(comfy.rglob("*"))
    folders.list_files("checkpoints")
    assert sorted(comfy.rglob("*")) == before


@pytest.mark.parametrize("content", ["", "{", "[]", '{"folders": [{}]}', '{"folders": 3}'])
def test_a_damaged_list_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "model_folders.json").write_text(content)
    with pytest.raises(LaunchError, match="cannot be read"):
        read_added(tmp_path)


def test_names_of_added_files_cannot_leave_their_folder(tmp_path: Path) -> None:
    from engine.api.errors import UnsafePath

    folders = make_folders(base=tmp_path, models=tmp_path / "models")
    with pytest.raises(UnsafePath):
        folders.resolve("checkpoints", "../a.safetensors")


def test_scan_looks_in_the_usual_places_of_each_system(tmp_path: Path) -> None:
    home = tmp_path / "home"
    put(home / "ComfyUI/models/checkpoints/a.safetensors")
    put(home / "Documents/stable-diffusion-webui/models/Stable-diffusion/a.safetensors")
    put_hub(home / ".cache/huggingface/hub", "o/n", "a.safetensors", "0" * 64)
    data = {
        "linux": home / ".config",
        "darwin": home / "Library/Application Support",
        "win32": home / "AppData/Roaming",
    }
    for platform, settings in data.items():
        (settings / "ComfyUI").mkdir(parents=True)
        desktop = home / f"desktop {platform}"
        put(desktop / "models/checkpoints/a.safetensors")
        (settings / "ComfyUI/config.json").write_text(f'{{"basePath": "{desktop.as_posix()}"}}')
    for platform in data:
        machine = Machine(platform=platform, home=home, environment={})
        found = {source.root.name: source.title for source in scan(machine)}
        assert found == {
            "hub": "Hugging Face cache",
            f"desktop {platform}": "ComfyUI",
            "ComfyUI": "ComfyUI",
            "stable-diffusion-webui": "A1111, Forge or SD.Next",
        }


def test_the_hub_is_looked_for_as_its_library_does(tmp_path: Path) -> None:
    environment = {"HF_HUB_CACHE": "/a", "HF_HOME": "/b", "XDG_CACHE_HOME": "/c"}
    machine = Machine(platform="linux", home=Path("/h"), environment=environment)
    assert [path.as_posix() for path in hub_places(machine)] == [
        "/a", "/b/hub", "/c/huggingface/hub", "/h/.cache/huggingface/hub",
    ]  # fmt: skip
