"""How an answer is worded, whatever has computed it; needs no torch."""

from __future__ import annotations

import base64
import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.evaluation.probability_levels import LEVELS, level_counts, likeliest
from crack_pipeline.serving import run_lengths

Answer = dict[str, Any]


def about_score(score: float, threshold: float, *, log_odds: bool) -> Answer:
    """Word what a detector says of a photograph.

    Parameters
    ----------
    score
        Higher where a crack is more likely.
    threshold
        Above it a photograph is called cracked.
    log_odds
        Whether the score is one, so that it tells a probability.

    Returns
    -------
    dict
        ``label``, ``score``, ``probability`` (None where the score tells none) and ``threshold``.
    """
    return {
        "label": "crack" if score > threshold else "normal",
        "score": score,
        "probability": _probability(score) if log_odds else None,
        "threshold": threshold,
    }


def about_levels(levels: NDArray[np.uint8], limit: int, least_pixels: int, *, mask: bool) -> Answer:
    """Word what a segmenter says of a photograph.

    Parameters
    ----------
    levels
        (H, W), see :mod:`crack_pipeline.evaluation.probability_levels`.
    limit
        Level from which on a pixel is called crack; 256: none is.
    least_pixels
        Crack pixels from which on a photograph is called cracked.
    mask
        Whether to say which pixels.

    Returns
    -------
    dict
        ``label``, ``score`` (mean probability of the 100 likeliest pixels), ``probability`` (of the likeliest),
        ``threshold``, ``crack_pixels``, ``crack_share``, ``width``, ``height`` and, where asked for, ``mask``: the
        run-length encoding of :mod:`crack_pipeline.serving.run_lengths`.
    """
    counts = level_counts(levels)
    crack_pixels = int(counts[limit:].sum())
    height, width = levels.shape
    answer: Answer = {
        "label": "crack" if crack_pixels >= least_pixels else "normal",
        "score": likeliest(counts),
        "probability": (int(np.flatnonzero(counts)[-1]) + 0.5) / LEVELS,
        "threshold": limit / LEVELS,
        "crack_pixels": crack_pixels,
        "crack_share": crack_pixels / levels.size,
        "width": width,
        "height": height,
    }
    return answer | ({"mask": run_lengths.encode(levels >= limit)} if mask else {})


def heatmap(values: NDArray[np.float32], size: int) -> Answer:
    """Show where a score looks.

    Parameters
    ----------
    values
        (h, w).
    size
        Side of the picture in px.

    Returns
    -------
    dict
        ``heatmap``: a grey PNG in base64, whose brightest pixel has the value ``heatmap_highest``; below zero it is
        black.
    """
    highest = max(float(values.max()), 0.0)
    grey = np.clip(values / highest * 255 if highest else values * 0, 0, 255).round().astype(np.uint8)
    if grey.shape != (size, size):
        grey = np.asarray(cv2.resize(grey, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)
    _, png = cv2.imencode(".png", grey)
    return {"heatmap": base64.b64encode(png.tobytes()).decode(), "heatmap_highest": highest}


def checked(threshold: float, low: float = -math.inf, high: float = math.inf) -> float:
    """Give the threshold of a request; ValueError if it is not finite or out of range."""
    if not (math.isfinite(threshold) and low <= threshold <= high):
        wanted = f"from {low:g} to {high:g}" if math.isfinite(low) else "finite"
        raise ValueError(f"threshold is {threshold!r}; it must be a number {wanted}")
    return float(threshold)


def limit_of(threshold: float) -> int:
    """Give the lowest level that is called crack by the threshold of a segmenter, rounded up to the next 1/256.

    Raises
    ------
    ValueError
        If it is not from 0 to 1.
    """
    return math.ceil(checked(threshold, 0, 1) * LEVELS)


def _probability(log_odds: float) -> float:
    odds = math.exp(-abs(log_odds))
    return (1.0 if log_odds >= 0 else odds) / (1 + odds)
