"""Folders: names that stay inside, listings, extra model paths."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.api.errors import LaunchError, MissingModel, UnsafePath
from engine.run.folders import Folders, make_folders, safe_name


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """An installation with a few files."""
    for name in ("models/checkpoints/sd/base.safetensors", "models/checkpoints/a.ckpt",
                 "models/checkpoints/notes.txt", "models/checkpoints/.hidden.ckpt",
                 "models/clip/t5.safetensors", "models/text_encoders/clip_l.safetensors",
                 "models/ipadapter/plus.bin", "input/pic.png", "input/sub/deep.png",
                 "secret.txt", "output/x.png"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return make_folders(base=tmp_path, models=tmp_path / "models")


HOSTILE = [
    "../secret.txt", "..\\secret.txt", "sub/../../secret.txt", "sub\\..\\..\\secret.txt",
    "/etc/passwd", "\\windows\\x", "//host/share/x", "\\\\host\\share\\x", "C:\\x", "c:x",
    "C:/x", "a\0b", "..", "../", "./..", ".. /x", "...", "sub/.../x", "", " ", "\n", "a\rb",
    "con", "CON.png", "nul", "aux.txt", "COM1", "lpt9.txt", "sub/prn.x", "x" * 300, "\ud800.png",
    "．．/secret.txt", "‥/x", "／etc/passwd", "a／..／..／x", "C：\\x", "nul .png",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=[ascii(n)[:24] for n in HOSTILE])
@pytest.mark.parametrize("folder", ["input", "output", "checkpoints", "user"])
def test_names_that_could_leave_are_refused(folders: Folders, folder: str, name: str):
    for look_up in (folders.join, folders.resolve):
        with pytest.raises(UnsafePath):
            look_up(folder, name)


def test_encoded_dots_are_plain_text(folders: Folders):
    path = folders.join("input", "%2e%2e/%2e%2e/secret.txt")
    assert path.is_relative_to(folders.input)
    with pytest.raises(MissingModel):
        folders.resolve("input", "%2e%2e%2fsecret.txt")


@settings(deadline=None)
@given(st.text(max_size=30) | st.text("./\\:ab ．", max_size=12))
def test_no_name_leaves(name: str):
    root = Path("/srv/root")
    try:
        path = root / safe_name(name)
    except UnsafePath:
        return
    assert Path(os.path.normpath(path)).is_relative_to(root)
    assert ".." not in path.parts


def test_links_out_are_refused_where_clients_write(folders: Folders):
    (folders.input / "out.txt").symlink_to(folders.base / "secret.txt")
    (folders.input / "away").symlink_to(folders.base)
    for name in ("out.txt", "away/secret.txt", "away/new.txt"):
        with pytest.raises(UnsafePath):
            folders.join("input", name)
    with pytest.raises(UnsafePath):
        folders.resolve("input", "out.txt")


def test_links_to_models_are_fine(folders: Folders, tmp_path: Path):
    elsewhere = tmp_path / "blobs" / "0123"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"w")
    (folders.models["checkpoints"][0] / "linked.safetensors").symlink_to(elsewhere)
    assert folders.resolve("checkpoints", "linked.safetensors").read_bytes() == b"w"
    assert "linked.safetensors" in folders.list_files("checkpoints")


def test_resolve_finds_files_on_both_spellings(folders: Folders):
    expected = folders.models["checkpoints"][0] / "sd" / "base.safetensors"
    assert folders.resolve("checkpoints", "sd/base.safetensors") == expected
    assert folders.resolve("checkpoints", "sd\\base.safetensors") == expected


def test_missing_names_what_is_close(folders: Folders):
    with pytest.raises(MissingModel, match=r"base\.safetensors") as caught:
        folders.resolve("checkpoints", "base.safetensors")
    assert "sd/base.safetensors" in caught.value.hint
    with pytest.raises(MissingModel) as caught:
        folders.resolve("checkpoints", "b.ckpt")
    assert "a.ckpt" in caught.value.hint
    with pytest.raises(MissingModel) as caught:
        folders.resolve("loras", "quite-another.safetensors")
    assert str(folders.models["loras"][0]) in caught.value.hint
    with pytest.raises(MissingModel):
        folders.resolve("no_such_kind", "x")
    with pytest.raises(UnsafePath):
        folders.join("no_such_kind", "x")


def test_listing_is_sorted_recursive_and_of_the_kind(folders: Folders):
    assert folders.list_files("checkpoints") == ["a.ckpt", "sd/base.safetensors"]
    assert folders.list_files("input") == ["pic.png", "sub/deep.png"]
    assert folders.list_files("text_encoders") == ["clip_l.safetensors", "t5.safetensors"]
    assert folders.list_files("clip") == folders.list_files("text_encoders")
    assert folders.list_files("ipadapter") == ["plus.bin"]
    assert folders.list_files("nothing") == []
    assert "ipadapter" in folders.kinds()


def test_listing_sees_changes_and_is_cheap_without_them(folders: Folders):
    root = folders.models["checkpoints"][0]
    for path in (root, root / "sd"):
        os.utime(path, (1, 1))
    before = folders.list_files("checkpoints")
    seen = folders._listing(root)  # pyright: ignore[reportPrivateUsage]
    assert folders._listing(root) is seen  # pyright: ignore[reportPrivateUsage]
    (root / "sd" / "new.ckpt").write_bytes(b"")
    assert folders.list_files("checkpoints") == sorted([*before, "sd/new.ckpt"])
    (root / "sd" / "new.ckpt").unlink()
    assert folders.list_files("checkpoints") == before


def test_circle_of_links_ends(folders: Folders):
    root = folders.models["checkpoints"][0]
    (root / "sd" / "again").symlink_to(root)
    names = folders.list_files("checkpoints")
    assert "sd/base.safetensors" in names
    assert len(names) < 6


def test_extra_paths_of_two_programs(tmp_path: Path):
    webui = tmp_path / "webui"
    other = tmp_path / "other"
    for name in ("webui/models/Stable-diffusion/x.ckpt", "webui/models/Lora/l.safetensors",
                 "webui/models/LyCORIS/m.safetensors", "other/ck/y.ckpt",
                 "other/te/t.bin"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    file = tmp_path / "conf" / "extra.yaml"
    file.parent.mkdir()
    file.write_text(
        f"""
