"""What a trained segmenter answers to a photograph, a byte a pixel; needs no Lightning, so predictions start fast."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation.probability_levels import to_levels
from crack_pipeline.training.segmenting import Tiles, bands


def levels(network: nn.Module, pixels: NDArray[np.uint8], plan: Plan, tiles: Tiles) -> NDArray[np.uint8]:
    """Give the probability of a crack in every pixel of a photograph in 256 levels: (H, W) uint8."""
    found = np.empty(pixels.shape[:2], np.uint8)
    for top, band in bands(network, pixels, plan, tiles):
        found[top : top + len(band)] = to_levels(band)
    return found
