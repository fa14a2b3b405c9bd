"""Lines with fewer points."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_WHOLE = 3
"""Points from which on some can be left out."""


def simplify(line: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    """Leave out points of a line (D. H. Douglas and T. K. Peucker, Cartographica 10(2), 1973).

    Parameters
    ----------
    line
        (n, 2). Where it ends where it begins it is a ring, and stays one.
    tolerance
        How far it may be from where it was; 0 for all points.

    Returns
    -------
    ndarray of float64
        (m, 2), with both ends.

    Examples
    --------
    >>> simplify(np.array([[0.0, 0.0], [1.0, 0.1], [2.0, 0.0]]), 0.5).tolist()
    [[0.0, 0.0], [2.0, 0.0]]
    """
    if tolerance == 0 or len(line) < _WHOLE:
        return line
    if (line[0] != line[-1]).any():
        return _simplified(line, tolerance)
    # Between equal ends no point is far from their connection: a ring is two lines, to its furthest point and back.
    furthest = int(np.hypot(*(line - line[0]).T).argmax())
    if furthest in (0, len(line) - 1):
        return line
    there, back = (_simplified(part, tolerance) for part in (line[: furthest + 1], line[furthest:]))
    return np.concatenate([there, back[1:]])


def _simplified(line: NDArray[np.float64], tolerance: float) -> NDArray[np.float64]:
    kept = cv2.approxPolyDP(line.astype(np.float32)[:, None], tolerance, closed=False)[:, 0].astype(np.float64)
    return kept if len(kept) > 1 else line
