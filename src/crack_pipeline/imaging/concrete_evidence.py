"""How much speaks for concrete, at each place of a photograph: known properties of materials, nothing learned.

Concrete is nearly without colour, and what of its surface changes from pixel to pixel outweighs what changes over ten
pixels: sand and pores, not edges, bolts and leaves. What is green or blue (leaves, paint, sky), orange (rust), unlit
or burnt out is something else. Each of these is one number with a slope, and evidence is their sum. It is about 0
where nothing speaks for or against; 1 is a unit in which `below -1.5` means that something is very likely not
concrete.

The slopes are round numbers, set by hand with half of the bridge photographs in view (docs/foreground.md).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.segmented import shrink_to

CELL = 4
"""Side of a cell of the map of evidence, px of the shrunk photograph."""

_LEVEL = 0.6
_FINE, _COARSE = (1.0, 2.0), (4.0, 8.0)
"""Standard deviations in px between which a band of detail lies."""
_MEDIAN = 15
_LEVELS_PER_UNIT = 20.0
_STRIPE = 0.07
"""Half the width of a stripe that is thought to be a crack and its surroundings; share of the longer side."""


class Evidence(NamedTuple):
    """What speaks for concrete in the cells of a photograph, each of a few pixels."""

    colours: NDArray[np.uint8]
    """(h, w, 3), RGB: the photograph, one pixel a cell."""
    concrete: NDArray[np.float32]
    """(h, w): evidence."""
    lenient: NDArray[np.float32]
    """(h, w): evidence to which the surroundings of a lonely dark line, a crack, do no harm."""


def weigh(photograph: NDArray[np.uint8], side: int) -> Evidence:
    """Weigh what speaks for concrete.

    Parameters
    ----------
    photograph
        (H, W, 3), RGB.
    side
        Longest side to which the photograph is shrunk first, px. Grain is only seen where it is not averaged away.

    Returns
    -------
    Evidence
        A cell is `CELL` px of the shrunk photograph wide.

    Examples
    --------
    >>> lawn = np.full((64, 64, 3), (60, 140, 40), np.uint8)
    >>> bool(weigh(lawn, 64).concrete.max() < -1.5)
    True
    """
    small = shrink_to(photograph, side)
    height, width = small.shape[:2]
    size = (max(1, round(width / CELL)), max(1, round(height / CELL)))
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lightness = lab[..., 0]
    fine, coarse = _detail(lightness, _FINE, size), _detail(lightness, _COARSE, size)
    radius = max(1, round(_STRIPE * max(size)))
    without_lines = cv2.morphologyEx(coarse, cv2.MORPH_OPEN, disc(radius), borderType=cv2.BORDER_REPLICATE)
    colour = _of_colour(cv2.resize(lab, size, interpolation=cv2.INTER_AREA))
    return Evidence(
        cv2.resize(small, size, interpolation=cv2.INTER_AREA),
        colour + np.clip(fine - coarse, -1.5, 1),
        colour + np.clip(fine - cv2.GaussianBlur(without_lines, (0, 0), 2), -1.5, 1),
    )


def disc(radius: int) -> NDArray[np.uint8]:
    """Give a disc for morphology: (2 ``radius`` + 1)², 1 inside."""
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2), np.uint8)


def _detail(lightness: NDArray[np.float32], band: tuple[float, float], size: tuple[int, int]) -> NDArray[np.float32]:
    """Give the logarithm of how much a band of detail holds around each cell; the median knows of no lonely edge."""
    finer, coarser = (cv2.GaussianBlur(lightness, (0, 0), deviation) for deviation in band)
    held = cv2.resize(np.abs(finer - coarser), size, interpolation=cv2.INTER_AREA)
    levels = cv2.medianBlur(np.clip(held * _LEVELS_PER_UNIT, 0, 255).astype(np.uint8), _MEDIAN)
    smooth = cv2.GaussianBlur(levels.astype(np.float32) / _LEVELS_PER_UNIT, (0, 0), 2)
    return np.asarray(np.log(smooth + 0.02), np.float32)


def _of_colour(lab: NDArray[np.float32]) -> NDArray[np.float32]:
    """Weigh lightness (0 to 100) and colour (CIELAB, each unit about what an eye can just tell apart)."""
    light, red, yellow = lab[..., 0], lab[..., 1], lab[..., 2]
    against = (
        0.50 * np.clip(-red - 0.5, 0, 6)  # leaves and green paint; concrete is never green but for moss
        + 0.15 * np.clip(-yellow, 0, 20)  # sky, water and blue paint; concrete in the shade is faintly blue
        + 0.25 * np.clip(red - 4, 0, 12)  # rust and brick
        + 0.08 * np.clip(np.hypot(red, yellow) - 16, 0, 20)  # any strong colour; lamps make concrete yellow
        + 0.15 * np.clip(16 - light, 0, 16)  # night, and what no light reaches
        + 0.20 * np.clip(light - 90, 0, 10)  # an overcast sky
    )
    return np.asarray(_LEVEL - against, np.float32)
