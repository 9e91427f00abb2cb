"""The frozen configuration, built from the command line; holds no behaviour but derived paths."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parent.parent

PreviewMethod = Literal["none", "auto", "latent2rgb", "taesd"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Where things lie and how to run; the same for server, worker and the one-process engine.

    Folders left at None are the customary names under `base_dir`.
    """

    base_dir: Path = ROOT
    input_override: Path | None = None
    output_override: Path | None = None
    temp_override: Path | None = None
    user_override: Path | None = None
    extra_model_paths: tuple[Path, ...] = ()

    listen: str = "127.0.0.1"
    port: int = 8188
    allow_hosts: tuple[str, ...] = ()
    cors_origin: str | None = None
    require_token: bool = False
    token: str | None = None
    max_upload_mb: float = 100.0
    front_end_root: Path | None = None

    device: Literal["auto", "cpu", "cuda"] = "auto"
    cuda_device: str | None = None  # like CUDA_VISIBLE_DEVICES
    precision: Precision = "auto"
    ram_limit_mb: int | None = None
    vram_limit_mb: int | None = None
    memory_cache_mb: int | None = None  # None = a share of the free memory
    memory_cache_entries: int | None = None  # --cache-lru N
    use_cache: bool = True  # False = --cache-none
    disk_cache_gb: float | None = None  # None = 10 GB or 10 % of the free disk
    preview_method: PreviewMethod = "auto"
    saves_metadata: bool = True  # prompt and workflow go into pictures
    marks_origin: bool = True  # pictures say that a model made them; False = --no-provenance

    load_packs: bool = True
    allow_all_packs: bool = False
    dev: bool = False
    verbose: bool = False
    argv: tuple[str, ...] = field(default_factory=tuple)

    @property
    def input_dir(self) -> Path:
        return self.input_override or self.base_dir / "input"

    @property
    def output_dir(self) -> Path:
        return self.output_override or self.base_dir / "output"

    @property
    def temp_dir(self) -> Path:
        return self.temp_override or self.base_dir / "temp"

    @property
    def user_dir(self) -> Path:
        return self.user_override or self.base_dir / "user"

    @property
    def models_dir(self) -> Path:
        return self.base_dir / "models"

    @property
    def custom_nodes_dir(self) -> Path:
        return self.base_dir / "custom_nodes"

    @property
    def state_dir(self) -> Path:
        """Weft's own state: jobs, digests, results, catalogue."""
        return self.user_dir / "weft"

    @property
    def is_loopback(self) -> bool:
        return self.listen in ("127.0.0.1", "::1", "localhost")
