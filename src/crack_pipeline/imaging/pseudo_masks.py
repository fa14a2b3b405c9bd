"""Masks for training out of what a network believes and what labels say."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from crack_pipeline.imaging.marked_photographs import FALSE_ALARM
from crack_pipeline.imaging.photograph_stack import BACKGROUND, CRACK, IGNORED

_LEVELS, _ALIKE = 256, 4


class Confidence(BaseModel):
    """How sure a network must be before another one learns from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    crack: float = Field(0.6, gt=0, lt=1, description="probability from which on a pixel is learned as crack")
    background: float = Field(
        0.3, ge=0, lt=1, description="probability below which it is background; between the two it is ignored"
    )
    least_pixels: int = Field(
        32,
        ge=0,
        description="crack pixels that a square labelled as cracked must have; where it has fewer, its likeliest ones "
        "are taken, down to the probability for background",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Confidence:
        if self.background >= self.crack:
            raise ValueError(f"background is {self.background:g}, and must be below crack, {self.crack:g}")
        return self


def pseudo_mask(
    levels: NDArray[np.uint8],
    boxes: NDArray[np.int64],
    cracked: NDArray[np.bool_],
    confidence: Confidence,
    *,
    everywhere: bool = True,
) -> NDArray[np.uint8]:
    """Say what may be learned of every pixel of a photograph.

    Parameters
    ----------
    levels
        (H, W): probability of a crack as a network sees it, in 256 levels.
    boxes
        (n, 4): y, x, height and width of the squares that have labels, px.
    cracked
        (n,): their labels. In a square without a crack every pixel is background, whatever the network says; in one
        with a crack some pixels are crack, or it is ignored.
    confidence
        How sure the network must be.
    everywhere
        Whether what lies in no square is learned, too, as the network sees it; otherwise it is ignored.

    Returns
    -------
    ndarray of uint8
        (H, W): 0 background, 1 crack, 2 ignored, 3 background of which the network is sure that it is crack.
    """
    seen = np.full(levels.shape, IGNORED, np.uint8)
    seen[levels < confidence.background * _LEVELS] = BACKGROUND
    seen[levels >= confidence.crack * _LEVELS] = CRACK
    mask = seen if everywhere else np.full(levels.shape, IGNORED, np.uint8)
    for y, x, height, width in boxes[cracked].tolist():
        box = slice(y, y + height), slice(x, x + width)
        mask[box] = seen[box]
        missing = confidence.least_pixels - int(np.count_nonzero(mask[box] == CRACK))
        if missing > 0:
            _complete(mask[box], levels[box], confidence)
    for y, x, height, width in boxes[~cracked].tolist():
        box = slice(y, y + height), slice(x, x + width)
        mask[box] = np.where(levels[box] < confidence.crack * _LEVELS, BACKGROUND, FALSE_ALARM)
    return mask


def _complete(mask: NDArray[np.uint8], levels: NDArray[np.uint8], confidence: Confidence) -> None:
    """Take the likeliest pixels of a square for crack, in place; ignore it where too few are likely at all."""
    number = min(confidence.least_pixels, levels.size)
    level = int(np.partition(levels, levels.size - number, axis=None)[levels.size - number])
    likeliest = levels >= level
    # Where most are alike, nothing tells which of them are crack.
    if level < max(1.0, confidence.background * _LEVELS) or np.count_nonzero(likeliest) > _ALIKE * number:
        mask[...] = IGNORED
    else:
        mask[likeliest] = CRACK
