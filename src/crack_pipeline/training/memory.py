"""Keeping the memory that one training step frees for the next one.

The C library of Linux hands large tensors back to the system when they are freed. Every step then asks for the same
memory again and the system clears it page by page, which takes up to a quarter of a training step on a CPU.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

# Numbers of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 2**26}
# What glibc itself arrives at once a program has freed large blocks.
_USUAL = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 2**26, _TOP_PAD: 2**17, _MMAP_THRESHOLD: 2**25}


def keep_memory(keep: bool) -> None:
    """Let the process keep freed memory from now on, or hand it back as usual; nothing where this is not glibc.

    Parameters
    ----------
    keep
        False also hands back what has been kept.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    for option, value in (_KEPT if keep else _USUAL).items():
        library.mallopt(option, value)
    if not keep:
        library.malloc_trim(ctypes.c_size_t(0))


@contextmanager
def kept_memory() -> Iterator[None]:
    """Keep freed memory within the context."""
    keep_memory(True)
    try:
        yield
    finally:
        keep_memory(False)
