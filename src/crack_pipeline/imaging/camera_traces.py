"""Measure what a camera leaves in a photograph: blur, noise and compression."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging import jpeg
from crack_pipeline.imaging.simulation import Traces

_LARGEST = 1024
_REBLUR, _CALMING = 1.0, 0.5
# Variance of the difference over 2 px that a gradient is.
_DIFFERENCE = 2**2 / 12
_SHARPEST = 20
_FLATTEST = 10
_BLOCK = 16
_FEWEST_EDGES = 50
_QUALITIES = range(20, 97)
_FEWEST_COEFFICIENTS = 300
_MOST_BLOCKS = 4096
_SMALLEST_STEP = 3
_CERTAIN, _EQUAL, _NEAR = 0.35, 0.05, 4
# Spectrum of the Laplacian's noise: the root of the sum of its squared weights.
_LAPLACIAN = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def measure_traces(photograph: NDArray[np.uint8]) -> Traces:
    """Measure blur, noise and JPEG quality of one photograph.

    Parameters
    ----------
    photograph
        (H, W) or (H, W, 3) RGB, uint8. Of a large one the middle is looked at.

    Returns
    -------
    Traces
    """
    grey = cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY) if photograph.ndim == 3 else photograph
    # In steps of 8 px, on which JPEG lays its blocks.
    top, left = (max(0, (side - _LARGEST) // 2) // 8 * 8 for side in grey.shape)
    grey = np.ascontiguousarray(grey[top : top + _LARGEST, left : left + _LARGEST])
    noise = measure_noise(grey)
    return Traces(measure_blur(grey, noise), noise, measure_jpeg_quality(grey))


def measure_noise(grey: NDArray[np.uint8]) -> float:
    """Measure the noise of a photograph in its flattest places.

    Parameters
    ----------
    grey
        (H, W) uint8.

    Returns
    -------
    float
        Deviation relative to white; fine texture that is everywhere counts as noise. 0 for a picture smaller than
        two blocks of 16 px.

    References
    ----------
    Immerkær: Fast noise variance estimation. Computer Vision and Image Understanding 64 (2), 1996; here block by
    block.
    """
    answer = np.abs(cv2.filter2D(grey, cv2.CV_32F, _LAPLACIAN))[1:-1, 1:-1]
    height, width = (side // _BLOCK * _BLOCK for side in answer.shape)
    if min(height, width) < _BLOCK:
        return 0.0
    blocks = answer[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK).mean(axis=(1, 3))
    # A block at the end of the range has lost its noise there.
    level = grey[1 : height + 1, 1 : width + 1].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    middle = level.mean(axis=(1, 3))
    usable = blocks[(middle > 8) & (middle < 247)]
    if not usable.size:
        return 0.0
    return float(np.percentile(usable, _FLATTEST) * np.sqrt(np.pi / 2) / 6 / 255)


def measure_blur(grey: NDArray[np.uint8], noise: float = 0.0) -> float:
    """Measure the blur of a photograph where it is sharpest.

    Parameters
    ----------
    grey
        (H, W) uint8.
    noise
        Deviation of the noise relative to white, which is not to be taken for edges.

    Returns
    -------
    float
        Deviation of a Gaussian, px, 0.3 to 5; 1 for a picture without edges.

    References
    ----------
    Zhuo and Sim: Defocus map estimation from a single image. Pattern Recognition 44 (9), 2011: an edge's gradient
    against its gradient after another, known, blur.
    """
    picture = grey.astype(np.float32)
    # The noise of single pixels is no edge.
    slope = _gradient(cv2.GaussianBlur(picture, (0, 0), _CALMING))
    reblurred = _gradient(cv2.GaussianBlur(picture, (0, 0), float(np.hypot(_CALMING, _REBLUR))))
    crests = slope >= cv2.dilate(slope, np.ones((3, 3), np.uint8))
    least = max(12.0, 255 * 4 * noise, float(np.percentile(slope, 98)))
    strong = crests & (slope >= least) & (reblurred > 0)
    if strong.sum() < _FEWEST_EDGES:
        return 1.0
    ratio = np.maximum(slope[strong] / reblurred[strong], 1.001)
    deviation = _REBLUR / np.sqrt(ratio**2 - 1)
    sharp = float(np.percentile(deviation, _SHARPEST))
    return float(np.clip(np.sqrt(max(sharp**2 - _CALMING**2 - _DIFFERENCE, 0.0)), 0.3, 5.0))


def _gradient(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.hypot(cv2.Scharr(picture, cv2.CV_32F, 1, 0), cv2.Scharr(picture, cv2.CV_32F, 0, 1)) / np.float32(16)


def measure_jpeg_quality(grey: NDArray[np.uint8]) -> int | None:
    """Find out with which quality a photograph was compressed.

    Parameters
    ----------
    grey
        (H, W) uint8, its first pixel at the corner of one of JPEG's blocks.

    Returns
    -------
    int or None
        20 to 96 on the scale of the Independent JPEG Group; None if coefficients of the cosine transform do not keep to
        the steps of any: it was hardly compressed, or scaled since.

    References
    ----------
    Fan and de Queiroz: Identification of bitmap compression history. IEEE Transactions on Image Processing 12 (2),
    2003, for the idea.
    """
    height, width = (side // 8 * 8 for side in grey.shape)
    blocks = grey[:height, :width].reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    values = blocks[:: 1 + len(blocks) // _MOST_BLOCKS].astype(np.float32) - 128
    coefficients = np.abs(jpeg.COSINES @ values @ jpeg.COSINES.T).reshape(-1, 64)
    fits = {quality: _fit(coefficients, jpeg.steps(quality)) for quality in _QUALITIES}
    found: int | None = None
    best = _CERTAIN
    for quality, fit in fits.items():
        # Half a step fits as well as the step: of equal fits the coarsest, which comes first, is the true one.
        if fit > best + _EQUAL:
            best, found = fit, quality
    if found is None:
        return None
    near = range(found, min(found + _NEAR, _QUALITIES.stop))
    return max(near, key=lambda quality: fits[quality])


def _fit(coefficients: NDArray[np.float32], steps: NDArray[np.float32]) -> float:
    """Say how well coefficients keep to multiples of steps: 1 perfectly, 0 not at all."""
    # A coefficient of nothing keeps to any step, and of steps below 3 rounding leaves nothing to be seen.
    seen = steps >= _SMALLEST_STEP
    ratio = coefficients[:, seen] / steps[seen]
    ratio = ratio[ratio > 0.6]
    return float(np.cos(2 * np.pi * ratio).mean()) if ratio.size >= _FEWEST_COEFFICIENTS else 0.0
