"""Metrics of a segmenter, from what was counted in each photograph."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from crack_pipeline.evaluation.bootstrap import Measure, percentile_interval, resampled_weights
from crack_pipeline.evaluation.metrics import ratio, with_interval
from crack_pipeline.evaluation.segmentation_counts import LEVELS, PhotographCounts, ThresholdCounts, level_of

WITH_INTERVAL = (
    "dice",
    "iou",
    "precision",
    "recall",
    "f1",
    "dice_per_image",
    "miou",
    "f1_tolerant",
    "average_precision",
    "cldice",
)

Array = NDArray[np.float64]


def threshold_curve(levels: NDArray[np.int64]) -> pd.DataFrame:
    """Measure every threshold.

    Parameters
    ----------
    levels
        (2, 256): background and crack pixels of each level, summed over the photographs.

    Returns
    -------
    pandas.DataFrame
        A row for each threshold k/256, k = 0 to 255: ``threshold``, ``precision``, ``recall``, ``dice``, ``iou``,
        ``miou`` (mean of crack and background IoU); NaN where undefined.
    """
    fp, tp = np.cumsum(levels[:, ::-1], axis=1)[:, ::-1].astype(np.float64)
    n_background, n_crack = levels.sum(axis=1)
    measured = _overlap(tp, fp, n_crack - tp, n_background - fp)
    return pd.DataFrame({"threshold": np.arange(LEVELS) / LEVELS, **measured})


def choose_threshold(levels: NDArray[np.int64], objective: Literal["dice", "miou"] = "dice") -> float:
    """Choose the threshold with the best metric over all pixels.

    Parameters
    ----------
    levels
        (2, 256): background and crack pixels of each level, summed over the validation photographs.
    objective
        ``dice`` (which also makes IoU and F1 the largest) or ``miou``.

    Returns
    -------
    float
        k/256, k = 1 to 255. Where a range of thresholds is equally good, the middle of it; of several such ranges,
        the middle of the longest.

    Raises
    ------
    ValueError
        If no pixel is cracked, or the objective is another.

    Examples
    --------
    >>> levels = np.zeros((2, 256), np.int64)
    >>> levels[0, 99], levels[1, 200] = 1000, 10
    >>> choose_threshold(levels) * 256
    150.0
    """
    if objective not in ("dice", "miou"):
        raise ValueError(f"objective is 'dice' or 'miou', got {objective!r}")
    if not levels[1].any():
        raise ValueError(
            "a threshold is chosen on photographs with cracks, and none of their pixels is marked as crack: "
            "check the masks and which of their values mean crack"
        )
    values = threshold_curve(levels)[objective].to_numpy()[1:]
    best = np.flatnonzero(values == np.nanmax(values)) + 1
    ranges = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    longest = max(ranges, key=len)
    return float(longest[(len(longest) - 1) // 2]) / LEVELS


def segmentation_metrics(
    counts: Sequence[PhotographCounts],
    threshold: float,
    groups: ArrayLike,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a segmenter on one set of photographs with masks.

    Parameters
    ----------
    counts
        Of each photograph, n of them; with counts at this threshold, where ``f1_tolerant`` and ``cldice`` are wanted.
    threshold
        Probability from which on a pixel is called crack, a multiple of 1/256.
    groups
        Near-duplicate group of each photograph, shape (n,); the bootstrap draws whole groups.
    resamples
        Resamples of the bootstrap; 0 leaves the intervals out (None).
    level
        Coverage of the intervals, above 0 and below 1; 0.95 is what their names say.
    seed
        Of the bootstrap.

    Returns
    -------
    dict
        Plain floats and integers, 0 to 1. Over the pixels of all photographs together: ``dice``, ``f1`` (the same
        number), ``iou``, ``precision``, ``recall``, ``miou`` (mean of the IoU of crack and of background),
        ``average_precision`` (of the 256 levels), ``f1_tolerant`` (harmonic mean of the shares of predicted pixels
        near a true one and of true pixels near a predicted one, see
        :func:`~crack_pipeline.evaluation.segmentation_counts.count`) and ``cldice`` (harmonic mean of the shares of
        the predicted centreline on the true crack and of the true centreline on the predicted crack; it falls where
        a crack is torn). ``dice_per_image`` is the mean of the photographs' own Dice, 1 for a photograph without
        true and without predicted crack; a photograph that is ignored altogether is left out. Each has
        ``<name>_ci95`` as [low, high]. ``n`` is {photographs, pixels, crack_pixels}, ignored pixels left out.
        What is undefined is None: recall and ``average_precision`` without a true crack, precision if nothing is
        predicted, the others if neither is; resamples in which a metric is undefined are left out of
        its interval. ``f1_tolerant`` and ``cldice`` are None unless every photograph was counted at the threshold.

    Raises
    ------
    ValueError
        If there is no photograph, the lengths differ, or the counts were made at another threshold.

    Notes
    -----
    Every metric is a function of sums over photographs, so a resample is a vector of weights: 1,000 resamples of
    10,000 photographs take some seconds.
    """
    group = np.asarray(groups)
    if not counts or group.shape != (len(counts),):
        raise ValueError(f"counts and groups must be of one length, above 0, got {len(counts)} and {group.shape}")
    sums = _Summands(counts, threshold)
    point = sums.measure(np.ones((1, len(counts)), np.int32))
    intervals: dict[str, list[float] | None] = dict.fromkeys(WITH_INTERVAL)
    if resamples:
        drawn = [sums.measure(w) for w in resampled_weights(group, resamples=resamples, seed=seed)]
        for name in WITH_INTERVAL:
            intervals[name] = percentile_interval(np.concatenate([part[name] for part in drawn]), level)
    result: dict[str, Any] = {name: _plain(point[name][0]) for name in WITH_INTERVAL}
    result |= {f"{name}_ci95": None if result[name] is None else intervals[name] for name in WITH_INTERVAL}
    pixels = sums.levels.sum(axis=0)
    return result | {
        "n": {
            "photographs": len(counts),
            "pixels": int(pixels.sum()),
            "crack_pixels": int(pixels[LEVELS:].sum()),
        }
    }


