"""Launch flags: our own, and every flag of the ecosystem's reference engine.

A foreign flag is either mapped onto a setting or accepted with a printed "no effect here".
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.config import Config

# Flags that set something which Weft decides by itself or does not have: name -> why.
_PRECISION = "precision is chosen by --precision"
_ATTENTION = "attention is always PyTorch's scaled dot product"
_MEMORY = "models are moved by a byte budget; see --vram and --ram"
_FRONT_END = "the editor is part of Weft"
NO_EFFECT: dict[str, str] = {
    "cuda-malloc": "PyTorch's default allocator is used",
    "disable-cuda-malloc": "PyTorch's default allocator is used",
    "fp32-unet": _PRECISION,
    "fp64-unet": _PRECISION,
    "bf16-unet": _PRECISION,
    "fp16-unet": _PRECISION,
    "fp8_e4m3fn-unet": _PRECISION,
    "fp8_e5m2-unet": _PRECISION,
    "fp8_e8m0fnu-unet": _PRECISION,
    "fp16-vae": _PRECISION,
    "fp32-vae": _PRECISION,
    "bf16-vae": _PRECISION,
    "cpu-vae": "the VAE runs where the model runs",
    "fp8_e4m3fn-text-enc": _PRECISION,
    "fp8_e5m2-text-enc": _PRECISION,
    "fp16-text-enc": _PRECISION,
    "fp32-text-enc": _PRECISION,
    "bf16-text-enc": _PRECISION,
    "force-channels-last": "the memory format is chosen by the precision",
    "disable-ipex-optimize": "IPEX is not used",
    "supports-fp8-compute": _PRECISION,
    "cache-classic": "results are cached by content, in memory and on disk",
    "use-split-cross-attention": _ATTENTION,
    "use-quad-cross-attention": _ATTENTION,
    "use-pytorch-cross-attention": _ATTENTION,
    "use-sage-attention": _ATTENTION,
    "use-flash-attention": _ATTENTION,
    "disable-xformers": _ATTENTION,
    "force-upcast-attention": _ATTENTION,
    "dont-upcast-attention": _ATTENTION,
    "gpu-only": _MEMORY,
    "highvram": _MEMORY,
    "normalvram": _MEMORY,
    "lowvram": _MEMORY,
    "novram": _MEMORY,
    "async-offload": _MEMORY,
    "disable-async-offload": _MEMORY,
    "force-non-blocking": _MEMORY,
    "disable-smart-memory": _MEMORY,
    "disable-pinned-memory": _MEMORY,
    "disable-dynamic-vram": _MEMORY,
    "deterministic": "results are deterministic on one machine class",
    "mmap-torch-files": "weights are always mapped",
    "disable-mmap": "weights are always mapped",
    "dont-print-server": "the server prints little by itself",
    "quick-test-for-ci": "use: python3 main.py test",
    "windows-standalone-build": "one build for all",
    "disable-api-nodes": "there are no paid API nodes",
    "multi-user": "one user folder",
    "log-stdout": "the log goes to standard error",
    "enable-compress-response-body": "answers are small",
    "enable-manager": "packs are allowed by: python3 main.py nodes --allow PACK",
    "disable-manager-ui": _FRONT_END,
    "enable-manager-legacy-ui": _FRONT_END,
    "enable-assets": "files are always addressed by content",
}
NO_EFFECT_WITH_VALUE: dict[str, str] = {
    "fast": _PRECISION,
    "default-device": "the first device is used",
    "directml": "DirectML is not used",
    "oneapi-device-selector": "oneAPI is not used",
    "preview-size": "previews have the latent's own size",
    "cache-ram": "the memory cache is bounded by bytes; see --cache-mb",
    "reserve-vram": _MEMORY,
    "default-hashing-function": "files are hashed by SHA-256",
    "front-end-version": _FRONT_END,
    "comfy-api-base": "there are no paid API nodes",
    "database-url": "jobs are kept in user/weft/jobs.sqlite",
    "whitelist-custom-nodes": "packs are allowed by: python3 main.py nodes --allow PACK",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A parsed command line: the configuration and what only the start itself needs."""

    config: Config
    opens_browser: bool
    makes_first_picture: bool
    torch: str
    tls: tuple[Path, Path] | None
    notes: tuple[str, ...]


def add_folder_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say where things lie; shared by all commands that touch models or packs."""
    group = parser.add_argument_group("folders")
    group.add_argument("--base-directory", type=Path, metavar="DIR")
    group.add_argument("--input-directory", type=Path, metavar="DIR")
    group.add_argument("--output-directory", type=Path, metavar="DIR")
    group.add_argument("--temp-directory", type=Path, metavar="DIR")
    group.add_argument("--user-directory", type=Path, metavar="DIR")
    group.add_argument(
        "--extra-model-paths-config", type=Path, nargs="+", action="append", metavar="YAML"
    )


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say how to compute and cache, and which packs may load."""
    group = parser.add_argument_group("computing")
    group.add_argument("--cpu", action="store_true", help="compute on the CPU even with a GPU")
    group.add_argument("--cuda-device", metavar="N", help="use only this GPU")
    group.add_argument("--precision", choices=["auto", "fp32", "bf16", "fp16"], default="auto")
    group.add_argument("--force-fp32", action="store_true", help="the same as --precision fp32")
    group.add_argument("--force-fp16", action="store_true", help="the same as --precision fp16")
    group.add_argument("--ram", type=int, metavar="MB", help="at most this much memory for models")
    group.add_argument("--vram", type=int, metavar="MB", help="at most this much GPU memory")
    group.add_argument("--cache-mb", type=int, metavar="MB", help="memory for cached results")
    group.add_argument("--cache-lru", type=int, metavar="N", help="keep at most N results")
    group.add_argument("--cache-none", action="store_true", help="compute everything each time")
    group.add_argument("--cache-disk-gb", type=float, metavar="GB", help="disk for cached results")
    group.add_argument(
        "--preview-method", choices=["none", "auto", "latent2rgb", "taesd"], default="auto"
    )
    saving = parser.add_argument_group("saving")
    saving.add_argument("--disable-metadata", action="store_true", help="no workflow in pictures")
    saving.add_argument(
        "--no-provenance",
        action="store_true",
        help="do not mark pictures as made by a model (IPTC digital source type)",
    )
    packs = parser.add_argument_group("node packs")
    packs.add_argument("--disable-all-custom-nodes", action="store_true")
    packs.add_argument("--allow-packs", choices=["all"], help="load packs without asking")
    packs.add_argument("--dev", action="store_true", help="reload packs when their files change")
    parser.add_argument("--torch", default="auto", choices=["auto", "cpu", "cuda", "rocm", "keep"])
    parser.add_argument("--verbose", nargs="?", const="DEBUG", metavar="LEVEL")


