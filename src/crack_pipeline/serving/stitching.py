"""Probabilities of photographs of any size from a network that is not torch's: tiles, blended, with numpy alone.

What :mod:`crack_pipeline.training.segmenting` does with torch, for whatever gives probabilities of a few small
pictures; both lay their tiles by :mod:`crack_pipeline.imaging.overlapping`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.evaluation.probability_levels import to_levels
from crack_pipeline.imaging.overlapping import OF_HALF, TURNS, Between, Cut, Tiles, aligned, axis_of, fade_in, runs

Network = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From pictures (n, h, w, C) to the probabilities of their pixels, (n, h, w)."""

_PIXELS_AT_ONCE = 2**20


def levels(network: Network, photograph: NDArray[np.uint8], tiles: Tiles, cut: Cut) -> NDArray[np.uint8]:
    """Give the probability of a crack in every pixel of a photograph in 256 levels.

    Parameters
    ----------
    network
        Asked for one tile, or a few at once.
    photograph
        (H, W) or (H, W, C), of any size from 1 × 1 px.
    tiles
        How often each tile is looked at.
    cut
        How it is cut for this network.

    Returns
    -------
    ndarray of uint8
        (H, W).

    Raises
    ------
    ValueError
        If the tiles are too small for halo and stride, or the network gives what is no probability.
    """
    found = np.empty(photograph.shape[:2], np.uint8)
    for top, band in bands(network, photograph, tiles, cut):
        found[top : top + len(band)] = to_levels(band)
    return found


def probabilities(network: Network, photograph: NDArray[np.uint8], tiles: Tiles, cut: Cut) -> NDArray[np.float32]:
    """Give the probability of a crack in every pixel of a photograph, (H, W); everything else as in `levels`."""
    found = np.empty(photograph.shape[:2], np.float32)
    for top, band in bands(network, photograph, tiles, cut):
        found[top : top + len(band)] = band
    return found


def bands(
    network: Network, photograph: NDArray[np.uint8], tiles: Tiles, cut: Cut
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Give top row and probabilities (h, W) of one row of tiles after another; everything else as in `levels`."""
    image = photograph if photograph.ndim == 3 else photograph[..., None]
    cut.check()
    if not tiles.half_size:
        yield from _bands_of_one_size(network, image, tiles, cut)
        return
    height, width, channels = image.shape
    half = cv2.resize(image, (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA)
    half = np.asarray(half, np.uint8).reshape(-(-height // 2), -(-width // 2), channels)
    coarse = np.empty(half.shape[:2], np.float16)
    for top, band in _bands_of_one_size(network, half, tiles, cut):
        coarse[top : top + len(band)] = band
    across, down = Between(coarse.shape[1], width), Between(coarse.shape[0], height)
    for top, band in _bands_of_one_size(network, image, tiles, cut):
        lines = down.rows(coarse, top, len(band))
        yield top, (1 - OF_HALF) * band + OF_HALF * across.rows(lines.T, 0, width).T


def _bands_of_one_size(
    network: Network, image: NDArray[np.uint8], tiles: Tiles, cut: Cut
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Give finished rows, one row of tiles after another, so that one such row is in memory at a time."""
    rows, fade = axis_of(image.shape[0], cut), fade_in(cut.blend)
    above: NDArray[np.float32] | None = None
    for row in range(len(rows.windows)):
        strip = _strip(network, image, cut, row, TURNS[0])
        for turn in TURNS[1 : tiles.augmentations]:
            strip += _strip(network, image, cut, row, turn)
        strip /= tiles.augmentations
        if above is not None:
            part = strip[: cut.blend]
            part += (1 - fade)[:, None] * (above - part)
        top = rows.used(row)[0]
        finished = rows.fades[row][0] - top if row < len(rows.fades) else len(strip)
        above = strip[finished:]
        yield top, strip[:finished]


def _strip(
    network: Network, image: NDArray[np.uint8], cut: Cut, row: int, turn: tuple[bool, ...]
) -> NDArray[np.float32]:
    """Probabilities (h, W) of one row of tiles, where it is used, seen in one view; neighbours are blended."""
    transposed, vertical, horizontal = turn
    (height, width), fade = image.shape[:2], fade_in(cut.blend)
    rows, columns = axis_of(height, cut), axis_of(width, cut)
    begin, end = rows.used(row)
    top, bottom = aligned(rows.windows[row], height, cut.stride, mirrored=vertical)
    windows = [aligned(window, width, cut.stride, mirrored=horizontal) for window in columns.windows]
    flipped = tuple(axis for axis, flip in ((1, vertical), (2, horizontal)) if flip)
    strip = np.empty((end - begin, width), np.float32)
    at_once = max(1, _PIXELS_AT_ONCE // ((bottom - top) * (windows[0][1] - windows[0][0])))
    column = 0
    for run in runs(windows, at_once):
        batch = np.flip(np.stack([image[top:bottom, start:stop] for start, stop in run]), flipped)
        seen = network(np.ascontiguousarray(batch.swapaxes(1, 2) if transposed else batch))
        for one in np.flip(seen.swapaxes(1, 2) if transposed else seen, flipped):
            left, right = columns.used(column)
            start = windows[column][0]
            part = one[begin - top : end - top, left - start : right - start]
            inside = left
            if column:
                inside += cut.blend
                before = strip[:, left:inside]
                before += fade * (part[:, : cut.blend] - before)
            strip[:, inside:right] = part[:, inside - left :]
            column += 1
    return strip