def segmentation_measure(counts: Sequence[PhotographCounts], threshold: float) -> Measure:
    """Give the function that measures a segmenter on the photographs of any resample, so that several can share one.

    Parameters
    ----------
    counts, threshold
        As for :func:`segmentation_metrics`, which says what is refused, and what each metric means.

    Returns
    -------
    Measure
        Of `WITH_INTERVAL`.
    """
    if not counts:
        raise ValueError("there is no photograph to measure a segmenter on")
    return _Summands(counts, threshold).measure


class _Summands:
    """What is added up over the photographs, a row each."""

    def __init__(self, counts: Sequence[PhotographCounts], threshold: float) -> None:
        _check_threshold(counts, threshold)
        self.levels = np.stack([photograph.levels.ravel() for photograph in counts]).astype(np.float64)
        own = photograph_table(counts, threshold)
        dice = own["dice"].to_numpy()
        self.dice = np.stack([np.nan_to_num(dice), ~np.isnan(dice)], axis=1)
        self.first = level_of(threshold)
        at = [photograph.at for photograph in counts]
        self.at = None if None in at else np.array([_near_and_line(a) for a in at if a is not None], np.float64)

    def measure(self, weights: NDArray[np.int32]) -> dict[str, Array]:
        """Metrics of each row of weights (k, n); NaN where undefined."""
        times = weights.astype(np.float64)
        levels = (times @ self.levels).reshape(-1, 2, LEVELS)
        n_background, n_crack = levels.sum(axis=2).T
        fp, tp = levels[:, :, self.first :].sum(axis=2).T
        found = _overlap(tp, fp, n_crack - tp, n_background - fp)
        dice, photographs = (times @ self.dice).T
        found |= {
            "f1": found["dice"],
            "dice_per_image": ratio(dice, photographs),
            "average_precision": _average_precision(levels),
        }
        if self.at is None:
            return found | dict.fromkeys(("f1_tolerant", "cldice"), np.full(len(times), np.nan))
        predicted_near, true_near, *line = (times @ self.at).T
        found["f1_tolerant"] = _harmonic(ratio(predicted_near, tp + fp), ratio(true_near, n_crack), tp + fp + n_crack)
        found["cldice"] = _harmonic(ratio(line[1], line[0]), ratio(line[3], line[2]), line[0] + line[2])
        return found