def serve_parser() -> argparse.ArgumentParser:
    """The parser of the plain command, which starts the server."""
    parser = argparse.ArgumentParser(
        prog="main.py",
        description="Start Weft: node-graph image generation. Other commands: "
        "run, validate, nodes, models, pack, train, check, test.",
    )
    group = parser.add_argument_group("server")
    group.add_argument("--listen", nargs="?", const="0.0.0.0", default="127.0.0.1", metavar="IP")
    group.add_argument("--port", type=_port, metavar="PORT", default=8188)
    group.add_argument("--allow-host", action="append", default=[], metavar="NAME")
    group.add_argument("--enable-cors-header", nargs="?", const="*", metavar="ORIGIN")
    group.add_argument("--require-token", action="store_true", help="ask for a token on loopback")
    group.add_argument("--token", help="the token (made and printed when needed and not given)")
    group.add_argument("--tls-keyfile", type=Path)
    group.add_argument("--tls-certfile", type=Path)
    group.add_argument("--max-upload-size", type=float, default=100.0, metavar="MB")
    group.add_argument("--front-end-root", type=Path, metavar="DIR")
    group.add_argument("--auto-launch", action="store_true", help="open the browser")
    group.add_argument("--disable-auto-launch", action="store_true", help="open no browser")
    group.add_argument("--no-first-picture", action="store_true", help="only start the server")
    add_folder_flags(parser)
    add_run_flags(parser)
    for name in NO_EFFECT:
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS, action="store_true")
    for name in NO_EFFECT_WITH_VALUE:
        parser.add_argument(f"--{name}", nargs="*", help=argparse.SUPPRESS)
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is no port from 0 to 65535")
    return int(text)


def parse_serve(argv: Sequence[str]) -> Launch:
    """The launch that a command line asks for; argparse ends the process on a wrong flag."""
    parser = serve_parser()
    options = parser.parse_args(argv)
    values = vars(options)
    if (options.tls_keyfile is None) != (options.tls_certfile is None):
        parser.error("--tls-keyfile and --tls-certfile need each other")
    notes = [
        f"--{name}: no effect here ({why})."
        for name, why in {**NO_EFFECT, **NO_EFFECT_WITH_VALUE}.items()
        if values[name.replace("-", "_")] not in (None, False)
    ]
    tls = (options.tls_certfile, options.tls_keyfile) if options.tls_certfile else None
    return Launch(
        config=config_of(options, argv),
        opens_browser=not options.disable_auto_launch,
        makes_first_picture=not options.no_first_picture,
        torch=options.torch,
        tls=tls,
        notes=tuple(notes),
    )


def config_of(options: argparse.Namespace, argv: Sequence[str] = ()) -> Config:
    """The configuration of parsed flags; flags that a command does not have keep their defaults."""
    values = vars(options)
    default = Config()

    def path(name: str) -> Path | None:
        value: Path | None = values.get(name)
        return value.expanduser().absolute() if value else None

    precision = values.get("precision", "auto")
    precision = "fp32" if values.get("force_fp32") else precision
    precision = "fp16" if values.get("force_fp16") else precision
    extra = [
        file.expanduser().absolute()
        for group in values.get("extra_model_paths_config") or []
        for file in group
    ]
    return Config(
        base_dir=path("base_directory") or default.base_dir,
        input_override=path("input_directory"),
        output_override=path("output_directory"),
        temp_override=path("temp_directory"),
        user_override=path("user_directory"),
        extra_model_paths=tuple(extra),
        listen=values.get("listen", default.listen),
        port=values.get("port", default.port),
        allow_hosts=tuple(values.get("allow_host", ())),
        cors_origin=values.get("enable_cors_header"),
        require_token=values.get("require_token", False),
        token=values.get("token"),
        max_upload_mb=values.get("max_upload_size", default.max_upload_mb),
        front_end_root=path("front_end_root"),
        device="cpu" if values.get("cpu") else "auto",
        cuda_device=values.get("cuda_device"),
        precision=precision,
        ram_limit_mb=values.get("ram"),
        vram_limit_mb=values.get("vram"),
        memory_cache_mb=values.get("cache_mb"),
        memory_cache_entries=values.get("cache_lru"),
        use_cache=not values.get("cache_none", False),
        disk_cache_gb=values.get("cache_disk_gb"),
        preview_method=values.get("preview_method", default.preview_method),
        saves_metadata=not values.get("disable_metadata", False),
        marks_origin=not values.get("no_provenance", False),
        load_packs=not values.get("disable_all_custom_nodes", False),
        allow_all_packs=values.get("allow_packs") == "all",
        dev=values.get("dev", False),
        verbose=bool(values.get("verbose")),
        argv=tuple(argv),
    )
