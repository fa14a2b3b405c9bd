"""Nodes that set every way beside each other, on the same photographs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from crack_pipeline.evaluation import segmentation_counts as counting
from crack_pipeline.evaluation.comparison_figure import comparison_figure
from crack_pipeline.evaluation.segmentation_metrics import segmentation_metrics
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.segmentation.evaluating import count_new
from crack_pipeline.pipelines.segmentation.parameters import Report
from crack_pipeline.pipelines.segmentation.pictures import summarise as summarise_segmentation
from crack_pipeline.pipelines.segmentation.pictures import summarise_evaluation as summarise_segmentation_evaluation
from crack_pipeline.pipelines.steps import select
from crack_pipeline.training.compute import Plan
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

Loader = Callable[[], Weights]

_MEASURES = ("dice", "iou", "precision", "recall", "f1_tolerant", "dice_per_image", "miou")
_LABELS, _SIMULATED, _MASKS = "labels of squares", "simulated cracks", "masks"


def keep_way(segmenter: Weights) -> dict[str, Weights]:
    """Name a segmenter by the way in which it was trained, so that the next one can be compared to it."""
    way, start = segmenter.facts["way"], segmenter.facts["start"]
    return {way if way == start else f"{way}_from_{start}": segmenter}


def compare(
    ways: Mapping[str, Loader],
    label_free: Loader,
    supervised: Loader,
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    tiles: Tiles,
    report: Report,
    plan: Plan,
) -> pd.DataFrame:
    """Measure the segmenters that there are on the photographs of the role ``test`` that have masks.

    Parameters
    ----------
    ways
        Those of this pipeline, the newest of each way.
    label_free, supervised
        The newest ones of the pipelines ``label_free`` and ``segmentation``.
    images, manifest, partition
        Photographs with masks.
    tiles, report, plan
        As for :func:`crack_pipeline.pipelines.segmentation.evaluating.count_test`.

    Returns
    -------
    pandas.DataFrame
        A row per segmenter, the lowest Dice first: ``segmenter``, ``learned_from``, the metrics with ``<name>_low`` and
        ``<name>_high``, ``threshold``, ``photographs``, ``seen`` (of these it has learned from), ``minutes`` of
        training (missing where it is not known) and ``megapixels_per_second`` in use. Empty where there are no masks.
    """
    return compare_new(ways, label_free, supervised, images, select(manifest, partition, ["test"]), tiles, report, plan)


def compare_new(
    ways: Mapping[str, Loader],
    label_free: Loader,
    supervised: Loader,
    images: PhotographStack,
    manifest: pd.DataFrame,
    tiles: Tiles,
    report: Report,
    plan: Plan,
) -> pd.DataFrame:
    """Measure the segmenters that there are on all photographs that have masks; the table is that of `compare`."""
    table = manifest[manifest["crack_pixels"].notna()].sort_values("row", ignore_index=True)
    rows = []
    for name, source, weights in _found(ways, label_free, supervised) if (table["crack_pixels"] > 0).any() else ():
        logger.info("measuring %s", name)
        began = time.monotonic()
        counts = count_new(weights, images, table, tiles, plan)
        seconds = time.monotonic() - began
        threshold = float(weights.facts["threshold"])
        measured = segmentation_metrics(
            counting.from_table(counts), threshold, counts["group"], resamples=report.resamples, seed=report.seed
        )
        row: dict[str, Any] = {"segmenter": name, "learned_from": source}
        for measure in _MEASURES:
            low, high = measured[f"{measure}_ci95"] or (None, None)
            row |= {measure: measured[measure], f"{measure}_low": low, f"{measure}_high": high}
        row |= {
            "threshold": threshold,
            "photographs": len(table),
            "seen": int(table["photo_id"].isin(weights.facts.get("learned_from", ())).sum()),
            "minutes": weights.facts.get("minutes"),
            "megapixels_per_second": float((table["width"] * table["height"]).sum()) / 1e6 / seconds,
        }
        rows.append(row)
    ends = ["threshold", "photographs", "seen", "minutes", "megapixels_per_second"]
    columns = ["segmenter", "learned_from", *(f"{m}{end}" for m in _MEASURES for end in ("", "_low", "_high")), *ends]
    found = pd.DataFrame(rows, columns=columns)
    return found.astype({"minutes": np.float64}).sort_values("dice", kind="stable", ignore_index=True)


def draw_comparison(comparison: pd.DataFrame) -> Figure:
    """Draw Dice of every segmenter, with its interval, by what it has learned from."""
    return comparison_figure(comparison)


def summarise(
    metrics: Mapping[str, Any],
    widths: pd.DataFrame,
    threshold: Mapping[str, Any],
    quarantine: pd.DataFrame,
    data: Mapping[str, Any],
    comparison: pd.DataFrame,
) -> str:
    """Say in a few lines what was found, how good it is, and how the other ways are."""
    return "\n".join([summarise_segmentation(metrics, widths, threshold, quarantine, data), *_lines(comparison)])


def summarise_evaluation(
    evaluation: Mapping[str, Any], widths: pd.DataFrame, quarantine: pd.DataFrame, comparison: pd.DataFrame
) -> str:
    """Say in a few lines how good the segmenters are on other photographs."""
    return "\n".join([summarise_segmentation_evaluation(evaluation, widths, quarantine), *_lines(comparison)])


def _lines(comparison: pd.DataFrame) -> list[str]:
    if comparison.empty:
        return ["", "no mask of a crack is known of these photographs: the segmenters cannot be compared on them"]
    columns = ["segmenter", "learned_from", "dice", "iou", "f1_tolerant", "minutes", "megapixels_per_second"]
    shown = comparison[columns].rename(columns={"megapixels_per_second": "megapixels/s"})
    table = shown.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="?")
    lines = [
        "",
        "all segmenters that there are, on the same photographs; no mask was used but where it says so:",
        table,
    ]
    for _, row in comparison[comparison["seen"] > 0].iterrows():
        lines.append(
            f"{row['segmenter']} has learned from {row['seen']:,} of these {row['photographs']:,} photographs: it "
            "would be worse on others"
        )
    return lines


def _found(ways: Mapping[str, Loader], label_free: Loader, supervised: Loader) -> Iterator[tuple[str, str, Weights]]:
    others = [("label_free", _SIMULATED, label_free), ("segmentation", _MASKS, supervised)]
    for name, source, load in [*((name, _LABELS, load) for name, load in sorted(ways.items())), *others]:
        try:
            weights = load()
        except Exception as error:  # whatever a store raises: the others are compared all the same
            logger.info("%s is not compared: there is none to load (%s)", name, str(error).splitlines()[0])
            continue
        yield name, source, weights
