"""Nodes that find the cracks in new photographs, one photograph at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.evaluation.probability_levels import level_counts, level_of, likeliest
from crack_pipeline.imaging.decoding import Undecodable
from crack_pipeline.imaging.segmented import Segmentation, SegmentedChunk, SegmentedPhotograph, draw_overlay
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.developing import open_photograph
from crack_pipeline.pipelines.ingestion.listing import Source
from crack_pipeline.pipelines.ingestion.parameters import Image, Reading
from crack_pipeline.pipelines.segmentation.parameters import Output, Report
from crack_pipeline.pipelines.segmentation.training import rebuild, tiles_for
from crack_pipeline.training.compute import Plan
from crack_pipeline.training.levels import levels
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0


def segment_photographs(
    raw: Source,
    photographs: pd.DataFrame,
    segmenter: Weights,
    reading: Reading,
    tiles: Tiles,
    output: Output,
    plan: Plan,
) -> Iterator[SegmentedChunk]:
    """Find the cracks in photographs of any size.

    Parameters
    ----------
    raw
        The root.
    photographs
        Those under it: ``path``.
    segmenter
        As trained.
    reading
        The limits.
    tiles
        How a photograph is cut.
    output
        What is written beside the masks.
    plan
        Compute plan.

    Yields
    ------
    SegmentedChunk
        One photograph at a time; those that cannot be read are in its ``rejected``.
    """
    network = rebuild(segmenter)
    image = Image.model_validate(segmenter.facts["image"])
    tiles = tiles_for(segmenter, tiles)
    threshold = float(segmenter.facts["threshold"])
    paths = photographs["path"].tolist()
    progress = _Progress(len(paths))
    seen: dict[str, str] = {}
    for number, path in enumerate(paths):
        found: list[SegmentedPhotograph] = []
        rejected: list[tuple[str, str, str]] = []
        try:
            photo_id, pixels = open_photograph(raw, path, mode=image.mode, reading=reading)
        except Undecodable as why:
            rejected.append((path, why.kind, why.reason))
        else:
            if photo_id in seen:
                rejected.append((path, "copy", f"same bytes as {seen[photo_id]}"))
            else:
                seen[photo_id] = path
                level = levels(network, pixels, plan, tiles)
                found.append(_segmented(path, photo_id, pixels, level, threshold, output))
                progress.pixels += level.size
            del pixels
        progress.step()
        yield SegmentedChunk(found, rejected, number, last=number + 1 == len(paths))
    if not paths:
        yield SegmentedChunk([], [], 0, last=True)


def list_predictions(segmentation: Segmentation, report: Report) -> pd.DataFrame:
    """Say for every photograph how much of it is cracked.

    Returns
    -------
    pandas.DataFrame
        ``image_id``, ``path``, ``label`` (missing), ``score`` (mean probability of the 100 likeliest pixels),
        ``predicted``, ``crack_share``, ``crack_pixels``, ``width``, ``height`` and the ``mask`` that was written; the
        most cracked photograph first.
    """
    table = segmentation.photographs
    if table.empty:
        columns = ["image_id", "path", "label", "score", "predicted", "crack_share", "crack_pixels", "width", "height"]
        return pd.DataFrame(columns=[*columns, "mask"])
    cracked = table["crack_pixels"].to_numpy() >= report.least_pixels
    predictions = pd.DataFrame(
        {
            "image_id": table["image_id"],
            "path": table["path"],
            "label": None,
            "score": table["score"],
            "predicted": np.where(cracked, "crack", "normal"),
            "crack_share": table["crack_pixels"] / (table["width"] * table["height"]),
            **{name: table[name] for name in ("crack_pixels", "width", "height", "mask")},
        }
    )
    return predictions.sort_values("crack_share", ascending=False, kind="stable", ignore_index=True)


def join_quarantine(rejected: pd.DataFrame, segmentation: Segmentation) -> pd.DataFrame:
    """Name every file that was left out: ``path``, ``reason``, ``kind``."""
    both = pd.concat([rejected, segmentation.rejected], ignore_index=True).astype("str")
    return both.sort_values(["path", "reason"], ignore_index=True)[["path", "reason", "kind"]]


def summarise_predictions(predictions_new: pd.DataFrame, quarantine: pd.DataFrame, segmenter: Weights) -> str:
    """Say in a few lines what was found."""
    if predictions_new.empty:
        return f"no photograph could be read; {len(quarantine):,} files are in quarantine, with the reason of each"
    cracked = predictions_new[predictions_new["predicted"] == "crack"]
    lines = [
        f"{len(cracked):,} of {len(predictions_new):,} photographs show cracks"
        f" (threshold {segmenter.facts['threshold']:.3f}); {len(quarantine):,} files left out"
    ]
    if len(cracked):
        top = cracked.head(10)[["path", "crack_share", "crack_pixels", "score"]]
        top = top.assign(crack_share=[f"{share:.2%}" for share in top["crack_share"]])
        lines += ["", "the most cracked:", top.to_string(index=False, float_format=lambda value: f"{value:.3f}")]
    return "\n".join(lines)


def _segmented(
    path: str,
    photo_id: str,
    pixels: NDArray[np.uint8],
    level: NDArray[np.uint8],
    threshold: float,
    output: Output,
) -> SegmentedPhotograph:
    mask = (level >= level_of(threshold)).view(np.uint8)
    height, width = mask.shape
    facts: Mapping[str, Any] = {
        "image_id": photo_id,
        "width": width,
        "height": height,
        "crack_pixels": int(mask.sum()),
        "score": likeliest(level_counts(level)),
    }
    return SegmentedPhotograph(
        path,
        mask,
        overlay=draw_overlay(pixels, mask) if output.overlays else None,
        probability=level if output.probabilities else None,
        facts=facts,
    )


class _Progress:
    """Logs how far the prediction is."""

    def __init__(self, total: int) -> None:
        self.pixels, self._total, self._done = 0, total, 0
        self._began = self._said = time.monotonic()

    def step(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._said > _SECONDS_BETWEEN_LINES or self._done == self._total:
            self._said = now
            logger.info(
                "segmented %s of %s photographs, %.2f megapixels/s",
                f"{self._done:,}",
                f"{self._total:,}",
                self.pixels / 1e6 / max(now - self._began, 1e-3),
            )
