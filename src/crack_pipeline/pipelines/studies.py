"""Studies of many trainings: what has ended is kept, so that an interrupted study does not repeat it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def once(folder: Path, identity: Mapping[str, Any], training: Callable[[str], Row]) -> Row:
    """Give the result of a training, from an earlier run where it has already ended.

    Parameters
    ----------
    folder
        Where results are kept, a file each.
    identity
        All that decides the result; JSON-like.
    training
        Is called with the fingerprint of the identity, and gives the result; JSON-like.
    """
    # Lightning takes seconds to import, and only studies need it.
    from crack_pipeline.training.fit import fingerprint

    name = fingerprint(**identity)
    kept = folder / f"{name}.json"
    if kept.exists():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    row = training(name)
    folder.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(".part")
    part.write_text(json.dumps(row), encoding="utf-8")
    part.replace(kept)
    return row
