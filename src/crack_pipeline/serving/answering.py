"""What trained models answer to one photograph, without MLflow: the same as in the pipelines that measured them."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from crack_pipeline.evaluation.scores import Likeliest, score_named
from crack_pipeline.evaluation.segmentation_counts import LEVELS, level_counts, likeliest
from crack_pipeline.imaging.decoding import Mode, Undecodable, prepare
from crack_pipeline.models.detectors import build_network
from crack_pipeline.models.segmenters import rebuild
from crack_pipeline.models.weights import Weights
from crack_pipeline.serving import run_lengths
from crack_pipeline.training.answers import answers
from crack_pipeline.training.compute import Compute, Plan, resolve
from crack_pipeline.training.levels import levels
from crack_pipeline.training.segmenting import Tiles

Answer = dict[str, Any]


def plan_for(weights: Weights, compute: Compute) -> Plan:
    """Choose how a served model computes: at the precision that it was measured with, where the device is the same.

    Raises
    ------
    ValueError
        If a device is asked for that the machine does not have.
    """
    measured = weights.facts.get("plan", {})
    if compute.precision == "auto" and measured:
        plan = resolve(compute.model_copy(update={"precision": measured["precision"]}))
        if plan.accelerator == measured["accelerator"]:
            return plan
    return resolve(compute)


class DetectorAnswers:
    """Says whether photographs are cracked.

    Parameters
    ----------
    weights
        A detector, as the pipeline ``anomaly`` packs it.
    plan
        Device, precision and batch size.
    """

    def __init__(self, weights: Weights, plan: Plan) -> None:
        self._network, self._plan = build_network(weights), plan
        self._score = score_named(weights.facts["score"])
        self.threshold = float(weights.facts["thresholds"][weights.facts["name"]])
        image = weights.facts["image"]
        self.mode: Mode = image["mode"]
        self._size: int = image["size"]
        self._resize: bool = image.get("resize", True)
        self.preprocessing: Answer = {
            "mode": self.mode,
            "size": self._size,
            "resize": self._resize,
            "score": weights.facts["name"],
            "accelerator": plan.accelerator,
            "precision": plan.precision,
        }

    def prepare(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bring a photograph to the form that the network takes; Undecodable if it may not be scaled to it."""
        height, width = pixels.shape[:2]
        if not self._resize and (height, width) != (self._size, self._size):
            raise Undecodable("size", f"{width} × {height} px; this model takes {self._size} × {self._size} px alone")
        return prepare(pixels, self._size, self.mode)

    def answer(
        self, prepared: Sequence[NDArray[np.uint8]], threshold: float | None = None, *, heatmap: bool = False
    ) -> list[Answer]:
        """Answer to photographs.

        Parameters
        ----------
        prepared
            From :meth:`prepare`.
        threshold
            Score above which a photograph is called cracked; None for the model's own.
        heatmap
            Whether to show where the score looks.

        Returns
        -------
        list of dict
            ``label``, ``score``, ``probability`` (None where the score is not made of any), ``threshold``, and, where
            asked for, ``heatmap``: a grey PNG in base64 of the prepared photograph's size, whose brightest pixel has
            the value ``heatmap_highest``; below zero it is black.
        """
        limit = self.threshold if threshold is None else _checked(threshold)
        rows = np.arange(len(prepared))
        found: list[Answer] = []
        for seen, answered in answers(self._network, _Stacked(prepared), rows, self._plan):
            with torch.inference_mode():
                scores = self._score(seen, answered).cpu().double().tolist()
                maps = self._score.map(seen, answered).float().cpu().numpy() if heatmap else [None] * len(scores)
            for score, shown in zip(scores, maps, strict=True):
                likely = 1 / (1 + math.exp(-score)) if isinstance(self._score, Likeliest) else None
                answer = {
                    "label": "crack" if score > limit else "normal",
                    "score": score,
                    "probability": likely,
                    "threshold": limit,
                }
                found.append(answer | (_picture(shown[0], self._size) if shown is not None else {}))
        return found


class SegmenterAnswers:
    """Says where photographs are cracked.

    Parameters
    ----------
    weights
        A segmenter, as a pipeline packs it.
    plan
        Device, precision and batch size.
    least_pixels
        Crack pixels from which on a photograph is called cracked.
    """

    def __init__(self, weights: Weights, plan: Plan, least_pixels: int) -> None:
        self._network, self._plan, self._least_pixels = rebuild(weights), plan, least_pixels
        self._tiles = Tiles.model_validate(weights.facts["tiles"])
        self.threshold = float(weights.facts["threshold"])
        self.mode: Mode = weights.facts["image"]["mode"]
        self.preprocessing: Answer = {
            "mode": self.mode,
            "size": None,
            "tiles": self._tiles.model_dump(mode="json"),
            "least_pixels": least_pixels,
            "accelerator": plan.accelerator,
            "precision": plan.precision,
        }

    def answer(self, pixels: NDArray[np.uint8], threshold: float | None = None, *, mask: bool = True) -> Answer:
        """Answer to one photograph.

        Parameters
        ----------
        pixels
            (H, W) or (H, W, 3), in ``mode``.
        threshold
            Probability from which on a pixel is called crack, rounded up to the next 1/256; None for the model's own.
        mask
            Whether to say which pixels.

        Returns
        -------
        dict
            ``label``, ``score`` (mean probability of the 100 likeliest pixels), ``probability`` (of the likeliest),
            ``threshold``, ``crack_pixels``, ``crack_share``, ``width``, ``height`` and, where asked for, ``mask``: the
            run-length encoding of :mod:`crack_pipeline.serving.run_lengths`.
        """
        limit = math.ceil((self.threshold if threshold is None else _checked(threshold, 0, 1)) * LEVELS)
        level = levels(self._network, pixels, self._plan, self._tiles)
        counts = level_counts(level)
        crack_pixels = int(counts[limit:].sum())
        height, width = level.shape
        answer: Answer = {
            "label": "crack" if crack_pixels >= self._least_pixels else "normal",
            "score": likeliest(counts),
            "probability": (int(np.flatnonzero(counts)[-1]) + 0.5) / LEVELS,
            "threshold": limit / LEVELS,
            "crack_pixels": crack_pixels,
            "crack_share": crack_pixels / level.size,
            "width": width,
            "height": height,
        }
        return answer | ({"mask": run_lengths.encode(level >= limit)} if mask else {})


class _Stacked:
    """Pictures of one size as an image stack."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]]) -> None:
        self._pictures = pictures

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([self._pictures[row] for row in rows])


def _checked(threshold: float, low: float = -math.inf, high: float = math.inf) -> float:
    if not (math.isfinite(threshold) and low <= threshold <= high):
        wanted = f"from {low:g} to {high:g}" if math.isfinite(low) else "finite"
        raise ValueError(f"threshold is {threshold!r}; it must be a number {wanted}")
    return float(threshold)


def _picture(values: NDArray[np.float32], size: int) -> Answer:
    highest = max(float(values.max()), 0.0)
    grey = np.clip(values / highest * 255 if highest else values * 0, 0, 255).round().astype(np.uint8)
    if grey.shape != (size, size):
        grey = np.asarray(cv2.resize(grey, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)
    _, png = cv2.imencode(".png", grey)
    return {"heatmap": base64.b64encode(png.tobytes()).decode(), "heatmap_highest": highest}
