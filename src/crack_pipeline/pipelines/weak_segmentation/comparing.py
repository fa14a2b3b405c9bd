"""Nodes that set every way beside each other, on the same photographs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation import segmentation_counts as counting
from crack_pipeline.evaluation.comparison_figure import comparison_figure
from crack_pipeline.evaluation.metrics import with_interval
from crack_pipeline.evaluation.segmentation_metrics import segmentation_metrics
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.imaging.simulated_squares import SimulatedSquares
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.segmentation.evaluating import count_new
from crack_pipeline.pipelines.segmentation.parameters import Report, Training
from crack_pipeline.pipelines.segmentation.pictures import summarise as summarise_segmentation
from crack_pipeline.pipelines.segmentation.pictures import summarise_evaluation as summarise_segmentation_evaluation
from crack_pipeline.pipelines.segmentation.predicting import levels
from crack_pipeline.pipelines.segmentation.training import pack_segmenter, rebuild, tiles_for
from crack_pipeline.pipelines.steps import select
from crack_pipeline.pipelines.weak_segmentation.parameters import SelfTraining, Threshold, Way
from crack_pipeline.pipelines.weak_segmentation.teaching import choose_threshold
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

Loader = Callable[[], Weights]

_MEASURES = ("dice", "iou", "precision", "recall", "f1_tolerant", "dice_per_image", "miou")
_SIMULATED, _MASKS = "simulated cracks", "masks"
_SOUND_BY_MASKS, _SOUND_BY_LABELS = ", on concrete that masks call sound", ", on concrete that labels call sound"
_TIMED = 10


def keep_ways(
    segmenter: Weights,
    first_weights: Weights,
    sound_validation: SimulatedSquares,
    way: Way,
    self_training: SelfTraining,
    threshold: Threshold,
    start: Training,
    tiles: Tiles,
    plan: Plan,
) -> dict[str, Weights]:
    """Name segmenters by how, and from which data set, they were trained, so that later ones can be compared to them.

    Parameters
    ----------
    segmenter
        What came out.
    first_weights, way, self_training
        What its rounds began with: kept too where it has learned from simulated cracks. Otherwise it is a classifier,
        or stands in the comparison already.
    sound_validation, threshold, start, tiles, plan
        How its threshold is chosen.
    """
    kept = [segmenter]
    if way.root == "self_training" and self_training.start == "simulated":
        chosen = choose_threshold(first_weights, sound_validation, threshold, start, tiles, plan)
        kept.append(pack_segmenter(first_weights, chosen, tiles, start, plan))
    return {_name(weights.facts): weights for weights in kept}


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
        training (missing where it is not known), ``images_per_second`` and ``megapixels_per_second`` in use. Empty
        where no mask of a crack is known.
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
        try:
            measured = measure_segmenter(weights, images, table, tiles, report, plan)
        except Exception as error:  # it may be of other photographs, grey ones, say, or of another version
            logger.warning("%s is not compared: %s", name, " ".join(str(error).split()))
            continue
        row = {
            "segmenter": name,
            "learned_from": source,
            **measured,
            "seen": int(table["photo_id"].isin(weights.facts.get("learned_from", ())).sum()),
            "minutes": weights.facts.get("minutes"),
            **_speed(weights, images, table["row"].astype(int).tolist()[:_TIMED], tiles, plan),
        }
        rows.append(row)
    ends = ["threshold", "photographs", "seen", "minutes", "images_per_second", "megapixels_per_second"]
    columns = ["segmenter", "learned_from", *(f"{m}{end}" for m in _MEASURES for end in ("", "_low", "_high")), *ends]
    found = pd.DataFrame(rows, columns=columns)
    return found.astype({"minutes": np.float64}).sort_values("dice", kind="stable", ignore_index=True)


def measure_segmenter(
    segmenter: Weights, images: PhotographStack, manifest: pd.DataFrame, tiles: Tiles, report: Report, plan: Plan
) -> dict[str, Any]:
    """Measure a segmenter on photographs with masks.

    Returns
    -------
    dict
        The metrics with ``<name>_low`` and ``<name>_high`` (95 %, bootstrap; None where there is none), ``threshold``
        and the number of ``photographs``.
    """
    counts = count_new(segmenter, images, manifest, tiles, plan)
    threshold = float(segmenter.facts["threshold"])
    measured = segmentation_metrics(
        counting.from_table(counts), threshold, counts["group"], resamples=report.resamples, seed=report.seed
    )
    row: dict[str, Any] = {}
    for measure in _MEASURES:
        low, high = measured[f"{measure}_ci95"] or (None, None)
        row |= {measure: measured[measure], f"{measure}_low": low, f"{measure}_high": high}
    return {**row, "threshold": threshold, "photographs": len(manifest)}


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
    lines = [summarise_segmentation(metrics, widths, threshold, quarantine, data), *_photographs(metrics)]
    return "\n".join([*lines, *_lines(comparison)])


def summarise_evaluation(
    evaluation: Mapping[str, Any], widths: pd.DataFrame, quarantine: pd.DataFrame, comparison: pd.DataFrame
) -> str:
    """Say in a few lines how good the segmenters are on other photographs."""
    lines = [summarise_segmentation_evaluation(evaluation, widths, quarantine), *_photographs(evaluation)]
    return "\n".join([*lines, *_lines(comparison)])


def _photographs(metrics: Mapping[str, Any]) -> list[str]:
    found = metrics["photographs"]
    number = found["n"]
    if found["roc_auc"] is None:
        return []
    return [
        "",
        f"{number['crack']:,} photographs labelled as cracked are told from {number['normal']:,} others with ROC-AUC "
        f"{with_interval(found, 'roc_auc')}",
    ]


def _name(facts: Mapping[str, Any]) -> str:
    name = facts["way"] if facts["way"] == facts["start"] else f"{facts['way']}_from_{facts['start']}"
    encoder = facts["network"].get("encoder")
    name += f"_{encoder}" if encoder else ""
    wrong = f"-{100 * facts['wrong_labels']:g}_percent_wrong" if facts["wrong_labels"] else ""
    return f"{name}-{facts['dataset']}{wrong}"


def _lines(comparison: pd.DataFrame) -> list[str]:
    if comparison.empty:
        return ["", "no mask of a crack is known of these photographs: the segmenters cannot be compared on them"]
    columns = ["segmenter", "learned_from", "dice", "iou", "f1_tolerant", "minutes", "images_per_second"]
    shown = comparison[columns].rename(columns={"images_per_second": "images/s"})
    table = shown.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep="?")
    lines = ["", "all segmenters that there are, on the same photographs:", table]
    for _, row in comparison[comparison["seen"] > 0].iterrows():
        lines.append(
            f"{row['segmenter']} has learned from {row['seen']:,} of these {row['photographs']:,} photographs: it "
            "would be worse on others"
        )
    return lines


def _found(ways: Mapping[str, Loader], label_free: Loader, supervised: Loader) -> Iterator[tuple[str, str, Weights]]:
    for name, load in [*sorted(ways.items()), ("label_free", label_free), ("segmentation", supervised)]:
        try:
            weights = load()
        except Exception as error:  # whatever a store raises: the others are compared all the same
            logger.info("%s is not compared, it cannot be loaded: %s", name, " ".join(str(error).split()))
            continue
        yield name, _MASKS if load is supervised else _source(weights.facts), weights


def _source(facts: Mapping[str, Any]) -> str:
    """Say what a segmenter without masks has learned from; where facts are missing it is an older one."""
    way = facts.get("way")
    if way == "simulated":
        return _SIMULATED + _SOUND_BY_LABELS
    if way is None:
        return _SIMULATED + (_SOUND_BY_MASKS if facts.get("masks_used", True) else "")
    labels = "labels of photographs" if facts.get("whole_photographs") else "labels of squares"
    simulated = f" and {_SIMULATED}" if facts.get("simulated_cracks", way != "published") else ""
    return labels + simulated + (_SOUND_BY_MASKS if facts.get("masks_used") else "")


def _speed(weights: Weights, images: PhotographStack, rows: list[int], tiles: Tiles, plan: Plan) -> dict[str, float]:
    """Time a few photographs, without counting anything in them."""
    network, how = rebuild(weights), tiles_for(weights, tiles)
    levels(network, images.photograph(rows[0]), plan, how)
    began = time.monotonic()
    pixels = sum(levels(network, images.photograph(row), plan, how).size for row in rows)
    seconds = time.monotonic() - began
    return {"images_per_second": len(rows) / seconds, "megapixels_per_second": pixels / 1e6 / seconds}
