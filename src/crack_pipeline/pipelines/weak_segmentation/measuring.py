"""Nodes that measure a segmenter on photographs of which not all have masks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation.metrics import detection_metrics
from crack_pipeline.evaluation.segmentation_counts import LEVELS, level_of
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.segmentation import evaluating
from crack_pipeline.pipelines.segmentation.parameters import Report
from crack_pipeline.pipelines.segmentation.predicting import levels, likeliest
from crack_pipeline.pipelines.segmentation.training import rebuild, tiles_for
from crack_pipeline.pipelines.steps import check_same_run, select
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

_RANKED = ("roc_auc", "roc_auc_ci95", "average_precision", "average_precision_ci95", "n")


def count_test(
    segmenter: Weights,
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    tiles: Tiles,
    plan: Plan,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Look at the photographs of the role ``test``; the tables are those of :func:`count_new`."""
    check_same_run(images, manifest)
    return count_new(segmenter, images, select(manifest, partition, ["test"]), tiles, plan)


def count_new(
    segmenter: Weights, images: PhotographStack, manifest: pd.DataFrame, tiles: Tiles, plan: Plan
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Count the pixels of photographs whose masks are known, and say what is found in the others.

    Returns
    -------
    pixel_counts : DataFrame
        As of :func:`crack_pipeline.pipelines.segmentation.evaluating.count_new`.
    unmarked : DataFrame
        A row per photograph without a mask: ``image_id``, ``path``, ``label``, ``group``, ``score`` and
        ``called_share`` (of its pixels called crack).

    Raises
    ------
    ValueError
        If no photograph is sound or has a mask.
    """
    known = manifest["crack_pixels"].notna()
    if not known.any():
        raise ValueError("none of the photographs is sound or has a mask: nothing can be measured on them")
    if not known.all():
        logger.info("%s of %s photographs have no mask", f"{int((~known).sum()):,}", f"{len(known):,}")
    counts = evaluating.count_new(segmenter, images, manifest[known], tiles, plan)
    network, how, line = rebuild(segmenter), tiles_for(segmenter, tiles), level_of(float(segmenter.facts["threshold"]))
    table = manifest[~known].sort_values("row", ignore_index=True)
    found = []
    for row in table["row"].astype(int):
        numbers = np.bincount(levels(network, images.photograph(row), plan, how).ravel(), minlength=LEVELS)
        found.append((likeliest(numbers), int(numbers[line:].sum())))
    scores, called = zip(*found, strict=True) if found else ((), ())
    unmarked = table[["image_id", "path", "label", "group", "width", "height"]].assign(score=scores, called=called)
    return counts, unmarked.astype({"score": np.float64, "called": np.int64})


def list_predictions(
    pixel_counts: pd.DataFrame, unmarked: pd.DataFrame, segmenter: Weights, report: Report
) -> pd.DataFrame:
    """Say for every photograph how much of it is cracked, as found and, where that is known, in truth.

    Returns
    -------
    pandas.DataFrame
        As of :func:`crack_pipeline.pipelines.segmentation.evaluating.list_measured`; those without a mask come last,
        without ``dice`` and ``true_crack_share``.
    """
    measured = evaluating.list_measured(pixel_counts, segmenter, report)
    others = unmarked[["image_id", "path", "label", "score"]].assign(
        predicted=np.where(unmarked["called"] >= report.least_pixels, "crack", "normal"),
        dice=np.nan,
        crack_share=unmarked["called"] / (unmarked["width"] * unmarked["height"]),
        true_crack_share=np.nan,
    )
    return pd.concat([measured, others], ignore_index=True) if len(others) else measured


def measure(pixel_counts: pd.DataFrame, unmarked: pd.DataFrame, segmenter: Weights, report: Report) -> dict[str, Any]:
    """Measure the test photographs.

    Returns
    -------
    dict
        ``threshold``; ``sets``: those of :func:`crack_pipeline.pipelines.segmentation.evaluating.measure`, none where
        no mask of a crack is known; and ``photographs``: how well the score of photographs tells those labelled as
        cracked from the others: of :func:`crack_pipeline.evaluation.metrics.detection_metrics` what needs no threshold.
    """
    found = evaluating.measure(pixel_counts, segmenter, report)
    return _with_photographs(found, pixel_counts, unmarked, segmenter, report)


def measure_evaluation(
    pixel_counts: pd.DataFrame, unmarked: pd.DataFrame, segmenter: Weights, report: Report
) -> dict[str, Any]:
    """Measure a trained segmenter on other photographs, as :func:`measure`; also ``learned_from``."""
    found = evaluating.measure_evaluation(pixel_counts, segmenter, report)
    known = int(unmarked["image_id"].isin(segmenter.facts.get("learned_from", ())).sum())
    found["learned_from"] += known
    return _with_photographs(found, pixel_counts, unmarked, segmenter, report)


def _with_photographs(
    found: Mapping[str, Any], pixel_counts: pd.DataFrame, unmarked: pd.DataFrame, segmenter: Weights, report: Report
) -> dict[str, Any]:
    groups = pd.concat([pixel_counts, unmarked])[["image_id", "group"]]
    table = list_predictions(pixel_counts, unmarked, segmenter, report).merge(groups, on="image_id")
    photographs = detection_metrics(
        (table["label"] == "crack").to_numpy(np.bool_),
        table["score"].to_numpy(np.float64),
        float(found["threshold"]),
        table["group"],
        resamples=report.resamples,
        seed=report.seed,
    )
    known = bool((pixel_counts["label"] == "crack").any())
    ranked = {name: photographs[name] for name in _RANKED}
    return {**found, "sets": found["sets"] if known else {}, "photographs": ranked}
