"""Put a finished folder in the place of an earlier one, so that a kill at any point loses neither."""

from __future__ import annotations

import shutil
from pathlib import Path


def beside(folder: Path) -> Path:
    """Give the place where the earlier folder lies during a swap."""
    return folder.with_name(f".{folder.name}.old")


def swap(new: Path, folder: Path) -> None:
    """Let ``new``, on the same file system, take the place of ``folder``, which may be missing."""
    if folder.exists():
        folder.rename(beside(folder))
    new.rename(folder)
    finish_swap(folder)


def finish_swap(folder: Path) -> None:
    """Bring the folders in order after a run that was killed in the middle of a swap."""
    old = beside(folder)
    if old.exists():
        if folder.exists():
            shutil.rmtree(old)
        else:
            old.rename(folder)
