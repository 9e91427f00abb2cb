"""How this process keeps freed memory. Only glibc is told; elsewhere nothing changes."""

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
_LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """Large blocks that are freed stay with the process and are used again.

    By default each goes back to the system, and each activation of a network is then made of new
    pages that the system first fills with zeros: a seventh of a step of an SD1.5 UNet.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_TRIM_THRESHOLD, _LARGEST)


def return_freed_memory() -> None:
    """Gives what is free back to the system."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
