"""What is counted in each photograph, so that every metric of a segmenter follows from sums.

Probabilities are counted in 256 levels, ``floor(256 p)`` and at most 255. A pixel is called crack where its level is at
least ``256 threshold``; a threshold is therefore a multiple of 1/256. Ignored pixels count nowhere: neither what is
predicted there nor how wide the ignored area is changes anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.evaluation.probability_levels import LEVELS, level_of, to_levels
from crack_pipeline.imaging.crack_width import centreline, crack_widths
from crack_pipeline.imaging.photograph_stack import BACKGROUND, CRACK, IGNORED

TOLERANCE = 2.0
"""Distance, in px, up to which a predicted and a true crack pixel may lie apart."""
WIDTH_EDGES = (0.0, 2.0, 4.0, 8.0, 16.0, math.inf)
"""Borders of the classes of crack width, in px; a class holds its lower border, not its upper one."""

_CELLS = 1 << 22


@dataclass(frozen=True, eq=False)
class ThresholdCounts:
    """What depends on the threshold by more than the levels tell.

    Attributes
    ----------
    threshold
        Probability from which on a pixel is called crack.
    tolerance
        In px.
    predicted_near
        Predicted crack pixels with a true one at most ``tolerance`` away.
    true_near
        True crack pixels with a predicted one at most ``tolerance`` away.
    predicted_line, predicted_line_hit
        Pixels of the centreline of the predicted crack, and those of them on the true crack.
    true_line, true_line_hit
        Pixels of the centreline of the true crack, and those of them on the predicted crack.
    width_edges
        float64 (C + 1,), px: class k holds the true crack pixels where the crack is ``width_edges[k]`` to below
        ``width_edges[k + 1]`` wide.
    width_true, width_hit, width_near
        int64 (C,): true crack pixels of each class, those predicted, and those with a predicted one near.
    """

    threshold: float
    tolerance: float
    predicted_near: int
    true_near: int
    predicted_line: int
    predicted_line_hit: int
    true_line: int
    true_line_hit: int
    width_edges: NDArray[np.float64]
    width_true: NDArray[np.int64]
    width_hit: NDArray[np.int64]
    width_near: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PhotographCounts:
    """Counts of one photograph.

    Attributes
    ----------
    levels
        int64 (2, 256): background and crack pixels of each level of probability.
    at
        What was counted at a threshold, None if none was given.
    """

    levels: NDArray[np.int64]
    at: ThresholdCounts | None = None


_LEVELS = {"background_levels": BACKGROUND, "crack_levels": CRACK}
_AT = tuple(field.name for field in fields(ThresholdCounts))
_LISTS = {"width_edges": np.float64, "width_true": np.int64, "width_hit": np.int64, "width_near": np.int64}


def count(
    probability: NDArray[np.floating[Any]] | NDArray[np.uint8],
    mask: NDArray[np.uint8],
    threshold: float | None = None,
    *,
    tolerance: float = TOLERANCE,
    width_edges: Sequence[float] = WIDTH_EDGES,
) -> PhotographCounts:
    """Count one photograph: once for the levels alone, and again when the threshold is chosen.

    Two pixels are near each other if their centres are at most ``tolerance`` apart in a straight line, whatever lies
    between them. Neither may be ignored: what is predicted in an ignored area confirms no true crack, and is no false
    alarm. The widths, too, are those of the crack outside the ignored area.

    Parameters
    ----------
    probability
        (H, W): float, the probability of a crack from 0 to 1, or uint8, its levels as :func:`to_levels` gives them.
    mask
        uint8 (H, W): ``BACKGROUND`` (0), ``CRACK`` (1) or ``IGNORED`` (2).
    threshold
        Probability from which on a pixel is called crack, a multiple of 1/256; None to count the levels alone.
    tolerance
        In px, 0 or more.
    width_edges
        Borders of the classes of crack width, px, rising, from at most 1 to infinity.

    Returns
    -------
    PhotographCounts

    Raises
    ------
    ValueError
        If shapes differ, a probability is not a number from 0 to 1, the mask holds other values, or the threshold, the
        tolerance or the borders are out of range.

    Notes
    -----
    Counting within a tolerance goes back to D. R. Martin, C. C. Fowlkes, J. Malik, "Learning to detect natural image
    boundaries using local brightness, color, and texture cues", IEEE PAMI 26(5), 2004; 2 px is what is usual for
    cracks (R. Amhaz, S. Chambon, J. Idier, V. Baltazart, IEEE T-ITS 17(10), 2016), as nobody draws the edge of a
    crack to the pixel. The centrelines are those of clDice (S. Shit et al., CVPR 2021).

    Of a photograph of n pixels it takes about n bytes for the levels and, with a threshold, 7 n for the rest.

    Examples
    --------
    >>> mask = np.array([[0, 1, 1, 2]], np.uint8)
    >>> found = count(np.array([[0.9, 0.1, 0.7, 0.9]], np.float32), mask, threshold=0.5)
    >>> found.levels.sum(axis=1), found.at.width_hit.sum(), found.at.true_near
    (array([1, 2]), np.int64(1), 2)
    """
    levels = to_levels(probability)
    if mask.ndim != 2 or levels.shape != mask.shape:
        raise ValueError(f"probability and mask must be one size (H, W), got {levels.shape} and {mask.shape}")
    if mask.dtype != np.uint8:
        raise ValueError(f"a mask must be uint8, got {mask.dtype}")
    if mask.size and mask.max() > IGNORED:
        raise ValueError(f"a mask holds 0 (background), 1 (crack) and 2 (ignored), got {mask.max()}")
    counted = np.zeros((IGNORED + 1) * LEVELS, np.int64)
    rows = max(1, _CELLS // max(1, mask.shape[1]))
    for top in range(0, len(mask), rows):
        cells = mask[top : top + rows].astype(np.int16) * LEVELS + levels[top : top + rows]
        counted += np.bincount(cells.ravel(), minlength=len(counted))
    by_level = counted.reshape(-1, LEVELS)[:IGNORED].copy()
    if threshold is None:
        return PhotographCounts(by_level)
    return PhotographCounts(by_level, _count_at(levels, mask, threshold, tolerance, width_edges))


def _count_at(
    levels: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    threshold: float,
    tolerance: float,
    width_edges: Sequence[float],
) -> ThresholdCounts:
    edges = np.asarray(width_edges, np.float64)
    if len(edges) < 2 or not (np.diff(edges) > 0).all() or edges[0] > 1 or not math.isinf(edges[-1]):
        raise ValueError(f"width_edges must rise from at most 1 px to infinity, got {list(width_edges)}")
    true = mask == CRACK
    predicted = levels >= level_of(threshold)
    predicted &= mask != IGNORED
    found = predicted[true]
    near = _grown(predicted, tolerance)[true]
    number = np.searchsorted(edges, crack_widths(true), side="right") - 1
    widths = [np.bincount(number[chosen], minlength=len(edges) - 1) for chosen in (slice(None), found, near)]
    predicted_line, true_line = centreline(predicted), centreline(true)
    return ThresholdCounts(
        threshold=float(threshold),
        tolerance=float(tolerance),
        predicted_near=int(np.count_nonzero(_grown(true, tolerance) & predicted)),
        true_near=int(np.count_nonzero(near)),
        predicted_line=int(np.count_nonzero(predicted_line)),
        predicted_line_hit=int(np.count_nonzero(predicted_line & true)),
        true_line=int(np.count_nonzero(true_line)),
        true_line_hit=int(np.count_nonzero(true_line & predicted)),
        width_edges=edges,
        width_true=widths[0],
        width_hit=widths[1],
        width_near=widths[2],
    )


def _grown(area: NDArray[np.bool_], distance: float) -> NDArray[np.bool_]:
    """Mark every pixel at most ``distance`` px from an area."""
    if not 0 <= distance <= 100:
        raise ValueError(f"tolerance is a distance from 0 to 100 px, got {distance!r}")
    if not area.any():
        return area
    reach = math.floor(distance)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (y**2 + x**2 <= distance**2).astype(np.uint8)
    return cv2.dilate(area.view(np.uint8), disc, borderType=cv2.BORDER_CONSTANT, borderValue=0).view(np.bool_)


def total_levels(counts: Iterable[PhotographCounts]) -> NDArray[np.int64]:
    """Add up the levels of photographs, one at a time; int64 (2, 256)."""
    total = np.zeros((2, LEVELS), np.int64)
    for photograph in counts:
        total += photograph.levels
    return total


def to_table(image_ids: Sequence[str], counts: Sequence[PhotographCounts]) -> pd.DataFrame:
    """Lay out counts as a table that can be stored as parquet.

    Parameters
    ----------
    image_ids
        Name of each photograph.
    counts
        Of each photograph; all of them with counts at a threshold, or none.

    Returns
    -------
    pandas.DataFrame
        ``image_id``, ``background_levels`` and ``crack_levels`` (lists of 256 int64) and, with a threshold, a column
        for each attribute of :class:`ThresholdCounts`.

    Raises
    ------
    ValueError
        If the lengths differ, or only some have counts at a threshold.
    """
    if len(image_ids) != len(counts):
        raise ValueError(f"every photograph needs a name, got {len(image_ids)} names for {len(counts)} counts")
    with_threshold = sum(photograph.at is not None for photograph in counts)
    if with_threshold not in (0, len(counts)):
        raise ValueError(f"{with_threshold} of {len(counts)} photographs have counts at a threshold: all or none must")
    columns: dict[str, Any] = {"image_id": list(image_ids)}
    for name, row in _LEVELS.items():
        columns[name] = [photograph.levels[row] for photograph in counts]
    if with_threshold:
        for name in _AT:
            columns[name] = [getattr(photograph.at, name) for photograph in counts]
    return pd.DataFrame(columns)


def from_table(table: pd.DataFrame) -> list[PhotographCounts]:
    """Read counts from a table as :func:`to_table` made it, also after it was stored; in the order of its rows."""
    at: list[ThresholdCounts | None] = [None] * len(table)
    if "threshold" in table:
        columns = [
            [np.asarray(v, _LISTS[name]) for v in table[name]] if name in _LISTS else table[name].tolist()
            for name in _AT
        ]
        at = [ThresholdCounts(*row) for row in zip(*columns, strict=True)]
    levels = zip(*(table[name] for name in _LEVELS), strict=True)
    return [
        PhotographCounts(np.stack([np.asarray(row, np.int64) for row in pair]), counted)
        for pair, counted in zip(levels, at, strict=True)
    ]
