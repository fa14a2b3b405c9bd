"""Figures of a detector: ROC and score histograms."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from crack_pipeline.evaluation.figures import (
    BLUE,
    COLOURS,
    INK,
    PALE,
    PERCENT,
    VERMILLION,
    message_figure,
    new_figure,
    short_name,
    tidy,
)

COLOUR_OF_LABEL = {"normal": BLUE, "crack": VERMILLION}


def caption(path: str, score: float, threshold: float) -> str:
    """Name an image with its score and the side of the threshold it is on, for the caption of a sample.

    Examples
    --------
    >>> print(caption("Positive/00012.jpg", 0.01416, 0.011993))
    00012.jpg
    score 0.01416 > 0.01199
    """
    sign = ">" if score > threshold else "≤"
    return f"{short_name(path)}\nscore {score:.4g} {sign} {threshold:.4g}"


def roc_curves(
    predictions: Mapping[str, pd.DataFrame],
    *,
    thresholds: Mapping[str, float] | None = None,
    dashed: Collection[str] = (),
) -> Figure:
    """Draw ROC curves, once as they are and once with a logarithmic axis of the few false alarms.

    Parameters
    ----------
    predictions
        By the name in the legend: ``label`` ("normal" or "crack") and ``score`` (float, higher is more
        likely cracked), a row per image. Those of one label only are named, but have no curve.
    thresholds
        Score above which an image is called cracked, by the same names; marked on the curve.
    dashed
        Names of curves that are drawn dashed, such as the baseline's.

    Returns
    -------
    matplotlib.figure.Figure
    """
    # It takes a second to import, and only this figure needs it.
    from sklearn.metrics import roc_auc_score, roc_curve

    figure = new_figure(9.2, 4.3)
    whole, few = figure.subplots(1, 2)
    whole.plot([0, 1], [0, 1], color=PALE, linewidth=1.2, zorder=1)
    normals = [int((table["label"] == "normal").sum()) for table in predictions.values()]
    least = 1 / max([10, *normals])
    lowest = 1.0
    for number, (name, table) in enumerate(predictions.items()):
        is_crack = (table["label"] == "crack").to_numpy()
        scores = table["score"].to_numpy(np.float64)
        colour, style = COLOURS[number % len(COLOURS)], (0, (4, 2)) if name in dashed else "-"
        if is_crack.all() or not is_crack.any():
            whole.plot([], [], color=colour, linestyle=style, label=f"{name}: one label only, no curve")
            continue
        fpr, tpr, _ = roc_curve(is_crack, scores)
        label = f"{name}: AUC {roc_auc_score(is_crack, scores):.4f}"
        lowest = min(lowest, float(tpr[fpr <= least].max()))
        # On the logarithmic axis, no false alarm at all is drawn at its left end.
        for axes, x in ((whole, fpr), (few, np.maximum(fpr, least / 2))):
            axes.plot(x, tpr, color=colour, linestyle=style, linewidth=1.6, label=label, drawstyle="steps-post")
        if thresholds and name in thresholds:
            called = scores > thresholds[name]
            found, alarms = float(called[is_crack].mean()), float(called[~is_crack].mean())
            lowest = min(lowest, found)
            for axes, x in ((whole, alarms), (few, max(alarms, least * 0.8))):
                axes.plot(x, found, "o", color=colour, markeredgecolor="white", markersize=7, zorder=5)
    lowest = max(0.0, np.floor(10 * lowest - 0.3) / 10)
    for axes, low, title in ((whole, 0.0, "ROC"), (few, lowest, "the same at few false alarms")):
        tidy(axes)
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        axes.set_ylim(low - 0.015 * (1 - low), 1 + 0.015 * (1 - low))
        axes.set_xlabel("false alarms among normal images")
        axes.yaxis.set_major_formatter(PERCENT)
        axes.xaxis.set_major_formatter(PERCENT)
    whole.set_xlim(-0.015, 1.015)
    few.set_xscale("log")
    few.set_xlim(least * 0.8, 1.1)
    few.xaxis.set_major_formatter(PERCENT)
    whole.set_ylabel("cracks found")
    if predictions:
        whole.legend(
            frameon=False,
            fontsize=8.5,
            loc="lower right",
            title="● at the threshold" if thresholds else None,
            title_fontsize=8.5,
            alignment="left",
        )
    return figure


def score_histogram(
    predictions: Mapping[str, pd.DataFrame], threshold: float, *, score_name: str = "score", bins: int = 45
) -> Figure:
    """Draw how the scores of each label are distributed about the threshold, a panel per set.

    Parameters
    ----------
    predictions
        By the name of the set: ``label`` ("normal" or "crack"; other images are left aside) and ``score``
        (float, finite).
    threshold
        Score above which an image is called cracked.
    score_name
        Name and unit for the axis.
    bins
        Number of bins over the range of all sets.

    Returns
    -------
    matplotlib.figure.Figure
        The score's axis is logarithmic where all scores are positive and span more than a factor of 20. The
        heights are shares of the images of a label.
    """
    every = np.concatenate([t["score"].to_numpy(np.float64) for t in predictions.values()] or [np.zeros(0)])
    if every.size == 0:
        return message_figure(f"Distribution of {score_name}", "no image was scored")
    low, high = min(float(every.min()), threshold), max(float(every.max()), threshold)
    logarithmic = low > 0 and high > 20 * low
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.geomspace(low, high, bins + 1) if logarithmic else np.linspace(low, high, bins + 1)
    figure = new_figure(4.6 * len(predictions) + 0.4, 3.7)
    panels = figure.subplots(1, len(predictions), squeeze=False, sharey=True)[0]
    for axes, (name, table) in zip(panels, predictions.items(), strict=True):
        said = []
        for label, colour in COLOUR_OF_LABEL.items():
            scores = table.loc[table["label"] == label, "score"].to_numpy(np.float64)
            if scores.size == 0:
                continue
            share = np.full(len(scores), 1 / len(scores))
            common = {"bins": list(edges), "weights": share}
            axes.hist(scores, **common, histtype="stepfilled", color=colour, alpha=0.28)
            line = "-" if label == "normal" else (0, (4, 1.5))
            axes.hist(scores, **common, histtype="step", color=colour, linewidth=1.4, linestyle=line)
            wrong = int((scores > threshold).sum() if label == "normal" else (scores <= threshold).sum())
            side = "above" if label == "normal" else "not above"
            said.append((colour, line, f"{label}: {wrong:,} of {len(scores):,} {side}"))
        axes.axvline(threshold, color=INK, linewidth=1.2)
        if logarithmic:
            axes.set_xscale("log")
        tidy(axes)
        axes.set_xlabel(score_name)
        axes.yaxis.set_major_formatter(PERCENT)
        for colour, line, text in said:
            axes.plot([], [], color=colour, linestyle=line, linewidth=1.6, label=text)
        axes.plot([], [], color=INK, linewidth=1.2, label=f"threshold {threshold:.4g}")
        axes.legend(
            frameon=False,
            fontsize=8.5,
            loc="lower left",
            bbox_to_anchor=(-0.01, 1.0),
            title=name,
            title_fontproperties={"size": 10, "weight": "bold"},
            alignment="left",
        )
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("images of the label, per bin")
    return figure
