"""The rule that says which parts of a photograph are concrete, be they masks of a network or regions of colour.

1. *Is there anything else at all?* A place is surely something else where the (lenient) evidence is below
   ``surely_other`` all over a disc whose radius is 3 % of the longer side. If such places cover less than
   ``other_share`` of the photograph, all of it is structure: a bare wall must not lose a corner that is a little green.
2. *Which parts are concrete?* Those whose mean evidence, ``below`` times their height in the photograph added (-1 at
   its upper edge, 1 at its lower edge: what bears stands under what is borne), is above ``least_evidence``.
3. *What is too small to be background?* What is narrower than a disc of the radius ``narrowest``, or smaller than
   ``smallest``, belongs to the structure: cracks, holes, stains, tools. Structure smaller than that is dropped.
4. *Is nothing left?* Then there is no concrete if the median evidence of the photograph is below
   ``nothing_below``; if not, it is a wall of an unusual colour, and all of it is structure.

A missed crack is the worst error, so each step that doubts keeps the pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from crack_pipeline.imaging.concrete_evidence import Evidence, disc, weigh

SIDE = 1024
"""Longest side of the photograph of which the evidence is taken, px, where no other is given."""

FEWEST = 8
"""Cells along the shorter side without which colours are not told apart."""

_SURE_RADIUS = 0.03
_SMOOTH = 3.0
"""Standard deviation in cells: a cell alone is never sure."""


class ConcreteRule(BaseModel):
    """Which parts of a photograph are concrete."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    below: float = Field(
        1.0,
        ge=0,
        le=3,
        description="evidence for what is at the lower edge, and against what is at the upper one: steel rests on "
        "concrete. 0 where it hangs from it",
    )
    least_evidence: float = Field(-0.5, ge=-4, le=2, description="what has more is concrete; less keeps more")
    surely_other: float = Field(
        -1.5, ge=-6, le=0, description="what has less, without position, is surely not concrete"
    )
    other_share: float = Field(
        0.08, ge=0, le=1, description="share of the photograph that is surely not concrete, without which all is kept"
    )
    nothing_below: float = Field(
        -3.5,
        ge=-8,
        le=0,
        description="median evidence of a photograph that may hold no concrete at all: leaves have -5",
    )
    narrowest: float = Field(
        0.02, ge=0, le=0.2, description="half the width of the narrowest background, share of the longer side"
    )
    smallest: float = Field(0.01, ge=0, lt=0.5, description="of a part, share of the photograph")


def structure_from_masks(
    photograph: NDArray[np.uint8], masks: Sequence[Mapping[str, Any]], rule: ConcreteRule, side: int = SIDE
) -> NDArray[np.bool_]:
    """Say which of the masks of a photograph are concrete, and join them.

    Where masks overlap, the smallest one counts; those smaller than ``rule.smallest`` of the photograph do not, since
    a crack is a mask of its own, and dark. What no mask covers is judged piece by piece, as if it were masks. The rule
    is that of this module.

    Parameters
    ----------
    photograph
        (H, W, 3), RGB.
    masks
        As ``SamAutomaticMaskGenerator`` gives them: each with ``segmentation``, (h, w) of bool, of any size and the
        proportions of the photograph. Nothing else of them is read.
    rule
        Its numbers.
    side
        Longest side of the photograph of which the evidence is taken, px.

    Returns
    -------
    ndarray of bool
        (H, W).

    Raises
    ------
    ValueError
        If a mask is not of two dimensions or of bool.
    """
    evidence = weigh(photograph, side)
    if min(evidence.concrete.shape) < FEWEST or not has_other(evidence, rule):
        return np.ones(photograph.shape[:2], np.bool_)
    cells = evidence.concrete.shape
    small = []
    for mask in masks:
        segmentation = np.asarray(mask["segmentation"])
        if segmentation.ndim != 2 or segmentation.dtype != np.bool_:
            raise ValueError(f"a mask is (h, w) of bool, got {segmentation.dtype} {segmentation.shape}")
        share = cv2.resize(segmentation.view(np.uint8) * 255, cells[::-1], interpolation=cv2.INTER_AREA)
        small.append(share > 127)
    small = [mask for mask in small if mask.mean() >= rule.smallest]
    parts = np.zeros(cells, np.int32)
    for number, mask in enumerate(sorted(small, key=np.count_nonzero, reverse=True), start=1):
        parts[mask] = number
    pieces, labels = cv2.connectedComponents((parts == 0).astype(np.uint8), connectivity=4)
    parts = np.where(parts == 0, len(small) + labels, parts)
    placed = with_position(evidence.concrete, rule)
    counts = np.bincount(parts.ravel(), minlength=len(small) + pieces)
    means = np.bincount(parts.ravel(), placed.ravel(), minlength=len(counts)) / np.maximum(counts, 1)
    return enlarge(complete(means[parts] > rule.least_evidence, evidence, rule), photograph.shape[:2])


