"""How good a filled crack is, where the surface below it is known."""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

_FINE = 2.0
"""Deviation of the Gaussian that leaves no grain, px."""
_ROUNDING = 1 / 12
"""Squared error that whole levels have at least."""


class Quality(NamedTuple):
    """Of one fill, inside what was filled."""

    psnr: float
    """Peak signal-to-noise ratio, dB."""
    ssim: float
    """Structural similarity."""
    grain: float
    """Contrast of the fine structure, relative to that of the true surface: 1 is as it was, 0 a smear."""


def fill_quality(true: NDArray[np.uint8], filled: NDArray[np.uint8], where: NDArray[np.bool_]) -> Quality:
    """Compare a fill with the surface that was there.

    PSNR, and SSIM hardly less, reward a smooth fill: a grain that is right in every respect, but is not the very same
    grain, costs 3 dB against the best smooth one. So the contrast of the grain is told beside them.

    Parameters
    ----------
    true, filled
        (H, W) or (H, W, 3) uint8, each side at least 11 px.
    where
        (H, W): what was filled; at least one pixel.

    Returns
    -------
    Quality
        SSIM is that of Z. Wang and others (IEEE Transactions on Image Processing 13(4), 2004), with its Gaussian of
        1.5 px, of grey values, averaged inside; the windows at the edge also see what is outside.
    """
    error = float(np.mean(np.square(true[where].astype(np.float64) - filled[where])))
    grey = [
        np.asarray(one, np.float32) if one.ndim == 2 else one.mean(axis=2, dtype=np.float32) for one in (true, filled)
    ]
    _, similarity = structural_similarity(  # type: ignore[no-untyped-call]
        *grey, data_range=255.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    was, now = (float((one - cv2.GaussianBlur(one, (0, 0), _FINE))[where].std()) for one in grey)
    return Quality(
        10 * math.log10(255**2 / max(error, _ROUNDING)), float(similarity[where].mean()), now / was if was else math.nan
    )
