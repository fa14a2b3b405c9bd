"""Studies of many trainings: what has ended is kept, so that an interrupted study does not repeat it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch

from crack_pipeline.imaging.simulated_squares import SimulatedSquares
from crack_pipeline.models.weights import Weights

Row = dict[str, Any]
Result = TypeVar("Result")
_DRAWN = 8


class Kept(NamedTuple, Generic[Result]):
    """How a result is kept in a file."""

    suffix: str
    write: Callable[[Path, Result], None]
    read: Callable[[Path], Result]


def _write_row(path: Path, row: Row) -> None:
    path.write_text(json.dumps(row), encoding="utf-8")


def _read_row(path: Path) -> Row:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _write_weights(path: Path, weights: Weights) -> None:
    torch.save(tuple(weights), path)


def _read_weights(path: Path) -> Weights:
    return Weights(*torch.load(path, weights_only=True))


ROW: Kept[Row] = Kept(".json", _write_row, _read_row)
WEIGHTS: Kept[Weights] = Kept(".pt", _write_weights, _read_weights)


def once(folder: Path, identity: Mapping[str, Any], training: Callable[[Path], Result], kept: Kept[Result]) -> Result:
    """Give the result of a training, from an earlier run where it has already ended.

    Parameters
    ----------
    folder
        Where results are kept, a file each.
    identity
        All that decides the result; JSON-like.
    training
        Is called with a folder for its checkpoints, whose name is the fingerprint of the identity, and gives the
        result. When the result is kept, the checkpoints are not.
    kept
        `ROW` of a table, or `WEIGHTS`.
    """
    # Lightning takes seconds to import, and only studies need it.
    from crack_pipeline.training.fit import fingerprint

    name = fingerprint(**identity)
    path = folder / f"{name}{kept.suffix}"
    if path.exists():
        return kept.read(path)
    result = training(folder / name)
    folder.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    kept.write(part, result)
    part.replace(path)
    shutil.rmtree(folder / name, ignore_errors=True)
    return result


def drawn(squares: SimulatedSquares, size: int) -> str:
    """Give a hash of a few squares of ``size`` px: a simulator that was changed draws others."""
    images, masks = squares.squares(np.arange(_DRAWN), size)
    return hashlib.blake2b(images.tobytes() + masks.tobytes(), digest_size=16).hexdigest()
