"""Nodes that measure a segmenter."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation import segmentation_counts as counting
from crack_pipeline.evaluation import segmentation_metrics as metrics_of
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.segmentation.parameters import Report
from crack_pipeline.pipelines.segmentation.predicting import levels, likeliest
from crack_pipeline.pipelines.segmentation.training import rebuild, tiles_for
from crack_pipeline.pipelines.steps import check_same_run, select
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0


def count_validation(
    network_weights: Weights,
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    tiles: Tiles,
    plan: Plan,
) -> pd.DataFrame:
    """Count the pixels of the validation photographs by class and probability, to choose a threshold with.

    Returns
    -------
    pandas.DataFrame
        A row per photograph: ``image_id``, ``path``, ``label``, ``group`` and the counts.
    """
    check_same_run(images, manifest)
    table = select(manifest, partition, ["validation"])
    return _count(network_weights, images, table, tiles, None, plan)


def choose_threshold(validation_counts: pd.DataFrame) -> dict[str, Any]:
    """Choose the probability from which on a pixel is called a crack: the one with the highest Dice.

    Returns
    -------
    dict
        ``threshold`` and ``validation``: number of ``photographs``, and ``dice`` of all their pixels at the threshold.
    """
    return best_threshold(validation_counts, "photographs")


def best_threshold(validation_counts: pd.DataFrame, judges: str) -> dict[str, Any]:
    """Choose a threshold as :func:`choose_threshold`, and say what was counted: photographs, or something else."""
    levels = counting.total_levels(counting.from_table(validation_counts))
    threshold = metrics_of.choose_threshold(levels)
    curve = metrics_of.threshold_curve(levels)
    dice = float(curve["dice"].iloc[counting.level_of(threshold)])
    logger.info("threshold %.3f: Dice %.4f on %d validation %s", threshold, dice, len(validation_counts), judges)
    return {"threshold": threshold, "validation": {judges: len(validation_counts), "dice": dice}}


def count_test(
    segmenter: Weights,
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    tiles: Tiles,
    plan: Plan,
) -> pd.DataFrame:
    """Count the pixels of the test photographs; the table is that of :func:`count_new`."""
    check_same_run(images, manifest)
    return count_new(segmenter, images, select(manifest, partition, ["test"]), tiles, plan)


def count_new(
    segmenter: Weights, images: PhotographStack, manifest: pd.DataFrame, tiles: Tiles, plan: Plan
) -> pd.DataFrame:
    """Count the pixels of photographs by class and probability, by crack width, and with a tolerance.

    Returns
    -------
    pandas.DataFrame
        A row per photograph: ``image_id``, ``path``, ``label``, ``group`` and the counts.
    """
    table = manifest.sort_values("row", ignore_index=True)
    return _count(segmenter, images, table, tiles_for(segmenter, tiles), float(segmenter.facts["threshold"]), plan)


def measure(pixel_counts: pd.DataFrame, segmenter: Weights, report: Report) -> dict[str, Any]:
    """Measure the test photographs.

    Returns
    -------
    dict
        ``threshold`` and ``sets``, whose metrics are those of
        :func:`crack_pipeline.evaluation.segmentation_metrics.segmentation_metrics`.
    """
    return _measure("test", pixel_counts, segmenter, report)


def measure_evaluation(pixel_counts: pd.DataFrame, segmenter: Weights, report: Report) -> dict[str, Any]:
    """Measure a trained segmenter on other photographs, as :func:`measure`; its threshold stays what it was.

    Returns
    -------
    dict
        Also ``learned_from``: how many of the photographs the segmenter has learned from, or was chosen on.
    """
    photographs = pixel_counts["image_id"].str.partition("-")[0]  # of which tiles were cut
    known = int(photographs.isin(segmenter.facts.get("learned_from", ())).sum())
    return {**_measure("evaluation", pixel_counts, segmenter, report), "learned_from": known}


def tabulate_widths(pixel_counts: pd.DataFrame, report: Report) -> pd.DataFrame:
    """Say how much of the cracks of each width is found."""
    return metrics_of.by_width_table(
        counting.from_table(pixel_counts), pixel_counts["group"], resamples=report.resamples, seed=report.seed
    )


def list_measured(pixel_counts: pd.DataFrame, segmenter: Weights, report: Report) -> pd.DataFrame:
    """Say for every photograph how much of it is cracked, in truth and as found.

    Returns
    -------
    pandas.DataFrame
        ``image_id``, ``path``, ``label``, ``score`` (mean probability of the 100 likeliest pixels), ``predicted``,
        ``dice``, ``crack_share`` and ``true_crack_share``; the worst Dice first.
    """
    counts = counting.from_table(pixel_counts)
    found = metrics_of.photograph_table(counts, float(segmenter.facts["threshold"]))
    pixels = found["pixels"].clip(lower=1)
    called = found["predicted_pixels"]
    table = pixel_counts[["image_id", "path", "label"]].reset_index(drop=True)
    table["score"] = [likeliest(one.levels.sum(axis=0)) for one in counts]
    table["predicted"] = np.where(called >= report.least_pixels, "crack", "normal")
    table["dice"] = found["dice"]
    table["crack_share"] = called / pixels
    table["true_crack_share"] = found["crack_pixels"] / pixels
    return table.sort_values("dice", kind="stable", ignore_index=True)


def track_metrics(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Flatten metrics to ``{"<set>.<metric>": {"value": number, "step": 0}}``, as the tracker takes them."""
    flat = {"threshold": float(metrics["threshold"])}
    for set_name, found in metrics["sets"].items():
        flat |= {f"{set_name}.{metric}": value for metric, value in found.items() if isinstance(value, float)}
    return {name: {"value": value, "step": 0} for name, value in flat.items()}


def _measure(name: str, pixel_counts: pd.DataFrame, segmenter: Weights, report: Report) -> dict[str, Any]:
    threshold = float(segmenter.facts["threshold"])
    found = metrics_of.segmentation_metrics(
        counting.from_table(pixel_counts),
        threshold,
        pixel_counts["group"],
        resamples=report.resamples,
        seed=report.seed,
    )
    return {"threshold": threshold, "sets": {name: found}}


def _count(
    weights: Weights,
    images: PhotographStack,
    table: pd.DataFrame,
    tiles: Tiles,
    threshold: float | None,
    plan: Plan,
) -> pd.DataFrame:
    network = rebuild(weights)
    found = []
    began = said = time.monotonic()
    pixels = 0
    for done, row in enumerate(table["row"].astype(int), start=1):
        level = levels(network, images.photograph(row), plan, tiles)
        found.append(counting.count(level, images.mask(row), threshold))
        pixels += level.size
        now = time.monotonic()
        if now - said > _SECONDS_BETWEEN_LINES:
            said = now
            rate = pixels / 1e6 / (now - began)
            logger.info("looked at %d of %d photographs, %.2f megapixels/s", done, len(table), rate)
    counted = counting.to_table(table["image_id"].tolist(), found)
    return table[["image_id", "path", "label", "group"]].merge(counted, on="image_id")
