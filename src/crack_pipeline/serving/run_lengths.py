"""Masks as short lists of numbers, in the form that COCO and its tools read."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def encode(mask: NDArray[np.uint8] | NDArray[np.bool_]) -> dict[str, Any]:
    """Encode a mask in COCO's uncompressed run-length encoding.

    Parameters
    ----------
    mask
        (H, W); what is not 0 belongs to the object.

    Returns
    -------
    dict
        ``size`` [height, width] and ``counts``: pixels of the background, of the object, of the background and so on,
        down the columns from the left. The first may be 0; together they are all pixels.

    Examples
    --------
    >>> encode(np.array([[0, 1, 1], [0, 1, 0]], np.uint8))
    {'size': [2, 3], 'counts': [2, 3, 1]}
    """
    height, width = mask.shape
    flat = (mask != 0).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    return {"size": [int(height), int(width)], "counts": [0, *counts] if flat[:1].any() else counts}


def decode(encoded: dict[str, Any]) -> NDArray[np.uint8]:
    """Give the mask, (H, W) uint8 of 0 and 1, that was encoded by :func:`encode`; ValueError if it cannot be one."""
    height, width = encoded["size"]
    counts = np.asarray(encoded["counts"], np.int64)
    if (counts < 0).any() or counts.sum() != height * width:
        raise ValueError(f"runs of {counts.sum():,} pixels do not fill {height} × {width}")
    flat = np.repeat(np.arange(len(counts)) % 2, counts).astype(np.uint8)
    return np.ascontiguousarray(flat.reshape((height, width), order="F"))