def has_other(evidence: Evidence, rule: ConcreteRule) -> bool:
    """Say whether a photograph shows anything that is surely not concrete (step 1)."""
    sure = _smooth(evidence.lenient) < rule.surely_other
    return bool(_opened(sure, _SURE_RADIUS).mean() >= rule.other_share)


def with_position(concrete: NDArray[np.float32], rule: ConcreteRule) -> NDArray[np.float32]:
    """Smooth evidence (h, w), and add that of the height in the photograph (step 2)."""
    height = np.linspace(-1, 1, len(concrete), dtype=np.float32)[:, None]
    return np.asarray(_smooth(concrete) + np.float32(rule.below) * height, np.float32)


def complete(concrete: NDArray[np.bool_], evidence: Evidence, rule: ConcreteRule) -> NDArray[np.bool_]:
    """Take up what is too small to be background, and judge a photograph of which nothing is left (steps 3 and 4).

    Parameters
    ----------
    concrete
        (h, w): the cells that were found to be concrete.
    evidence
        Of these cells.
    rule
        Its numbers.

    Returns
    -------
    ndarray of bool
        (h, w).
    """
    background = _large(_opened(~concrete, rule.narrowest), rule.smallest)
    structure = _large(~background, rule.smallest)
    if not structure.any() and np.median(evidence.concrete) >= rule.nothing_below:
        return np.ones_like(structure)
    return structure


def enlarge(structure: NDArray[np.bool_], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Enlarge (h, w) to ``size``, (H, W), with straight edges between the cells. Needs 2 bytes a pixel."""
    if structure.all() or not structure.any():
        return np.full(size, structure.all(), np.bool_)
    levels = cv2.resize(structure.astype(np.uint8) * np.uint8(255), size[::-1], interpolation=cv2.INTER_LINEAR)
    return np.asarray(levels, np.uint8) > 127


def _smooth(evidence: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(evidence, (0, 0), _SMOOTH), np.float32)


def _opened(places: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Take away what a disc does not fit into; it may reach beyond the photograph."""
    reach = round(radius * max(places.shape))
    if not reach:
        return places
    wide = cv2.copyMakeBorder(places.astype(np.uint8), *(reach,) * 4, cv2.BORDER_REPLICATE)
    opened = cv2.morphologyEx(wide, cv2.MORPH_OPEN, disc(reach))
    return np.asarray(opened[reach:-reach, reach:-reach], np.bool_)


def _large(places: NDArray[np.bool_], share: float) -> NDArray[np.bool_]:
    """Keep the connected places that cover at least so much of the photograph."""
    _, labels, facts, _ = cv2.connectedComponentsWithStats(places.astype(np.uint8), connectivity=4)
    keep = facts[:, cv2.CC_STAT_AREA] >= share * places.size
    keep[0] = False
    return np.asarray(keep[labels], np.bool_)
