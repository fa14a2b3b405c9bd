"""Thinning whose cost is that of the crack, not that of the photograph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_IN, _FIRST, _SECOND = 1, 2, 4
"""Bits of a pixel: it is in the crack; it is to be looked at in the first, in the second half of a round."""


def thin(crack: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Thin a crack to a line of 1 px (Z. Guo, R. W. Hall, Communications of the ACM 32(3), 1989, algorithm A1).

    Only pixels beside which something has changed are looked at again, so that the time grows with the number of crack
    pixels. The line is that of ``skimage.morphology.thin``, which goes through the whole picture in every round.

    Parameters
    ----------
    crack
        (H, W), 1 in the crack, else 0, with a border of 0; only the line is left in it.

    Returns
    -------
    ndarray of int64
        (n,): places in ``crack.ravel()``, ascending.

    Examples
    --------
    >>> picture = np.zeros((7, 9), np.uint8)
    >>> picture[2:5, 1:8] = 1
    >>> thin(picture).tolist()
    [29, 30, 31, 32, 33]
    """
    flat, width = crack.reshape(-1), crack.shape[1]
    # Clockwise from the upper left
    around = np.array([-width - 1, -width, -width + 1, 1, width + 1, width, width - 1, -1], np.int64)
    line = np.flatnonzero(flat)
    edge = line[~np.logical_and.reduce([flat[line + step] > 0 for step in around])]
    flat[edge] = _IN | _FIRST | _SECOND
    waiting = {_FIRST: [edge], _SECOND: [edge]}
    while waiting[_FIRST] or waiting[_SECOND]:
        for half, removable in ((_FIRST, _REMOVABLE_FIRST), (_SECOND, _REMOVABLE_SECOND)):
            if not waiting[half]:
                continue
            here = np.concatenate(waiting[half])
            waiting[half] = []
            flat[here] &= ~np.uint8(half)
            here = here[flat[here] > 0]
            code = np.zeros(len(here), np.uint8)
            for bit, step in enumerate(around):
                code |= (flat[here + step] & _IN) << bit
            gone = here[removable[code]]
            flat[gone] = 0
            for step in around:
                beside = gone + step
                for mark, queue in waiting.items():
                    new = beside[(flat[beside] & (_IN | mark)) == _IN]
                    if len(new):
                        flat[new] |= mark
                        queue.append(new)
    return line[flat[line] > 0]


def _removable(second: bool) -> NDArray[np.bool_]:
    """Say for each of the 256 surroundings whether a pixel goes."""
    bits = ((np.arange(256)[:, None] >> np.arange(8)) & 1).astype(np.bool_).T
    side, corner = bits[1::2], bits[[2, 4, 6, 0]]  # up, right, down, left; the corner clockwise of each
    pieces = (~side & (corner | np.roll(side, -1, axis=0))).sum(axis=0)
    before, after = (np.roll(corner, 1, axis=0) | side).sum(axis=0), (side | corner).sum(axis=0)
    fewest = np.minimum(before, after)
    up, right, down, left = side
    kept = (down | corner[2] | ~corner[3]) & left if second else (up | corner[0] | ~corner[1]) & right
    return (pieces == 1) & (fewest >= 2) & (fewest <= 3) & ~kept


_REMOVABLE_FIRST, _REMOVABLE_SECOND = _removable(second=False), _removable(second=True)
