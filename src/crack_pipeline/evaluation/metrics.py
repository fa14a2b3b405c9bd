"""Metrics of a detector: how well a score tells cracked images from sound ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from crack_pipeline.evaluation.bootstrap import Measure, percentile_interval, resampled_weights

WITH_INTERVAL = ("roc_auc", "average_precision", "precision", "recall")


def detection_metrics(
    label_is_crack: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    groups: ArrayLike,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure a detector on one labelled set; an image is called cracked if its score is above the threshold.

    Parameters
    ----------
    label_is_crack
        Whether each image shows a crack, shape (n,), bool.
    scores
        Shape (n,), float, finite; higher is more likely cracked.
    threshold
        In the unit of the scores.
    groups
        Near-duplicate group of each image, shape (n,); the bootstrap draws whole groups.
    resamples
        Resamples of the bootstrap; 0 leaves the intervals out (None).
    level
        Coverage of the intervals, above 0 and below 1; 0.95 is what their names say.
    seed
        Of the bootstrap.

    Returns
    -------
    dict
        Plain floats and integers: ``roc_auc``, ``average_precision``, ``precision``, ``recall``, ``f1``,
        ``fpr`` (all 0 to 1), ``confusion`` {tn, fp, fn, tp}, ``n`` {normal, crack}, and ``roc_auc_ci95``,
        ``average_precision_ci95``, ``precision_ci95``, ``recall_ci95`` as [low, high]. A metric that is
        undefined on these images is None: the first two if a label is absent, recall without cracks, fpr
        without normal images, precision if nothing is called cracked, f1 if nothing is and nothing should be.
        Resamples in which a metric is undefined are left out of its interval.

    Raises
    ------
    ValueError
        If the arrays differ in length, are empty or hold a score that is not finite.

    Notes
    -----
    Equal to scikit-learn's ``roc_auc_score`` and ``average_precision_score``, ties included. The scores are
    sorted once; a resample is a vector of weights over the sorted images, so that 1,000 resamples of 10,000
    images take about a second.

    Examples
    --------
    >>> found = detection_metrics([False, False, True, True], [0.1, 0.4, 0.35, 0.8], 0.3, [1, 2, 3, 4])
    >>> found["roc_auc"], found["recall"], found["confusion"]
    (0.75, 1.0, {'tn': 1, 'fp': 1, 'fn': 0, 'tp': 2})
    """
    is_crack, values, group = np.asarray(label_is_crack), np.asarray(scores, np.float64), np.asarray(groups)
    _check(is_crack, values, threshold, group)
    ranking = _Ranking(is_crack, values, threshold)
    point = ranking.measure(np.ones((1, len(values)), np.int32))
    intervals: dict[str, list[float] | None] = dict.fromkeys(WITH_INTERVAL)
    if resamples:
        drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in WITH_INTERVAL}
        for weights in resampled_weights(group[ranking.order], resamples=resamples, seed=seed):
            found = ranking.measure(weights)
            for name in WITH_INTERVAL:
                drawn[name].append(found[name])
        intervals = {name: percentile_interval(np.concatenate(drawn[name]), level) for name in WITH_INTERVAL}

    called = values > threshold
    tp, fp = int((called & is_crack).sum()), int((called & ~is_crack).sum())
    fn, tn = int(is_crack.sum()) - tp, int((~is_crack).sum()) - fp
    result: dict[str, Any] = {name: None if np.isnan(value[0]) else float(value[0]) for name, value in point.items()}
    result |= {f"{name}_ci95": None if result[name] is None else intervals[name] for name in WITH_INTERVAL}
    return result | {
        "confusion": {"tn": tn, "fp": fp, "fn": fn, "tp": tp},
        "n": {"normal": tn + fp, "crack": fn + tp},
    }


def detection_measure(label_is_crack: ArrayLike, scores: ArrayLike, threshold: float) -> Measure:
    """Give the function that measures a detector on the images of any resample, so that several can share one.

    Parameters
    ----------
    label_is_crack, scores, threshold
        As for :func:`detection_metrics`, which says what is refused.

    Returns
    -------
    Measure
        Of ``roc_auc``, ``average_precision``, ``precision``, ``recall``, ``f1`` and ``fpr``.
    """
    is_crack, values = np.asarray(label_is_crack), np.asarray(scores, np.float64)
    _check(is_crack, values, threshold, is_crack)
    ranking = _Ranking(is_crack, values, threshold)
    return lambda weights: ranking.measure(weights[:, ranking.order])