def photograph_table(counts: Sequence[PhotographCounts], threshold: float) -> pd.DataFrame:
    """Measure each photograph by itself.

    Parameters
    ----------
    counts
        Of each photograph.
    threshold
        Probability from which on a pixel is called crack, a multiple of 1/256.

    Returns
    -------
    pandas.DataFrame
        ``dice``, ``iou``, ``precision``, ``recall`` (float), ``pixels``, ``crack_pixels``, ``predicted_pixels`` (int,
        ignored ones left out), a row per photograph. ``dice`` and ``iou`` are 1 without true and without predicted
        crack, and NaN if every pixel is ignored; the others are NaN where undefined.
    """
    levels = np.stack([photograph.levels for photograph in counts]) if counts else np.zeros((0, 2, LEVELS), np.int64)
    n_background, n_crack = levels.sum(axis=2).T
    fp, tp = levels[:, :, level_of(threshold) :].sum(axis=2).T
    found = _overlap(*(n.astype(np.float64) for n in (tp, fp, n_crack - tp, n_background - fp)))
    pixels = n_background + n_crack
    nothing = (n_crack + fp == 0) & (pixels > 0)
    return pd.DataFrame(
        {
            "dice": np.where(nothing, 1.0, found["dice"]),
            "iou": np.where(nothing, 1.0, found["iou"]),
            "precision": found["precision"],
            "recall": found["recall"],
            "pixels": pixels,
            "crack_pixels": n_crack,
            "predicted_pixels": tp + fp,
        }
    )


