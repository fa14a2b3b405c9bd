"""How much darker than its surroundings every pixel is."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_SMOOTHING = 1.0
_LEAST = 2.0
"""Deviation, in levels, below which concrete is taken for even."""


def local_darkness(photograph: NDArray[np.uint8], windows: Sequence[int] = (31, 63, 127)) -> NDArray[np.float32]:
    """Say how many standard deviations every pixel lies below the mean of its surroundings.

    Parameters
    ----------
    photograph
        (H, W) or (H, W, 3).
    windows
        Sides of the squares that are taken for its surroundings, px: a crack shows in those that are several times as
        wide as it. The largest of all values is taken.

    Returns
    -------
    ndarray of float32
        (H, W), 0 where a pixel is not darker.
    """
    grey = photograph if photograph.ndim == 2 else cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)
    light = cv2.GaussianBlur(grey.astype(np.float32), (0, 0), _SMOOTHING)
    darkest = np.zeros(light.shape, np.float32)
    for window in windows:
        mean = cv2.blur(light, (window, window), borderType=cv2.BORDER_REFLECT_101)
        square = cv2.sqrBoxFilter(light, -1, (window, window), borderType=cv2.BORDER_REFLECT_101)
        deviation = np.sqrt(np.maximum(square - mean**2, _LEAST**2))
        np.maximum(darkest, (mean - light) / deviation, out=darkest)
    return darkest
