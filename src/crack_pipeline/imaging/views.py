"""Pictures for people of what was found in a photograph: small enough to look at, and thin things still seen."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.segmented import shrink_to

_DIMMED, _TINT, _TINTED = 0.35, (70, 90, 160), 0.45


def draw_probability(levels: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Draw how probable a crack is: from black over violet and orange to pale yellow.

    Parameters
    ----------
    levels
        (H, W): the probability in 256 levels.
    longest
        Most px along the longer side; what is larger is shrunk, and a thin line keeps its highest values.

    Returns
    -------
    ndarray of uint8
        (h, w, 3), RGB.
    """
    return np.asarray(
        cv2.cvtColor(cv2.applyColorMap(_highest(levels, longest), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    )


def draw_mask(mask: NDArray[np.bool_], longest: int) -> NDArray[np.uint8]:
    """Draw a mask, (H, W), in white on black, small enough to look at: (h, w) of uint8; thin lines stay."""
    return _highest(mask.view(np.uint8) * np.uint8(255), longest)


def draw_foreground(photograph: NDArray[np.uint8], foreground: NDArray[np.bool_], longest: int) -> NDArray[np.uint8]:
    """Draw a photograph, (H, W, 3), with all that is not foreground, (H, W), dark and blue.

    Returns
    -------
    ndarray of uint8
        (h, w, 3), RGB, with ``longest`` px along the longer side at most.
    """
    picture = shrink_to(photograph, longest).astype(np.float32)
    share = shrink_to(foreground.view(np.uint8) * np.uint8(255), longest).astype(np.float32)[..., None] / 255
    dark = _DIMMED * picture * (1 - _TINTED) + np.array(_TINT, np.float32) * _TINTED
    return np.rint(share * picture + (1 - share) * dark).astype(np.uint8)


def _highest(values: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Shrink a map so that lines keep their values: each pixel is the highest of those it stands for."""
    factor = max(values.shape) / longest
    if factor > 1:
        side = int(np.ceil(factor))
        values = np.asarray(cv2.dilate(values, np.ones((side, side), np.uint8)), np.uint8)
        size = (max(1, round(values.shape[1] / factor)), max(1, round(values.shape[0] / factor)))
        return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_NEAREST), np.uint8)
    return values