def _check(is_crack: NDArray[Any], values: NDArray[np.float64], threshold: float, group: NDArray[Any]) -> None:
    if values.ndim != 1 or values.size == 0 or not is_crack.shape == values.shape == group.shape:
        raise ValueError(
            "labels, scores and groups must be lists of one length, above 0, got shapes "
            f"{is_crack.shape}, {values.shape} and {group.shape}"
        )
    if is_crack.dtype != np.bool_:
        raise ValueError(f"label_is_crack must be bool, got {is_crack.dtype}: compare the labels with 'crack'")
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise ValueError(
            f"{len(wrong):,} of {len(values):,} scores are not finite: the first is {values[wrong[0]]}, at "
            f"row {wrong[0]}"
        )
    if np.isnan(threshold):
        raise ValueError("the threshold is not a number (nan)")


class _Ranking:
    """The images in the order of falling score, with what is the same in every resample."""

    def __init__(self, is_crack: NDArray[np.bool_], scores: NDArray[np.float64], threshold: float) -> None:
        self.order = np.argsort(-scores, kind="stable")
        falling = scores[self.order]
        self.is_crack = is_crack[self.order]
        self.last_of_tie = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
        self.called = int((falling > threshold).sum())

    def measure(self, weights: NDArray[np.int32]) -> dict[str, NDArray[np.float64]]:
        """Metrics of each row of weights (k, n), over the images in this order; NaN where undefined."""
        cracks = np.cumsum(weights * self.is_crack, axis=1, dtype=np.int64)
        every = np.cumsum(weights, axis=1, dtype=np.int64)
        n_crack = cracks[:, -1].astype(np.float64)
        n_normal = every[:, -1] - n_crack
        tp = cracks[:, self.called - 1].astype(np.float64) if self.called else np.zeros(len(weights))
        fp = every[:, self.called - 1] - tp if self.called else np.zeros(len(weights))

        cracks, every = cracks[:, self.last_of_tie], every[:, self.last_of_tie]
        gained = np.diff(cracks, axis=1, prepend=0)
        normals = every - cracks
        # Twice the area under the curve of cracks over normals, in whole numbers: exact.
        area = (np.diff(normals, axis=1, prepend=0) * (2 * cracks - gained)).sum(axis=1)
        both = np.where(n_normal > 0, n_crack, 0.0)
        return {
            "roc_auc": ratio(area, 2 * both * n_normal),
            "average_precision": ratio((gained * (cracks / np.maximum(every, 1))).sum(axis=1), both),
            "precision": ratio(tp, tp + fp),
            "recall": ratio(tp, n_crack),
            "f1": ratio(2 * tp, tp + fp + n_crack),
            "fpr": ratio(fp, n_normal),
        }


def ratio(part: NDArray[Any], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide, NaN where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0)


def metrics_table(metrics: Mapping[str, Any]) -> pd.DataFrame:
    """Lay out the metrics of a detector as a table: a row per score and set, the baseline last.

    Parameters
    ----------
    metrics
        ``{"score": name, "sets": {set: M}, "baseline": {"name": name, "sets": {set: M}}}``, where M is what
        :func:`detection_metrics` returns. ``"others": {name: {"sets": {set: M}}}`` (further scores) and
        ``"baseline"`` may be missing.

    Returns
    -------
    pandas.DataFrame
        ``score``, ``set``, ``roc_auc`` (text, with its interval), ``average_precision``, ``precision``,
        ``recall``, ``f1``, ``fpr`` (float, NaN where undefined), ``fp``, ``fn`` (int).
    """
    scores = {metrics["score"]: metrics, **metrics.get("others", {})}
    if "baseline" in metrics:
        scores[f"{metrics['baseline']['name']} (baseline)"] = metrics["baseline"]
    rows = []
    for name, entry in scores.items():
        for set_name, found in entry["sets"].items():
            row = {"score": name, "set": set_name, "roc_auc": with_interval(found, "roc_auc")}
            for column in ("average_precision", "precision", "recall", "f1", "fpr"):
                row[column] = float("nan") if found[column] is None else found[column]
            rows.append(row | {"fp": found["confusion"]["fp"], "fn": found["confusion"]["fn"]})
    columns = ["score", "set", "roc_auc", "average_precision", "precision", "recall", "f1", "fpr", "fp", "fn"]
    return pd.DataFrame(rows, columns=columns)


def with_interval(found: Mapping[str, Any], name: str) -> str:
    """Write a metric with its interval, where it has one."""
    value, interval = found[name], found.get(f"{name}_ci95")
    if value is None:
        return "undefined"
    return f"{value:.4f}" + (f" [{interval[0]:.4f}, {interval[1]:.4f}]" if interval else "")
