"""Windows of a photograph that hold all there is to fill, so that what fills needs little memory and time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice]


class Window(NamedTuple):
    """A part of a photograph that is filled at a time."""

    core: Box
    """Rows and columns that are filled; the cores of all windows hold every unknown pixel once."""
    around: Box
    """The core and what is looked at around it, inside the photograph."""

    @property
    def inner(self) -> Box:
        """The core as rows and columns of what is around it."""
        rows, columns = (
            slice(core.start - around.start, core.stop - around.start)
            for core, around in zip(self.core, self.around, strict=True)
        )
        return rows, columns


def hole_windows(
    unknown: NDArray[np.bool_], *, size: int = 256, least: int = 32, depths: float = 2.0
) -> Iterator[Window]:
    """Cut a photograph into squares, and leave out those in which nothing is to be filled.

    Parameters
    ----------
    unknown
        (H, W): what is to be filled.
    size
        Side of the squares, px.
    least
        Least width of what is around a core, px.
    depths
        How much wider it is where holes are deep: times the largest distance of an unknown pixel of the core from a
        known one.

    Yields
    ------
    Window
        From top to bottom, from left to right.

    Examples
    --------
    >>> hole = np.zeros((1000, 1000), bool)
    >>> hole[500:504, 100:104] = True
    >>> [window.around for window in hole_windows(hole)]
    [(slice(192, 576, None), slice(0, 320, None))]
    """
    height, width = unknown.shape
    for top in range(0, height, size):
        for left in range(0, width, size):
            core = slice(top, min(top + size, height)), slice(left, min(left + size, width))
            if unknown[core].any():
                yield _grown(unknown, core, least, depths)


def _grown(unknown: NDArray[np.bool_], core: Box, least: int, depths: float) -> Window:
    """Widen what is around a core until its holes are shallow beside it."""
    halo = least
    while True:
        rows, columns = (
            slice(max(0, side.start - halo), min(length, side.stop + halo))
            for side, length in zip(core, unknown.shape, strict=True)
        )
        window = Window(core, (rows, columns))
        hole = unknown[window.around]
        if hole.shape == unknown.shape:
            return window
        if not hole.all():
            # The distance to what is known further off is less, never more.
            distance = cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 3)
            wanted = least + math.ceil(depths * float(distance[window.inner].max()))
            if halo >= wanted:
                return window
            halo = max(wanted, halo + least)
        else:
            halo *= 2