def by_width_table(
    counts: Sequence[PhotographCounts],
    groups: ArrayLike,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Measure how much of the cracks is found, by the width of the crack at each pixel.

    Parameters
    ----------
    counts
        Of each photograph, with counts at one threshold and with the same classes of width.
    groups, resamples, level, seed
        As for :func:`segmentation_metrics`.

    Returns
    -------
    pandas.DataFrame
        A row for each class: ``width`` (text), ``from_px``, ``to_px`` (float, below which it ends), ``true_pixels``
        (int), ``share`` of all crack pixels, ``recall``, ``recall_low``, ``recall_high``, ``recall_tolerant``,
        ``recall_tolerant_low``, ``recall_tolerant_high`` (float; NaN where the class is empty, or without resamples).

    Raises
    ------
    ValueError
        If there is no photograph, one was not counted at a threshold, or they differ in threshold or classes.
    """
    at = [photograph.at for photograph in counts if photograph.at is not None]
    group = np.asarray(groups)
    if not counts or len(at) != len(counts) or group.shape != (len(counts),):
        raise ValueError(
            "results by width need photographs counted at a threshold, with a group each, got "
            f"{len(counts)} photographs, {len(at)} of them so counted, and groups of shape {group.shape}"
        )
    _check_threshold(counts, at[0].threshold)
    edges = at[0].width_edges
    if any(not np.array_equal(a.width_edges, edges) for a in at):
        raise ValueError("the photographs were counted in different classes of width: count them all again")
    summands = np.stack([np.stack([a.width_true, a.width_hit, a.width_near]) for a in at]).astype(np.float64)
    true, hit, near = summands.sum(axis=0)
    columns: dict[str, Any] = {
        "width": [_width_name(low, high) for low, high in pairwise(edges.tolist())],
        "from_px": edges[:-1],
        "to_px": edges[1:],
        "true_pixels": true.astype(np.int64),
        "share": ratio(true, np.full(len(true), true.sum())),
    }
    flat = summands.reshape(len(at), -1)
    drawn = [np.zeros((0, *summands.shape[1:]))]
    if resamples:
        weights = resampled_weights(group, resamples=resamples, seed=seed)
        drawn += [(w.astype(np.float64) @ flat).reshape(-1, *summands.shape[1:]) for w in weights]
    sums = np.concatenate(drawn)
    for row, (name, found) in enumerate({"recall": hit, "recall_tolerant": near}.items(), start=1):
        columns[name] = ratio(found, true)
        ends = [percentile_interval(values, level) for values in ratio(sums[:, row], sums[:, 0]).T]
        for side, end in enumerate(("low", "high")):
            columns[f"{name}_{end}"] = [math.nan if pair is None else pair[side] for pair in ends]
    return pd.DataFrame(columns)


def metrics_table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Lay out the metrics of a segmenter as a table: a row per set.

    Parameters
    ----------
    metrics
        ``{"sets": {set: S}}``, where S is what :func:`segmentation_metrics` returns.

    Returns
    -------
    pandas.DataFrame
        ``set``, ``dice`` (text, with its interval), ``iou``, ``miou``, ``precision``, ``recall``, ``f1_tolerant``,
        ``cldice``, ``dice_per_image``, ``average_precision`` (float, NaN where undefined), ``photographs`` (int).
    """
    numbers = (
        "iou",
        "miou",
        "precision",
        "recall",
        "f1_tolerant",
        "cldice",
        "dice_per_image",
        "average_precision",
    )
    rows = []
    for name, found in metrics["sets"].items():
        row = {"set": name, "dice": with_interval(found, "dice")}
        row |= {column: math.nan if found[column] is None else found[column] for column in numbers}
        rows.append(row | {"photographs": found["n"]["photographs"]})
    return pd.DataFrame(rows, columns=["set", "dice", *numbers, "photographs"])


def _check_threshold(counts: Sequence[PhotographCounts], threshold: float) -> None:
    other = {p.at.threshold for p in counts if p.at is not None} - {float(threshold)}
    if other:
        raise ValueError(
            f"the photographs were counted at the threshold {other.pop():g}, and {threshold:g} is asked for: "
            "count them again"
        )
    if len({p.at.tolerance for p in counts if p.at is not None}) > 1:
        raise ValueError("the photographs were counted with different tolerances: count them all again")


def _near_and_line(at: ThresholdCounts) -> tuple[int, ...]:
    lines = (at.predicted_line, at.predicted_line_hit, at.true_line, at.true_line_hit)
    return at.predicted_near, at.true_near, *lines


def _overlap(tp: Array, fp: Array, fn: Array, tn: Array) -> dict[str, Array]:
    iou = ratio(tp, tp + fp + fn)
    return {
        "precision": ratio(tp, tp + fp),
        "recall": ratio(tp, tp + fn),
        "dice": ratio(2 * tp, 2 * tp + fp + fn),
        "iou": iou,
        "miou": (iou + ratio(tn, tn + fp + fn)) / 2,
    }


def _average_precision(levels: Array) -> Array:
    """Average precision of each (2, 256) of levels (k, 2, 256): precision at each level times the recall it adds."""
    above = np.cumsum(levels[:, :, ::-1], axis=2)
    gained = levels[:, 1, ::-1]
    precision = above[:, 1] / np.maximum(above.sum(axis=1), 1)
    return ratio((gained * precision).sum(axis=1), above[:, 1, -1])


def _harmonic(a: Array, b: Array, whole: Array) -> Array:
    """Harmonic mean; 0 where one is undefined but not both, as ``whole``, the sum of what they divide by, tells."""
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    mean = np.divide(2 * a * b, a + b, out=np.zeros(len(a)), where=a + b > 0)
    return np.where(whole > 0, mean, np.nan)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _width_name(low: float, high: float) -> str:
    if low <= 1:
        return "all" if math.isinf(high) else f"below {high:g} px"
    return f"{low:g} px and more" if math.isinf(high) else f"{low:g} to below {high:g} px"
