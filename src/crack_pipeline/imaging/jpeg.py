"""What JPEG does to blocks of 8 × 8 px (ITU-T T.81): a cosine transform, rounded to the steps of a table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LUMINANCE: NDArray[np.float32] = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61),
        *(12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56),
        *(14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77),
        *(24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101),
        *(72, 92, 95, 98, 112, 100, 103, 99),
    ],
    np.float32,
)
"""(64,): the luminance table of annex K.1, row by row; the steps at quality 50."""


def _cosines() -> NDArray[np.float32]:
    at = np.arange(8)
    matrix = np.cos(np.pi / 8 * at[:, None] * (at + 0.5)) / 2
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)


COSINES: NDArray[np.float32] = _cosines()
"""(8, 8): the orthonormal cosine transform of 8 values, a row per frequency (annex A.3.3)."""


def steps(quality: int) -> NDArray[np.float32]:
    """Give the steps at a quality on the scale of the Independent JPEG Group.

    Parameters
    ----------
    quality
        1 to 100.

    Returns
    -------
    ndarray of float32
        (64,), 1 to 255, in grey values.
    """
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((LUMINANCE * scale + 50) // 100, 1, 255)
