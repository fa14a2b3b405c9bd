"""What trained models answer to one photograph, without MLflow: the same as in the pipelines that measured them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from crack_pipeline.engines.compute import Compute, Plan, resolve
from crack_pipeline.evaluation.scores import Likeliest, score_named
from crack_pipeline.imaging.decoding import Mode, Undecodable, prepare
from crack_pipeline.models.detectors import build_network
from crack_pipeline.models.segmenters import rebuild
from crack_pipeline.models.weights import Weights
from crack_pipeline.serving.replies import Answer, about_levels, about_score, checked, heatmap, limit_of
from crack_pipeline.training.answers import answers
from crack_pipeline.training.levels import levels
from crack_pipeline.training.segmenting import Tiles


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
        self, prepared: Sequence[NDArray[np.uint8]], threshold: float | None = None, *, show: bool = False
    ) -> list[Answer]:
        """Answer to photographs.

        Parameters
        ----------
        prepared
            From :meth:`prepare`.
        threshold
            Score above which a photograph is called cracked; None for the model's own.
        show
            Whether to show where the score looks.

        Returns
        -------
        list of dict
            ``label``, ``score``, ``probability`` (None where the score is not made of any), ``threshold``, and, where
            asked for, a heatmap of the prepared photograph's size; see :mod:`crack_pipeline.serving.replies`.
        """
        limit = self.threshold if threshold is None else checked(threshold)
        log_odds = isinstance(self._score, Likeliest)
        rows = np.arange(len(prepared))
        found: list[Answer] = []
        for seen, answered in answers(self._network, _Stacked(prepared), rows, self._plan):
            with torch.inference_mode():
                scores = self._score(seen, answered).cpu().double().tolist()
                maps = self._score.map(seen, answered).float().cpu().numpy() if show else [None] * len(scores)
            for score, shown in zip(scores, maps, strict=True):
                answer = about_score(score, limit, log_odds=log_odds)
                found.append(answer | (heatmap(shown[0], self._size) if shown is not None else {}))
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
            See :func:`crack_pipeline.serving.replies.about_levels`.
        """
        limit = limit_of(self.threshold if threshold is None else threshold)
        level = levels(self._network, pixels, self._plan, self._tiles)
        return about_levels(level, limit, self._least_pixels, mask=mask)


class _Stacked:
    """Pictures of one size as an image stack."""

    def __init__(self, pictures: Sequence[NDArray[np.uint8]]) -> None:
        self._pictures = pictures

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([self._pictures[row] for row in rows])
