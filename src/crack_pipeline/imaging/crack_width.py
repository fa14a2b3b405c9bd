"""How wide a crack is at each of its pixels, and where its centreline runs."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

TILE = 1024
"""Side of the squares that are worked on one at a time, px."""

REACH = 128
"""Widths are exact up to this, px; it is how far the surroundings of a square are taken in."""

_Window = tuple[slice, slice]


def crack_widths(crack: NDArray[np.bool_], *, tile: int = TILE) -> NDArray[np.float32]:
    """Measure how wide the crack is at each of its pixels.

    The width at a pixel is the diameter of the largest disc that fits into the crack and covers the pixel (the
    local thickness of T. Hildebrand and P. Rüegsegger, Journal of Microscopy 185(1), 1997). The width of the
    nearest centreline point would be taken from the spurs that a ragged edge grows, and beside a wide crack from a
    thin neighbour: it makes 6 % of the crack pixels of DeepCrack thinner than 2 px, where 0.5 % are.

    Parameters
    ----------
    crack
        (H, W), any size.
    tile
        Side of the squares that are worked on one at a time, px.

    Returns
    -------
    ndarray of float32
        (n,), px, at least 1: the widths of the crack pixels in the order of ``crack[crack]``, so that
        ``picture[crack] = crack_widths(crack)`` makes a map of them.

    Notes
    -----
    A horizontal or vertical line of n px has width n, for odd and even n: distances are measured on a grid of twice
    the resolution. A diagonal line has, to within 1 px, its width at right angles to it. A pixel that sticks out of
    an edge by 1 px belongs to the disc beside it. What lies beyond the picture is unknown and limits no disc; a crack
    that covers the whole picture is as wide as the longer side. From 128 px on a width may come out smaller than it
    is, but not below 128.

    Memory beyond the result is bounded, at about 150 MB, by the squares; squares without a crack cost next to nothing.

    Examples
    --------
    >>> picture = np.zeros((7, 9), bool)
    >>> picture[2:5] = True
    >>> sorted(set(crack_widths(picture).tolist()))
    [3.0]
    """
    _check(crack)
    height, width = crack.shape
    parts = [np.zeros(0, np.float32)]
    for top in range(0, height, tile):
        band = crack[top : top + tile]
        widths = np.zeros(band.shape, np.float32)
        for left in range(0, width, tile):
            core = slice(top, top + tile), slice(left, left + tile)
            if crack[core].any():
                window, inner = _surrounded(core, crack.shape)
                widths[:, core[1]] = _widths(crack[window], _cut_sides(window, crack.shape))[inner]
        parts.append(np.minimum(widths[band], max(crack.shape)))
    return np.concatenate(parts)


def centreline(crack: NDArray[np.bool_], *, tile: int = TILE) -> NDArray[np.bool_]:
    """Thin a crack to a line of 1 px (T. Y. Zhang, C. Y. Suen, Communications of the ACM 27(3), 1984).

    Parameters
    ----------
    crack
        (H, W), any size.
    tile
        Side of the squares that are worked on one at a time, px. Across their borders the line is the same as in one
        piece where the crack is not wider than 128 px.

    Returns
    -------
    ndarray of bool
        (H, W).

    Examples
    --------
    >>> picture = np.zeros((7, 9), bool)
    >>> picture[2:5] = True
    >>> int(centreline(picture).sum(axis=0).max())
    1
    """
    _check(crack)
    line = np.zeros(crack.shape, np.bool_)
    for top in range(0, crack.shape[0], tile):
        for left in range(0, crack.shape[1], tile):
            core = slice(top, top + tile), slice(left, left + tile)
            if crack[core].any():
                window, inner = _surrounded(core, crack.shape)
                line[core] = skeletonize(crack[window])[inner]  # type: ignore[no-untyped-call]
    return line


def _check(crack: NDArray[np.bool_]) -> None:
    if crack.ndim != 2 or crack.dtype != np.bool_:
        raise ValueError(f"a crack is a bool array (H, W), got {crack.dtype} of shape {crack.shape}: compare the mask")


def _surrounded(core: _Window, shape: tuple[int, ...]) -> tuple[_Window, _Window]:
    """Give a square together with its surroundings, and where it lies therein."""
    window, inner = [], []
    for part, length in zip(core, shape, strict=True):
        start, stop = max(part.start - REACH, 0), min(part.stop + REACH, length)
        window.append(slice(start, stop))
        inner.append(slice(part.start - start, min(part.stop, length) - start))
    return (window[0], window[1]), (inner[0], inner[1])


def _cut_sides(window: _Window, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Say which sides (top, bottom, left, right) of a window cut the picture: 1 there, 0 at its own border."""
    (rows, columns), (height, width) = window, shape
    return int(rows.start > 0), int(rows.stop < height), int(columns.start > 0), int(columns.stop < width)


def _widths(crack: NDArray[np.bool_], cuts: tuple[int, int, int, int]) -> NDArray[np.float32]:
    """Measure a piece of a picture, (h, w) px; a side that cuts the picture limits the discs."""
    height, width = crack.shape
    if crack.all() and not any(cuts):
        return np.full(crack.shape, max(crack.shape), np.float32)
    twice = cv2.resize(crack.astype(np.uint8), (2 * width, 2 * height), interpolation=cv2.INTER_NEAREST)
    twice = cv2.copyMakeBorder(twice, *cuts, cv2.BORDER_CONSTANT, value=0)
    radius = cv2.distanceTransform(twice, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)  # in half pixels
    # On the flank of a crack a neighbour's radius is larger by about the step to it, on the crest it is not.
    crest = (cv2.dilate(radius, np.ones((3, 3), np.uint8)) < radius + _FLANK) & (radius > 1)
    y, x = np.nonzero(crest)
    found = radius[crest]
    order = np.argsort(found, kind="stable")
    discs = radius.copy()
    for column, row, value in zip(x[order].tolist(), y[order].tolist(), found[order].tolist(), strict=True):
        # One half pixel more than fits: the pixels that stick out of the edge
        cv2.circle(discs, (column, row), int(value) + 1, value, cv2.FILLED)
    discs = discs[cuts[0] : cuts[0] + 2 * height, cuts[2] : cuts[2] + 2 * width]
    above, below = discs[::2], discs[1::2]
    most: NDArray[np.float32] = np.maximum(
        np.maximum(above[:, ::2], above[:, 1::2]), np.maximum(below[:, ::2], below[:, 1::2])
    )
    return most


_FLANK = 0.75
