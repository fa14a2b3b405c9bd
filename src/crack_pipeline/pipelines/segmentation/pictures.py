"""Nodes that show what the segmenter does, and the lines that end a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation import segmentation_counts as counting
from crack_pipeline.evaluation import segmentation_figures as figures
from crack_pipeline.evaluation.figures import training_curves
from crack_pipeline.evaluation.segmentation_metrics import metrics_table, threshold_curve
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.segmentation.parameters import Report
from crack_pipeline.pipelines.segmentation.predicting import levels
from crack_pipeline.pipelines.segmentation.training import rebuild, tiles_for
from crack_pipeline.training.segmenting import Tiles


def draw_training_curves(training_history: pd.DataFrame) -> Figure:
    """Draw the losses, and Dice on validation crops, of every epoch."""
    return training_curves(training_history)


def draw_curves(pixel_counts: pd.DataFrame, segmenter: Weights) -> tuple[Figure, Figure]:
    """Draw precision against recall, and the metrics against the threshold, over all pixels together."""
    curve = threshold_curve(counting.total_levels(counting.from_table(pixel_counts)))
    threshold = float(segmenter.facts["threshold"])
    return figures.precision_recall({"segmenter": curve}, threshold), figures.threshold_figure(curve, threshold)


def draw_widths(widths: pd.DataFrame) -> Figure:
    """Draw how much of the cracks of each width is found."""
    return figures.width_figure(widths)


def draw_examples(
    segmenter: Weights,
    images: PhotographStack,
    manifest: pd.DataFrame,
    pixel_counts: pd.DataFrame,
    tiles: Tiles,
    plan: Plan,
    report: Report,
) -> Figure:
    """Show the photographs with the best, the middle and the worst Dice: hits, misses and false alarms."""
    threshold = float(segmenter.facts["threshold"])
    table = pixel_counts.merge(manifest[["image_id", "row"]], on="image_id")
    counts = counting.from_table(table)
    network, tiles = rebuild(segmenter), tiles_for(segmenter, tiles)
    samples = []
    for kind, at, dice in figures.choose_examples(counts, threshold, report.examples):
        row = int(table["row"].iloc[at])
        photograph = np.asarray(images.photograph(row))
        predicted = levels(network, photograph, plan, tiles) >= counting.level_of(threshold)
        samples.append(
            figures.Example(
                photograph, images.mask(row), predicted, f"{kind}: {table['path'].iloc[at]}, Dice {dice:.3f}"
            )
        )
    return figures.examples(samples)


def summarise(
    metrics: Mapping[str, Any],
    widths: pd.DataFrame,
    threshold: Mapping[str, Any],
    quarantine: pd.DataFrame,
    data: Mapping[str, Any],
) -> str:
    """Say in a few lines what was found and how good it is."""
    roles = ", ".join(f"{n:,} {role}" for role, n in data["roles"].items())
    lines = [
        f"{data['images']:,} photographs ({roles}); {len(quarantine):,} files in quarantine",
        f"a pixel is a crack from a probability of {threshold['threshold']:.3f} on, {_why(threshold)}",
        "",
        *_tables(metrics, widths),
    ]
    return "\n".join(lines)


def _why(threshold: Mapping[str, Any]) -> str:
    if "validation" not in threshold:
        return "as asked for"
    validation = threshold["validation"]
    return f"where Dice over the {_judges(validation)} is highest ({validation['dice']:.4f})"


def _judges(validation: Mapping[str, Any]) -> str:
    if "squares" in validation:
        return f"{validation['squares']:,} squares with simulated cracks"
    return f"{validation['photographs']:,} validation photographs"


def summarise_evaluation(evaluation: Mapping[str, Any], widths: pd.DataFrame, quarantine: pd.DataFrame) -> str:
    """Say in a few lines how good a trained segmenter is on other photographs."""
    lines = [f"{len(quarantine):,} files in quarantine"]
    if evaluation["learned_from"]:
        lines.append(
            f"the segmenter has learned from {evaluation['learned_from']:,} of the photographs, or was chosen on them: "
            "what follows is better than it would be on others"
        )
    return "\n".join([*lines, "", *_tables(evaluation, widths)])


def _tables(metrics: Mapping[str, Any], widths: pd.DataFrame) -> list[str]:
    if not metrics["sets"]:
        return ["no mask of a crack is known of these photographs: nothing can be said of single pixels"]
    shown = widths.loc[widths["true_pixels"] > 0, ["width", "share", "recall", "recall_tolerant"]]
    table = metrics_table(metrics).to_string(index=False, float_format=lambda value: f"{value:.4f}")
    if shown.empty:
        return [table, "", "none of these photographs shows a crack: nothing can be said of how well cracks are found"]
    return [
        table,
        "",
        "cracks by their width:",
        shown.to_string(index=False, float_format=lambda value: f"{value:.3f}"),
    ]
