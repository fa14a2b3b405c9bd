"""What a repair gives of photographs, on its way to the disk, and pictures of it for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.segmented import shrink_to

_GAP = 8


@dataclass(frozen=True)
class RepairedPhotograph:
    """One photograph without its cracks.

    Attributes
    ----------
    path
        Of the photograph, relative to the root, with ``/``.
    picture
        (H, W) or (H, W, 3) uint8, RGB.
    before_after
        (h, w, 3) uint8, RGB: a picture for people (see `before_after`); None for no such picture.
    facts
        What the table says of the photograph: JSON-like values by column.
    """

    path: str
    picture: NDArray[np.uint8]
    before_after: NDArray[np.uint8] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RepairedChunk:
    """Some photographs of a repair on their way to the disk.

    Attributes
    ----------
    photographs
        In their order; each path comes once in all chunks.
    rejected
        (path, kind, reason) of each photograph that could not be repaired.
    number
        0 for the first chunk, which begins a new repair.
    last
        Whether the repair is complete with it.
    """

    photographs: Sequence[RepairedPhotograph]
    rejected: Sequence[tuple[str, str, str]]
    number: int
    last: bool


def before_after(
    before: NDArray[np.uint8], after: NDArray[np.uint8], crack: NDArray[np.bool_], side: int = 1024
) -> NDArray[np.uint8]:
    """Put a photograph beside itself without its cracks; where it is shown shrunk, a part of it in full size below.

    Parameters
    ----------
    before, after
        (H, W) or (H, W, 3) uint8.
    crack
        (H, W): the part with most of it is shown.
    side
        Most px of each of the two, and of the part.

    Returns
    -------
    ndarray of uint8
        (h, w, 3), RGB.

    Examples
    --------
    >>> grey, crack = np.full((30, 40), 90, np.uint8), np.zeros((30, 40), bool)
    >>> before_after(grey, grey, crack).shape, before_after(grey, grey, crack, side=20).shape
    ((30, 88, 3), (38, 48, 3))
    """
    rows = [[shrink_to(picture, side) for picture in (before, after)]]
    height, width = rows[0][0].shape[:2]
    if (height, width) != crack.shape:
        top, left = _most_cracked(crack, (height, width))
        part = slice(top, top + height), slice(left, left + width)
        rows.append([picture[part] for picture in (before, after)])
    lines = [_beside([_coloured(picture) for picture in row], axis=1) for row in rows]
    return _beside(lines, axis=0)


def _most_cracked(crack: NDArray[np.bool_], shape: tuple[int, int]) -> tuple[int, int]:
    """Give the upper left corner of the part of a shape that holds most of the cracks, to an eighth of its sides."""
    step_down, step_across = (max(1, length // 8) for length in shape)
    height, width = (-(-length // step) for length, step in zip(crack.shape, (step_down, step_across), strict=True))
    cells = np.zeros((height, width), np.float32)
    for row in range(height):
        strip = crack[row * step_down : (row + 1) * step_down].sum(axis=0, dtype=np.int64)
        cells[row] = np.add.reduceat(strip, np.arange(width) * step_across)
    window = min(height, shape[0] // step_down), min(width, shape[1] // step_across)
    sums = cv2.boxFilter(cells, -1, window[::-1], anchor=(0, 0), normalize=False, borderType=cv2.BORDER_CONSTANT)
    at, across = divmod(int(sums.argmax()), width)
    return min(at * step_down, crack.shape[0] - shape[0]), min(across * step_across, crack.shape[1] - shape[1])


def _coloured(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=2)


def _beside(pictures: Sequence[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    """Join pictures with a white line between them."""
    shape = list(pictures[0].shape)
    shape[axis] = _GAP
    parts = [part for picture in pictures for part in (np.full(shape, 255, np.uint8), picture)][1:]
    return np.concatenate(parts, axis=axis)