a111:
    base_path: ../webui/
    checkpoints: models/Stable-diffusion
    loras: |
        models/Lora
        models/LyCORIS
    custom_nodes: packs
mine:
    base_path: {other}
    is_default: true
    checkpoints: ck
    clip: te
    download_model_base: models
relative:
    vae: ../vae_here
empty:
"""
    )
    found = make_folders(base=tmp_path, models=tmp_path / "models", extra_model_paths=[file])
    assert found.list_files("checkpoints") == ["x.ckpt", "y.ckpt"]
    assert found.list_files("loras") == ["l.safetensors", "m.safetensors"]
    assert found.resolve("clip", "t.bin") == other / "te" / "t.bin"
    assert found.models["checkpoints"][0] == other / "ck"
    assert found.models["checkpoints"][-2] == webui / "models" / "Stable-diffusion"
    assert found.models["vae"][-2] == tmp_path / "vae_here"
    assert found.custom_nodes == (tmp_path / "custom_nodes", webui / "packs")


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2", None], ids=["broken", "list", "missing"])
def test_bad_extra_paths_stop_the_start(tmp_path: Path, text: str | None):
    file = tmp_path / "extra.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(LaunchError, match=r"extra\.yaml"):
        make_folders(base=tmp_path, models=tmp_path / "models", extra_model_paths=[file])


def test_large_folders_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "models" / "loras"
    root.mkdir(parents=True)
    for i in range(2000):
        (root / f"{i}.safetensors").touch()
    os.utime(root, (1, 1))
    found = make_folders(base=tmp_path, models=tmp_path / "models")
    found.list_files("loras")
    listed: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    for _ in range(10):
        assert len(found.list_files("loras")) == 2000
    assert listed == []


def test_datasets_are_folders_of_input_models_and_allowed_places(tmp_path: Path):
    for name in ("input/datasets/cats", "input/dogs/two", "models/datasets/coco/val",
                 "elsewhere/faces", "input/datasets/.hidden", "outside/secret"):  # fmt: skip
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "input/file.png").write_bytes(b"x")
    (tmp_path / "more.yaml").write_text("mine:\n  datasets: elsewhere\n")
    folders = make_folders(
        base=tmp_path, models=tmp_path / "models", extra_model_paths=[tmp_path / "more.yaml"]
    )
    assert folders.list_files("datasets") == [
        "cats", "coco", "coco/val", "dogs", "dogs/two", "faces"
    ]  # fmt: skip
    assert folders.resolve("datasets", "cats") == tmp_path / "input/datasets/cats"
    assert folders.resolve("datasets", "faces") == tmp_path / "elsewhere/faces"
    assert "datasets" not in folders.kinds()
    with pytest.raises(MissingModel, match="no folder"):
        folders.resolve("datasets", "file.png")
    for name in ("../outside/secret", str(tmp_path / "outside")):
        with pytest.raises(UnsafePath):
            folders.resolve("datasets", name)
    (tmp_path / "input/link").symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafePath):
        folders.resolve("datasets", "link")


def test_models_in_diffusers_layout_are_their_folders(folders: Folders):
    root = folders.base / "models/diffusers/sd/boat"
    (root / "unet").mkdir(parents=True)
    (root / "model_index.json").write_text("{}")
    (root / "unet/config.json").write_text("{}")
    assert folders.list_files("diffusers") == ["sd/boat"]
    assert folders.resolve("diffusers", "sd/boat") == root
    with pytest.raises(MissingModel, match="sd/boot"):
        folders.resolve("diffusers", "sd/boot")


def test_models_that_nodes_saved_are_found_again(tmp_path: Path):
    saved = tmp_path / "results/checkpoints/mixed_00001_.safetensors"
    saved.parent.mkdir(parents=True)
    saved.write_bytes(b"x")
    (saved.parent / "link.safetensors").symlink_to(tmp_path / "secret")
    (tmp_path / "secret").write_bytes(b"x")
    folders = make_folders(base=tmp_path, models=tmp_path / "models", output=tmp_path / "results")
    assert folders.resolve("checkpoints", saved.name) == saved
    assert saved.name in folders.list_files("checkpoints")
    with pytest.raises(UnsafePath):
        folders.resolve("checkpoints", "link.safetensors")
