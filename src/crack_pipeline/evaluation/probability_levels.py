"""Probabilities of a photograph's pixels in 256 levels, a byte each; needs nothing but numpy.

The level of a probability p is ``floor(256 p)``, at most 255. A pixel is called crack where its level is at least
``256 threshold``; a threshold is therefore a multiple of 1/256.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 256

_HIGHEST = 100
"""A photograph is scored by the mean probability of so many pixels."""
_CELLS = 1 << 22
_SLACK = 1e-3


def to_levels(probability: NDArray[np.floating[Any]] | NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Round probabilities down to 256 levels, a byte each.

    Parameters
    ----------
    probability
        Float, any shape, 0 to 1; uint8 are levels already and come back as they are.

    Returns
    -------
    ndarray of uint8
        ``floor(256 probability)``, at most 255, of the same shape.

    Raises
    ------
    ValueError
        If there is a value that is not finite, or outside 0 to 1 by more than rounding, or if it is no float.

    Examples
    --------
    >>> to_levels(np.array([0.0, 0.5, 0.999, 1.0]))
    array([  0, 128, 255, 255], dtype=uint8)
    """
    values: NDArray[Any] = np.asarray(probability)
    if values.dtype == np.uint8:
        return values
    if not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"probabilities must be float (0 to 1) or uint8 (levels), got {values.dtype}")
    levels = np.empty(values.shape, np.uint8)
    flat, written = values.reshape(-1), levels.reshape(-1)
    for start in range(0, flat.size, _CELLS):
        part = flat[start : start + _CELLS]
        low, high = part.min(), part.max()
        if not (low >= -_SLACK and high <= 1 + _SLACK):
            wrong = int((~np.isfinite(part)).sum())
            if wrong:
                raise ValueError(f"probabilities must be finite, got {wrong:,} values that are not: check the network")
            raise ValueError(f"probabilities must lie between 0 and 1, got {low:g} to {high:g}: apply the sigmoid")
        written[start : start + _CELLS] = np.clip(part * LEVELS, 0, LEVELS - 1)
    return levels


def level_of(threshold: float) -> int:
    """Give the lowest level that is called crack.

    Raises
    ------
    ValueError
        If the threshold is not a multiple of 1/256 from 0 to 255/256.

    Examples
    --------
    >>> level_of(0.5)
    128
    """
    level = threshold * LEVELS
    if not (0 <= level < LEVELS and level == int(level)):
        near = min(max(round(level), 0), LEVELS - 1) / LEVELS if math.isfinite(level) else 0.5
        raise ValueError(f"a threshold is a multiple of 1/256 from 0 to 255/256, got {threshold!r}: take {near!r}")
    return int(level)


def level_counts(levels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count the pixels of a photograph, (H, W), by their level: (256,)."""
    # Row by row: counting converts what it counts to 8 bytes a pixel.
    return sum((np.bincount(row, minlength=LEVELS) for row in levels), np.zeros(LEVELS, np.int64))


def likeliest(counts: NDArray[np.int64]) -> float:
    """Give the mean probability of the likeliest pixels from the number of pixels per level, (256,)."""
    falling = counts[::-1].cumsum().clip(max=_HIGHEST)
    taken = np.diff(falling, prepend=0)
    return float((taken * (np.arange(LEVELS)[::-1] + 0.5)).sum() / max(taken.sum(), 1) / LEVELS)
