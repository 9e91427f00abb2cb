"""Sets Weft up on a machine with nothing but Python: its own `.venv`, pinned packages, one torch.

Standard library only. Later starts compare one stamp and need neither network nor pip.
"""

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.api.errors import LaunchError

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "weft-setup.json"
RUN_LOCK = ROOT / "requirements.lock"
TEST_LOCK = ROOT / "requirements-test.lock"
PIP = "pip==26.3"
TORCH = "torch==2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
ROCM_INDEX = "https://download.pytorch.org/whl/rocm7.1"

TorchChoice = Literal["auto", "cpu", "cuda", "rocm", "keep"]
Say = Callable[[str], None]

_OFFLINE = re.compile(
    r"NewConnectionError|Temporary failure in name resolution|Connection refused|ProxyError|"
    r"ConnectTimeoutError|ReadTimeoutError|Name or service not known|getaddrinfo failed|"
    r"Network is unreachable|No matching distribution found",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchPlan:
    """Which torch is installed, from where, why, and how much that is."""

    kind: Literal["existing", "cpu", "cuda", "rocm", "default"]
    reason: str
    download_mb: int
    disk_mb: int
    index: str | None = None
    existing_site: Path | None = None


def venv_python() -> Path:
    """The Python of Weft's own environment, whether it exists yet or not."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_inside() -> bool:
    """True if this process runs in Weft's own environment."""
    return Path(sys.prefix).resolve() == VENV.resolve()


def is_ready(*, for_tests: bool = False) -> bool:
    """True if the environment holds what the lock files ask for; one file read, no import."""
    stamp = _read_stamp()
    wanted = _lock_digests(for_tests)
    return venv_python().exists() and all(stamp.get(k) == v for k, v in wanted.items())


def ensure(torch: TorchChoice, say: Say, *, for_tests: bool = False) -> None:
    """Make the environment ready, or leave it as it is when it is.

    Raises: LaunchError with the one command that helps.
    """
    if is_ready(for_tests=for_tests):
        return
    stamp = _read_stamp()
    _make_venv(say)
    if stamp.get("torch") is None:
        plan = plan_torch(torch)
        _check_disk(plan)
        _install_torch(plan, say)
        stamp = {**_read_stamp(), "torch": plan.kind}
        _write_stamp(stamp)
    wanted = _lock_digests(for_tests)
    locks = [lock for name, lock in _locks(for_tests) if stamp.get(name) != wanted[name]]
    for lock in locks:
        say(f"Installing the packages of {lock.name} …")
        _pip(["install", "--no-compile", "-r", str(lock), "-c", str(_constraint())], say)
    _compile_all()
    _write_stamp({**stamp, **wanted})
    say("The environment is ready.")


def plan_torch(choice: TorchChoice) -> TorchPlan:
    """Decide which torch to use. Raises: LaunchError for `keep` without a torch."""
    existing = _existing_torch()
    if existing and choice in ("auto", "keep"):
        return TorchPlan(
            kind="existing",
            reason=f"this Python already has torch in {existing}; it is used as it is",
            download_mb=0,
            disk_mb=400,
            existing_site=existing,
        )
    if choice == "keep":
        raise LaunchError(
            "--torch keep: the Python that runs main.py has no torch.",
            hint="Run main.py with the Python that has it, or use --torch auto.",
        )
    system = platform.system()
    if choice == "cuda" or (choice == "auto" and _has_nvidia()):
        reason = "an NVIDIA GPU was found" if choice == "auto" else "asked for by --torch cuda"
        index = None if system == "Linux" else "https://download.pytorch.org/whl/cu130"
        return TorchPlan(kind="cuda", reason=reason, download_mb=2800, disk_mb=7000, index=index)
    if choice == "rocm" or (choice == "auto" and _has_rocm()):
        reason = "an AMD GPU was found" if choice == "auto" else "asked for by --torch rocm"
        return TorchPlan(
            kind="rocm", reason=reason, download_mb=4500, disk_mb=16000, index=ROCM_INDEX
        )
    reason = "no GPU was found" if choice == "auto" else "asked for by --torch cpu"
    return TorchPlan(kind="cpu", reason=reason, download_mb=250, disk_mb=1500)


def restart_inside(argv: Sequence[str]) -> int:
    """Run main.py with the same arguments in Weft's own environment; gives its exit code."""
    command = [str(venv_python()), str(ROOT / "main.py"), *argv]
    if os.name != "nt":
        os.execv(command[0], command)
    return subprocess.call(command)


# Steps --------------------------------------------------------------------------------------------


def _make_venv(say: Say) -> None:
    if venv_python().exists() and (VENV / "pyvenv.cfg").exists() and _has_pip():
        return
    if importlib.util.find_spec("ensurepip") is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise LaunchError(
            f"This Python ({sys.executable}) has no ensurepip, so no environment can be made.",
            hint=f"One command helps on Debian and Ubuntu: sudo apt install python{version}-venv",
        )
    say(f"Making Weft's own environment in {VENV} (Python {platform.python_version()}) …")
    shutil.rmtree(VENV, ignore_errors=True)
    venv.create(VENV, with_pip=True, symlinks=os.name != "nt")
    _pip(["install", "--upgrade", PIP], say)


def _has_pip() -> bool:
    command = [str(venv_python()), "-m", "pip", "--version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _install_torch(plan: TorchPlan, say: Say) -> None:
    size = f"about {plan.download_mb} MB to download" if plan.download_mb else "nothing to download"
    say(f"Torch: {plan.kind}, because {plan.reason} ({size}).")
    if plan.existing_site:
        _site_packages().joinpath("weft-existing-torch.pth").write_text(
            str(plan.existing_site) + "\n", encoding="utf-8"
        )
        return
    source = ["--extra-index-url", plan.index] if plan.index else []
    if plan.kind == "cpu" and platform.system() == "Linux" and not _default_is_cpu():
        source = ["--index-url", CPU_INDEX]
    _pip(["install", "--no-compile", TORCH, *source], say)


def _compile_all() -> None:
    """Compile all packages on all cores (pip would use one); a file that cannot be stays so."""
    command = [str(venv_python()), "-m", "compileall", "-qq", "-j", "0", str(_site_packages())]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=False)


def _default_is_cpu() -> bool:
    """True if the configured registries give a CPU build of torch (no CUDA packages with it)."""
    command = [*_pip_command(), "install", "--dry-run", "--quiet", "--report", "-", TORCH]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode == 0 and "nvidia" not in result.stdout


def _constraint() -> Path:
    """A file that pins the torch that is there, so that no package can replace it."""
    code = "import importlib.metadata as m; print(m.version('torch'))"
    result = subprocess.run(
        [str(venv_python()), "-c", code], capture_output=True, text=True, check=True
    )
    path = VENV / "torch-constraint.txt"
    path.write_text(f"torch=={result.stdout.strip()}\n", encoding="utf-8")
    return path


def _check_disk(plan: TorchPlan) -> None:
    free_mb = shutil.disk_usage(ROOT).free // 2**20
    need_mb = plan.disk_mb + plan.download_mb + 600
    if free_mb < need_mb:
        raise LaunchError(
            f"The disk of {ROOT} has {free_mb} MB free; the set-up needs about {need_mb} MB.",
            hint="Free some space and run the same command again.",
        )


def _pip_command() -> list[str]:
    return [str(venv_python()), "-m", "pip", "--disable-pip-version-check", "--no-input"]


def _pip(arguments: Sequence[str], say: Say) -> None:
    """Run pip with one progress line; finished downloads stay in pip's cache for a second try."""
    command = [*_pip_command(), *arguments]
    if "--upgrade" not in arguments:
        command += ["--progress-bar", "raw"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    assert process.stdout is not None
    lines: list[str] = []
    line_of_progress = _ProgressLine()
    try:
        for line in process.stdout:
            if not line_of_progress.show(line):
                lines.append(line.rstrip())
        code = process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        say("")
        raise LaunchError(
            "The set-up was stopped.", hint="The same command continues it; nothing is lost."
        ) from None
    finally:
        line_of_progress.close()
    if code != 0:
        raise _pip_error(lines)


def _pip_error(lines: Sequence[str]) -> LaunchError:
    text = "\n".join(lines)
    tail = "\n".join(line for line in lines if line.strip())[-1500:]
    if "No space left" in text:
        return LaunchError("The disk is full.", hint="Free some space and run the command again.")
    if _OFFLINE.search(text):
        return LaunchError(
            f"The package registry cannot be reached or lacks a package:\n{tail}",
            hint="When the network is there, run the same command again; behind a proxy: "
            "HTTPS_PROXY=http://host:port python3 main.py",
        )
    return LaunchError(f"pip failed:\n{tail}", hint="Run the same command again to go on.")


class _ProgressLine:
    """One line on the terminal: which file, how many of how many megabytes."""

    def __init__(self) -> None:
        self._name = ""
        self._is_open = False
        self._is_terminal = sys.stderr.isatty()

    def show(self, line: str) -> bool:
        """Show a line of pip if it is about progress; False if it is something else."""
        if found := re.match(r"\s*Downloading (\S+)(?: \((.*)\))?", line):
            self._name = Path(found[1].split("?")[0]).name
            if not self._is_terminal:
                sys.stderr.write(f"  downloading {self._name} {found[2] or ''}\n")
            return True
        if found := re.match(r"Progress (\d+) of (\d+)", line):
            done, total = int(found[1]) / 1e6, int(found[2]) / 1e6
            if self._is_terminal and total > 0:
                sys.stderr.write(f"\r\x1b[K  {self._name[:50]}  {done:.1f} of {total:.1f} MB")
                sys.stderr.flush()
                self._is_open = True
            return True
        return False

    def close(self) -> None:
        if self._is_open:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


# Facts about this machine -------------------------------------------------------------------------


def _existing_torch() -> Path | None:
    """The site-packages folder of a torch outside our environment, seen by this Python."""
    if is_inside():
        return None
    found = importlib.util.find_spec("torch")
    if found is None or not found.origin:
        return None
    return Path(found.origin).resolve().parent.parent


def _has_nvidia() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


def _has_rocm() -> bool:
    return platform.system() == "Linux" and (
        shutil.which("rocminfo") is not None or Path("/opt/rocm").exists()
    )


def _site_packages() -> Path:
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    result = subprocess.run(
        [str(venv_python()), "-c", code], capture_output=True, text=True, check=True
    )
    return Path(result.stdout.strip())


# The stamp ----------------------------------------------------------------------------------------


def _locks(for_tests: bool) -> list[tuple[str, Path]]:
    return [("run", RUN_LOCK), ("test", TEST_LOCK)] if for_tests else [("run", RUN_LOCK)]


def _lock_digests(for_tests: bool) -> dict[str, str]:
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in _locks(for_tests)}


def _read_stamp() -> dict[str, str]:
    try:
        return json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write_stamp(stamp: dict[str, str]) -> None:
    part = STAMP.with_suffix(".part")
    part.write_text(json.dumps(stamp), encoding="utf-8")
    part.replace(STAMP)
