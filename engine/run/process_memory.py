"""How much memory a process uses; None where the system does not tell."""

from pathlib import Path


def anonymous_bytes(pid: int) -> int | None:
    """The memory of a process without mapped files (weights read by mmap do not count)."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return _resident_bytes(pid)
    sizes = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    parts = [sizes[name].split()[0] for name in ("RssAnon", "RssShmem") if name in sizes]
    return sum(int(part) * 1024 for part in parts) if parts else None


def _resident_bytes(pid: int) -> int | None:
    """Where there is no /proc: what psutil says, if it is installed."""
    try:
        import psutil
    except ImportError:
        return None
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def total_bytes() -> int | None:
    """The machine's memory."""
    return _meminfo("MemTotal:")


def available_bytes() -> int | None:
    """The memory that new work may take without swapping."""
    return _meminfo("MemAvailable:")


def _meminfo(name: str) -> int | None:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        return int(text.split(name, 1)[1].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return None
