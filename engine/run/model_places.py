"""The usual places of programs that have models, on Linux, macOS and Windows."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.run.model_layouts import Source, recognise

# Folders in which people put programs, below their home (and below drives on Windows).
_PARENTS = (
    "", "Documents", "Desktop", "Downloads", "AI", "ai", "apps", "Apps", "code", "dev", "git",
    "github", "programs", "projects", "repos", "src", "tools",
)  # fmt: skip
_PROGRAMS = (
    "ComfyUI", "comfyui", "comfy/ComfyUI", "ComfyUI_windows_portable/ComfyUI",
    "stable-diffusion-webui", "stable-diffusion-webui-forge", "stable-diffusion-webui-reForge",
    "stable-diffusion-webui-amdgpu", "sd-webui-forge-classic", "sd-webui-forge-neo",
    "webui_forge_cu121_torch231/webui", "sd.webui/webui", "automatic", "sdnext", "SwarmUI",
    "StableSwarmUI", "invokeai", "InvokeAI", "Fooocus", "Fooocus_win64_2-5-0/Fooocus",
    "StabilityMatrix",
)  # fmt: skip
_ROOTS = {"linux": ("/opt", "/srv", "/workspace"), "darwin": ("/Applications",)}
_DRIVES = "CDEFG"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides where to look; `platform` as `sys.platform` has it."""

    platform: str
    home: Path
    environment: Mapping[str, str]

    @property
    def app_data(self) -> Path:
        """Where programs keep their settings."""
        if self.platform == "win32":
            return Path(self.environment.get("APPDATA") or self.home / "AppData" / "Roaming")
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        return Path(self.environment.get("XDG_CONFIG_HOME") or self.home / ".config")

    @property
    def app_share(self) -> Path:
        """Where programs keep large data."""
        if self.platform != "linux":
            return self.app_data
        return Path(self.environment.get("XDG_DATA_HOME") or self.home / ".local" / "share")


def scan(machine: Machine) -> Iterator[Source]:
    """Every source in the usual places, each once."""
    seen: set[Path] = set()
    for path in usual_places(machine):
        try:
            real = path.expanduser().resolve()
            if real in seen or not real.is_dir():
                continue
        except (OSError, RuntimeError):
            continue  # not ours to read, or links in a circle
        seen.add(real)
        source = recognise(real)
        if source is not None:
            yield source


def usual_places(machine: Machine) -> Iterator[Path]:
    """The folders to look at, most certain first."""
    yield from hub_places(machine)
    yield from _told_by_settings(machine)
    for parent in _parents(machine):
        for program in _PROGRAMS:
            yield parent / program
    yield from sorted(machine.home.glob("pinokio/api/*/app"))


def hub_places(machine: Machine) -> Iterator[Path]:
    """Where the Hugging Face cache may be, as its library looks for it."""
    environment = machine.environment
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environment.get(name):
            yield Path(environment[name])
    if environment.get("HF_HOME"):
        yield Path(environment["HF_HOME"]) / "hub"
    if environment.get("XDG_CACHE_HOME"):
        yield Path(environment["XDG_CACHE_HOME"]) / "huggingface" / "hub"
    yield machine.home / ".cache" / "huggingface" / "hub"


def _told_by_settings(machine: Machine) -> Iterator[Path]:
    """The folders that programs themselves wrote down."""
    desktop = _told(machine.app_data / "ComfyUI" / "config.json", "basePath")
    if desktop:
        yield Path(desktop)
    library = _told(machine.app_data / "StabilityMatrix" / "library.json", "LibraryPath")
    if library:
        yield Path(library)
    yield machine.app_share / "StabilityMatrix"
    if machine.environment.get("INVOKEAI_ROOT"):
        yield Path(machine.environment["INVOKEAI_ROOT"])


def _told(file: Path, key: str) -> str | None:
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return value if isinstance(value, str) and value else None


def _parents(machine: Machine) -> Iterator[Path]:
    for name in _PARENTS:
        yield machine.home / name
    for root in _ROOTS.get(machine.platform, ()):
        yield Path(root)
    if machine.platform == "win32":
        for drive in _DRIVES:
            for name in ("", "AI"):
                yield Path(f"{drive}:/") / name
