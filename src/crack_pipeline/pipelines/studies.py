"""Studies of many trainings: what has ended is kept, so that an interrupted study does not repeat it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crack_pipeline.imaging.simulated_squares import SimulatedSquares

Row = dict[str, Any]
_DRAWN = 8


def once(folder: Path, identity: Mapping[str, Any], training: Callable[[Path], Row]) -> Row:
    """Give the result of a training, from an earlier run where it has already ended.

    Parameters
    ----------
    folder
        Where results are kept, a file each.
    identity
        All that decides the result; JSON-like.
    training
        Is called with a folder for its checkpoints, whose name is the fingerprint of the identity, and gives the
        result; JSON-like. When the result is kept, the checkpoints are not.
    """
    # Lightning takes seconds to import, and only studies need it.
    from crack_pipeline.training.fit import fingerprint

    name = fingerprint(**identity)
    kept = folder / f"{name}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    row = training(folder / name)
    folder.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(".part")
    part.write_text(json.dumps(row), encoding="utf-8")
    part.replace(kept)
    shutil.rmtree(folder / name, ignore_errors=True)
    return row


def drawn(squares: SimulatedSquares, size: int) -> str:
    """Give a hash of a few squares of ``size`` px: a simulator that was changed draws others."""
    images, masks = squares.squares(np.arange(_DRAWN), size)
    return hashlib.blake2b(images.tobytes() + masks.tobytes(), digest_size=16).hexdigest()
