"""Composition root of the worker: nodes, packs, models and caches around one core.

`build_parts` makes the same engine inside any process; `main` is the child process of the server.
"""

import hashlib
import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.api.context import Saving
from engine.api.errors import Problem
from engine.api.events import LogLine, RunEvent
from engine.config import ROOT, Config
from engine.plugins.loader import PackLoader
from engine.plugins.packs import PackReport, Policy
from engine.plugins.registry import NodeRegistry, add_builtin
from engine.run.assets import Assets
from engine.run.codec import Codec, CodecTable
from engine.run.core import JobRequest, WorkerCore
from engine.run.digests import Digests
from engine.run.disk_cache import DiskCache
from engine.run.folders import Folders
from engine.run.keys import PastKeys
from engine.run.link import Json, WorkerLink
from engine.run.memory_cache import MemoryCache
from engine.run.process_memory import anonymous_bytes, available_bytes, total_bytes
from engine.run.settings import config_from_json, folders_of
from engine.run.store import Caches
from engine.run.worker_loop import open_link, serve

if TYPE_CHECKING:
    import torch

Emit = Callable[[RunEvent], None]

NETWORK_MODULES = (
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.models.autoencoders.autoencoder_kl",
    "transformers.models.clip.modeling_clip",
)
_CACHE_SHARE = 4  # the memory cache takes a quarter of what is free at the start


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """One engine: the core and what it was built of."""

    config: Config
    core: WorkerCore
    folders: Folders
    registry: NodeRegistry
    assets: Assets
    device: "torch.device"
    loader: PackLoader

    @property
    def packs(self) -> Sequence[PackReport]:
        """What became of each pack."""
        return tuple(self.loader.reports.values())

    @property
    def precision_words(self) -> str:
        """What denoisers compute in and why, in one line."""
        from engine.diffusion.precision import precision_words

        return precision_words(self.device, self.config.precision)

    def load_packs(self) -> None:
        """Load the packs that are there now, as the ledger on the disk allows."""
        if self.config.load_packs:
            self.loader.load_all()

    # What the worker loop asks for --------------------------------------------------------------

    def run(self, job: JobRequest) -> None:
        from engine.diffusion.host_memory import return_freed_memory

        try:
            self.core.run(job)
        finally:
            return_freed_memory()

    def prepare(self) -> None:
        """Import what every checkpoint needs: it takes seconds."""
        for name in NETWORK_MODULES:
            importlib.import_module(name)

    def interrupt(self, job_id: str | None = None) -> bool:
        return self.core.interrupt(job_id)

    def overtake(self, job_id: str) -> None:
        self.core.overtake(job_id)

    def free(self, *, unload_models: bool = False, free_memory: bool = False) -> None:
        self.core.free(unload_models=unload_models, free_memory=free_memory)

    def validate(self, prompt: Mapping[str, Any], node_ids: Sequence[str]) -> list[Problem]:
        return self.core.validate(prompt, node_ids)

    def peek(self, prompt: Json, node_id: str, output: int, job_id: str) -> Json:
        """What is kept for an output, for people: {"words", "seconds", "value" or null}."""
        import torch

        from engine.diffusion.peek import described

        found = self.core.peek(prompt, node_id, output, job_id)
        told: Json = {"words": found.words, "seconds": round(found.seconds, 6), "value": None}
        if found.values is not None:
            spec = self.core.catalogue.get(prompt[node_id]["class_type"])
            with torch.no_grad():
                kind = spec.outputs[output].type if spec else "*"
                told["value"] = described(found.values, kind)
        return told

    def catalogue(self) -> Json:
        """Node types, packs and devices for the server."""
        return {
            "specs": [spec.to_json() for spec in self.registry.specs()],
            "packs": [report.to_json() for report in self.packs],
            "unavailable": dict(self.core.catalogue.unavailable),
            "devices": [_device_json(self.device, self.config, self.precision_words)],
        }

    def reload(self) -> None:
        self.load_packs()
        self.core.reload(self.loader.unavailable())

    def refresh(self) -> bool:
        if not self.registry.refresh_specs():
            return False
        self.core.reload(self.loader.unavailable())
        return True

    def close(self) -> None:
        self.core.close()
        self.assets.close()


