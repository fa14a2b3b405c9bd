"""Find squares of sound concrete in photographs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging import tiling
from crack_pipeline.imaging.photograph_stack import BACKGROUND

STRIDE = 16
"""Distance of the places that are looked at, px."""


class Masks(Protocol):
    """What is needed of a stack of photographs."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of each photograph in px, (N, 2)."""

    def mask(self, row: int) -> NDArray[np.uint8]:
        """Give one mask, (H, W): 0 background, 1 crack, 2 ignored."""


class Places(NamedTuple):
    """Where squares lie."""

    rows: NDArray[np.int64]
    """(n,): which photograph."""
    corners: NDArray[np.int64]
    """(n, 2): y and x of the upper left corner, px."""


def find_places(
    photographs: Masks,
    rows: Iterable[int],
    size: int,
    *,
    sound: bool = True,
    margin: int = 8,
    most: int = 64,
    seed: int = 0,
) -> Places:
    """Find squares without a crack, or any squares.

    Parameters
    ----------
    photographs
        Photographs and their masks. Nothing but where masks are background decides.
    rows
        Which of them.
    size
        Side of the squares, px.
    sound
        Whether only squares without a crack are wanted.
    margin
        Least distance of a square from any crack, and from what nobody looked at, px.
    most
        Of each photograph; if there are more, they are drawn among all.
    seed
        Of the draw.

    Returns
    -------
    Places
        On a grid of `STRIDE` px, wholly inside the photographs; none of a smaller photograph.
    """
    found = [np.empty((0, 3), np.int64)]
    sizes = photographs.sizes
    for row in rows:
        height, width = sizes[row].tolist()
        if min(height, width) < size:
            continue
        corners = tiling.grid(height, width, size, STRIDE)
        if sound:
            corners = corners[tiling.count(photographs.mask(row) != BACKGROUND, corners, size, margin) == 0]
        if len(corners) > most:
            drawn = np.random.default_rng([seed, row]).choice(len(corners), most, replace=False)
            corners = corners[np.sort(drawn)]
        found.append(np.column_stack([np.full(len(corners), row, np.int64), corners]))
    table = np.concatenate(found)
    return Places(table[:, 0], table[:, 1:])
