"""Which pixels of a photograph show the structure, and which its background."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from crack_pipeline.imaging.concrete_evidence import weigh
from crack_pipeline.imaging.concrete_rule import FEWEST, SIDE, ConcreteRule, complete, enlarge, has_other, with_position

Model = Literal["vit_b", "vit_l", "vit_h"]

_CERTAIN = (-3.0, 2.0)
"""Evidence, counted from that which decides, from which on colours cannot change what a place is."""


class AutomaticMasks(BaseModel):
    """How Segment Anything looks for everything: a grid of points, each of which asks for the thing it lies on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    points_per_side: int = Field(32, ge=1, le=128, description="of the grid")
    points_at_once: int = Field(16, ge=1, le=1024, description="each needs about 40 MB")
    predicted_iou: float = Field(0.88, ge=0, le=1, description="a mask that the network itself trusts less is dropped")
    stability: float = Field(
        0.95, ge=0, le=1, description="a mask that another cut of its logits changes more is dropped"
    )
    overlap: float = Field(0.7, ge=0, le=1, description="of the boxes of two masks, from which on one is dropped")


class Foreground(BaseModel):
    """How the structure is told from its background."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Literal["segment_anything", "classical", "none"] = Field(
        "classical",
        description="segment_anything: masks of the network (A. Kirillov and others, ICCV 2023), of which a rule picks "
        "the concrete ones; classical: the same rule, and graph cuts by colour; none: the whole photograph",
    )
    model: Model = Field("vit_b", description="segment_anything: size of its image encoder")
    weights: str = Field(
        "official", min_length=1, description="segment_anything: official: fetched once; or the path of a local file"
    )
    prompts: str | None = Field(
        None,
        description="segment_anything: CSV of points and boxes, relative to the root of the photographs; null, and for "
        "photographs that it does not name: automatic masks",
    )
    automatic: AutomaticMasks = Field(default_factory=lambda: AutomaticMasks.model_validate({}))
    side: int = Field(
        SIDE,
        ge=64,
        le=4096,
        description="longest side at which evidence of concrete is looked for, px; larger is shrunk to it",
    )
    rounds: int = Field(1, ge=0, le=10, description="classical: of graph cuts; 0: the evidence alone decides")
    rule: ConcreteRule = Field(
        default_factory=lambda: ConcreteRule.model_validate({}), description="what counts as concrete"
    )


def find_foreground(photograph: NDArray[np.uint8], how: Foreground) -> NDArray[np.bool_]:
    """Tell the structure from its background, without a network.

    ``classical`` weighs what speaks for concrete (`concrete_evidence`), and cuts along the colours of this one
    photograph what the evidence leaves open: GrabCut (C. Rother, V. Kolmogorov and A. Blake, SIGGRAPH 2004), begun
    with the evidence. What is kept in doubt says the rule (`concrete_rule`). All of it happens on a small copy, so that
    time and memory hardly grow with the photograph.

    Parameters
    ----------
    photograph
        (H, W, 3), RGB.
    how
        Its method is ``classical`` or ``none``.

    Returns
    -------
    ndarray of bool
        (H, W): True on the structure. Nothing is True where there is no concrete.

    Raises
    ------
    ValueError
        If this is no photograph, or the method needs a network.

    Examples
    --------
    >>> wall = np.random.default_rng(0).normal(150, 12, (200, 300, 1)).clip(0, 255).astype(np.uint8).repeat(3, axis=2)
    >>> bool(find_foreground(wall, Foreground()).all())
    True
    """
    if photograph.dtype != np.uint8 or photograph.ndim != 3 or photograph.shape[2] != 3 or not photograph.size:
        raise ValueError(f"a photograph (H, W, 3) of uint8 is needed, got {photograph.dtype} {photograph.shape}")
    if how.method == "segment_anything":
        raise ValueError("the method segment_anything needs a network; without one there are classical and none")
    size = photograph.shape[:2]
    if how.method == "none":
        return np.ones(size, np.bool_)
    evidence = weigh(photograph, how.side)
    if min(evidence.concrete.shape) < FEWEST or not has_other(evidence, how.rule):
        return np.ones(size, np.bool_)
    decided = with_position(evidence.concrete, how.rule) - how.rule.least_evidence
    concrete = _cut(evidence.colours, decided, how.rounds)
    return enlarge(complete(concrete, evidence, how.rule), size)


def _cut(colours: NDArray[np.uint8], evidence: NDArray[np.float32], rounds: int) -> NDArray[np.bool_]:
    """Let colours decide where the evidence, (h, w), is not certain."""
    concrete: NDArray[np.bool_] = evidence > 0
    if not rounds or concrete.all() or not concrete.any():
        return concrete
    kinds = np.where(concrete, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    kinds[evidence < _CERTAIN[0]] = cv2.GC_BGD
    kinds[evidence > _CERTAIN[1]] = cv2.GC_FGD
    cv2.setRNGSeed(0)  # of the clusters of colours that it begins with
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(colours, kinds, None, *models, rounds, cv2.GC_INIT_WITH_MASK)
    return (kinds == cv2.GC_FGD) | (kinds == cv2.GC_PR_FGD)