def build_parts(
    config: Config, emit: Emit, on_pack_start: Callable[[str], None] = lambda _name: None
) -> Parts:
    """An engine with all nodes, allowed packs, models and caches.

    Raises: LaunchError, StorageError when folders cannot be read or written.
    """
    # Threads that wait in a loop keep a busy machine from the work they wait for: 20 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from engine.diffusion import codecs
    from engine.diffusion.host_memory import keep_freed_memory
    from engine.diffusion.residency import ModelPool
    from nodes import BUILTIN

    keep_freed_memory()

    def announce(text: str) -> None:
        emit(LogLine(text=text))

    tensors = Codec(
        name="tensors",
        can_dump=codecs.can_dump,
        dump=codecs.dump_value,
        load=codecs.load_value,
        size_of=codecs.size_of,
    )
    folders = folders_of(config)
    state = folders.state
    state.mkdir(parents=True, exist_ok=True)
    device = _device(config)
    registry = NodeRegistry()
    add_builtin(registry, BUILTIN)
    policy = Policy.ALL if config.allow_all_packs else Policy.KNOWN if config.dev else Policy.LISTED
    assets = Assets(folders, Digests(state / "digests.sqlite"), state / "names.sqlite", announce)
    pool = ModelPool(
        device=device,
        precision=config.precision,
        budget_bytes=_model_budget(config, device),
        announce=announce,
        free_bytes=partial(_free_bytes, config, device),
    )
    core = WorkerCore(
        registry,
        pool,
        assets,
        _caches(config, folders, assets, CodecTable([tensors]), announce),
        emit,
        environment=_environment(device, config, torch.__version__),
        past=PastKeys(state / "reasons.json"),
        saving=Saving(writes_metadata=config.saves_metadata, marks_origin=config.marks_origin),
        node_mode=torch.no_grad,
    )
    parts = Parts(
        config=config,
        core=core,
        folders=folders,
        registry=registry,
        assets=assets,
        device=device,
        loader=PackLoader(
            registry=registry,
            folders=folders.custom_nodes,
            state_dir=state,
            policy=policy,
            on_pack_start=on_pack_start,
        ),
    )
    parts.reload()
    return parts


def _caches(
    config: Config,
    folders: Folders,
    assets: Assets,
    codecs: CodecTable,
    announce: Callable[[str], None],
) -> Caches:
    free = available_bytes() or 4 << 30
    size = config.memory_cache_mb
    memory = MemoryCache(
        budget_bytes=free // _CACHE_SHARE if size is None else size << 20,
        size_of=codecs.size_of,
        max_entries=config.memory_cache_entries if config.use_cache else 0,
    )
    budget = config.disk_cache_gb
    disk = None
    if config.use_cache and budget != 0:
        disk = DiskCache(
            folders.state / "store",
            codecs,
            budget_bytes=None if budget is None else int(budget * 1e9),
            warn=announce,
        )
    return Caches(memory=memory, disk=disk, is_shown_file_there=assets.is_there)


def _model_budget(config: Config, device: "torch.device") -> int | None:
    """Bytes for models: --vram on a GPU; on a CPU half of --ram, above which a worker is ended."""
    if device.type == "cuda":
        return None if config.vram_limit_mb is None else config.vram_limit_mb << 20
    return None if config.ram_limit_mb is None else config.ram_limit_mb << 19


def _free_bytes(config: Config, device: "torch.device") -> int | None:
    """What new activations may take of the device's memory, within --vram or --ram."""
    if device.type == "cuda":
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        taken = torch.cuda.memory_allocated(device)
        free += torch.cuda.memory_reserved(device) - taken
        limit = config.vram_limit_mb
    else:
        from engine.diffusion.host_memory import return_freed_memory

        return_freed_memory()
        free, taken = available_bytes(), anonymous_bytes(os.getpid())
        limit = config.ram_limit_mb
    if limit is None or taken is None:
        return free
    room = (limit << 20) - taken
    return room if free is None else min(free, room)


def _device(config: Config) -> "torch.device":
    import torch

    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def _device_json(device: "torch.device", config: Config, words: str) -> Json:
    """A device in the customary form of `/system_stats`, with what its denoiser computes in."""
    import torch

    from engine.diffusion.precision import compute_dtype

    dtype = compute_dtype("denoiser", device, config.precision)
    total = free = total_bytes() or 0
    name = "cpu"
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        name = f"{device} {torch.cuda.get_device_name(device)}"
    return {
        "name": name,
        "type": device.type,
        "index": 0 if device.type == "cuda" else None,
        "vram_total": total,
        "vram_free": free,
        "torch_vram_total": total,
        "torch_vram_free": free,
        "torch_version": torch.__version__,
        "weft_precision": str(dtype).removeprefix("torch."),
        "weft_precision_reason": words,
    }


def _environment(device: "torch.device", config: Config, torch_version: str) -> str:
    """What decides results beside the graph: our code, torch, kind of device, precision."""
    from engine.diffusion.precision import compute_dtype

    digest = hashlib.sha256()
    for path in _sources((ROOT / "nodes", ROOT / "engine" / "diffusion", ROOT / "engine" / "text")):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    dtype = compute_dtype("denoiser", device, config.precision)
    return f"{digest.hexdigest()} {torch_version} {device.type} {config.precision} {dtype}"


def _sources(folders: Iterable[Path]) -> list[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


# The child process --------------------------------------------------------------------------------


def build(link: WorkerLink, start: Json) -> Parts:
    """The engine behind a link; each pack is announced before its code runs."""
    config = config_from_json(start["config"])
    parts = build_parts(config, link.emit, lambda name: link.send("pack_start", {"name": name}))
    parts.assets.read_ahead(
        lambda path, share: link.send("reading", {"path": path, "share": share})
    )
    return parts


def main() -> None:
    """Serve one server until it ends or says so."""
    link = open_link()
    for number in (signal.SIGINT, signal.SIGTERM):  # they are for the server, which tells us
        signal.signal(number, signal.SIG_IGN)
    serve(link, build)
    sys.stderr.flush()
    os._exit(0)  # threads of packs may not keep a worker that is done


if __name__ == "__main__":
    main()
