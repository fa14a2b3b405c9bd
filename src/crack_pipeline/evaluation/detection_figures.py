"""Figures of a detector: training curves, ROC, score histograms and grids of images.

Every function returns a :class:`matplotlib.figure.Figure` of its own; pyplot and its global state are not
used, so that figures can be made in any thread and without a display. The colours are those of M. Okabe and
K. Ito ("Color Universal Design", 2008), which colour-blind readers tell apart too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score, roc_curve

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
)
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
INK, PALE = "#222222", "#D9D9D9"
COLOUR_OF_LABEL = {"normal": BLUE, "crack": VERMILLION}
DPI = 150
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.4g}%")


@dataclass(frozen=True)
class Sample:
    """One image with what belongs to it, for :func:`image_grid`.

    ``images``: one array per column; uint8 (H, W) or (H, W, 3), or, in a heat column, float (H, W).
    ``caption``: a line or two, shown above.
    """

    images: Sequence[NDArray[Any]]
    caption: str = ""


def caption(path: str, score: float, threshold: float) -> str:
    """Name an image with its score and the side of the threshold it is on, for the caption of a sample.

    Examples
    --------
    >>> print(caption("Positive/00012.jpg", 0.01416, 0.011993))
    00012.jpg
    score 0.01416 > 0.01199
    """
    name = PurePosixPath(path).name
    if len(name) > 30:
        name = f"{name[:16]}…{name[-13:]}"
    sign = ">" if score > threshold else "≤"
    return f"{name}\nscore {score:.4g} {sign} {threshold:.4g}"


def training_curves(history: pd.DataFrame, *, units: Mapping[str, str] | None = None) -> Figure:
    """Draw each quantity of a training over its epochs, a panel per quantity.

    Parameters
    ----------
    history
        ``epoch`` (int) and columns named ``train_<quantity>`` and ``validation_<quantity>`` (float, NaN
        where not measured). The panels are in the order of the columns.
    units
        Text after the name of a quantity, for example ``{"kl": "nats"}``.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = [c for c in history.columns if c.startswith(("train_", "validation_")) and history[c].notna().any()]
    quantities = list(dict.fromkeys(c.split("_", 1)[1] for c in columns))
    if not quantities:
        return _empty("Training", "no epoch was recorded")
    figure = _figure(3.6 * len(quantities) + 0.6, 3.2)
    for axes, quantity in zip(figure.subplots(1, len(quantities), squeeze=False)[0], quantities, strict=True):
        drawn: list[float] = []
        for part, colour, style, marker in (
            ("train", BLUE, "-", "o"),
            ("validation", VERMILLION, "--", "s"),
        ):
            if f"{part}_{quantity}" not in columns:
                continue
            line = history[["epoch", f"{part}_{quantity}"]].dropna().sort_values("epoch")
            values = line.iloc[:, 1].to_numpy(np.float64)
            drawn += [float(v) for v in values]
            markers = {"marker": marker, "markersize": 3.5} if len(line) <= 40 else {}
            axes.plot(line["epoch"], values, style, color=colour, label=part, linewidth=1.6, **markers)
        _tidy(axes)
        if min(drawn) > 0 and max(drawn) > 20 * min(drawn):
            axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
        axes.set_xlabel("epoch")
        unit = (units or {}).get(quantity)
        name = "KL divergence" if quantity == "kl" else quantity.replace("_", " ")
        axes.set_title(f"{name} ({unit})" if unit else name, loc="left", fontsize=10, color=INK)
        axes.legend(frameon=False, fontsize=8.5)
    return figure


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
    figure = _figure(9.2, 4.3)
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
        _tidy(axes)
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
        return _empty(f"Distribution of {score_name}", "no image was scored")
    low, high = min(float(every.min()), threshold), max(float(every.max()), threshold)
    logarithmic = low > 0 and high > 20 * low
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.geomspace(low, high, bins + 1) if logarithmic else np.linspace(low, high, bins + 1)
    figure = _figure(4.6 * len(predictions) + 0.4, 3.7)
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
        _tidy(axes)
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


def image_grid(
    samples: Sequence[Sample],
    columns: Sequence[str],
    *,
    title: str = "",
    heat_columns: Collection[int] = (),
    heat_unit: str = "",
    heat_range: tuple[float, float] | None = None,
    across: int = 1,
    cell: float = 1.35,
    none: str = "none",
) -> Figure:
    """Lay out images in a grid, each sample in a row with its caption.

    Parameters
    ----------
    samples
        In reading order.
    columns
        Title of each column, one per image of a sample.
    title
        Over the whole figure.
    heat_columns
        Indices of the columns that hold maps of numbers; they share one colour scale, whose bar is drawn.
    heat_unit
        What the numbers are, beside the colour bar.
    heat_range
        Ends of the colour scale; by default 0 (or the least value, where it is negative) to the 99.5th
        percentile of all maps, so that a few pixels do not leave the rest black.
    across
        Number of samples side by side.
    cell
        Width and height that an image gets, in inches.
    none
        What the figure says where there is no sample.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If a sample does not have an image per column.
    """
    for number, sample in enumerate(samples):
        if len(sample.images) != len(columns):
            raise ValueError(f"sample {number} has {len(sample.images)} images for {len(columns)} columns")
    if not samples:
        return _empty(title, none)
    maps = [np.asarray(s.images[k], np.float64) for s in samples for k in heat_columns]
    low, high = heat_range or _heat_range(maps)
    scale = Normalize(low, high)
    across = max(1, min(across, len(samples)))
    rows = -(-len(samples) // across)
    gap, between, margin = 0.06, 0.35, 0.18
    lines = max(s.caption.count("\n") + 1 if s.caption else 0 for s in samples)
    above = 0.155 * lines + 0.12
    top = (0.42 if title else 0.1) + 0.24
    block = len(columns) * cell + (len(columns) - 1) * gap
    bar = 0.85 if heat_columns else 0.0
    width = 2 * margin + across * block + (across - 1) * between + bar
    height = top + rows * (above + cell) + margin
    figure = Figure(figsize=(max(width, 3.0), height), dpi=DPI, facecolor="white")
    width = max(width, 3.0)
    if title:
        figure.text(margin / width, 1 - 0.14 / height, title, va="top", fontsize=11.5, color=INK, weight="bold")
    for number, sample in enumerate(samples):
        row, place = divmod(number, across)
        left = margin + place * (block + between)
        upper = height - top - row * (above + cell) - above
        figure.text(
            left / width,
            (upper + 0.05) / height,
            sample.caption,
            va="bottom",
            fontsize=7.5,
            color=INK,
            linespacing=1.15,
        )
        for k, image in enumerate(sample.images):
            x = left + k * (cell + gap)
            axes = figure.add_axes((x / width, (upper - cell) / height, cell / width, cell / height))
            _show(axes, np.asarray(image), scale if k in heat_columns else None)
            if row == 0:
                where = (x + cell / 2) / width, 1 - (top - 0.02) / height
                figure.text(*where, columns[k], ha="center", va="bottom", fontsize=9, color=INK)
    if heat_columns:
        length = min(3.0, rows * (above + cell) - above)
        first = height - top - above - length
        axes = figure.add_axes(((width - bar + 0.02) / width, first / height, 0.12 / width, length / height))
        clipped = "max" if any((m > high).any() for m in maps) else "neither"
        colour_bar = figure.colorbar(ScalarMappable(scale, "magma"), cax=axes, extend=clipped)
        colour_bar.outline.set_visible(False)
        axes.tick_params(labelsize=7.5, length=2, colors=INK)
        axes.ticklabel_format(axis="y", scilimits=(-2, 4))
        axes.yaxis.get_offset_text().set_fontsize(7.5)
        colour_bar.set_label(heat_unit, fontsize=8, color=INK)
    return figure


def _heat_range(maps: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    values = np.concatenate([m[np.isfinite(m)] for m in maps] or [np.zeros(0)])
    if values.size == 0:
        return 0.0, 1.0
    low, high = min(0.0, float(values.min())), float(np.percentile(values, 99.5))
    return low, high if high > low else low + 1


def _show(axes: Axes, image: NDArray[Any], scale: Normalize | None) -> None:
    """Show one image: in the colours of the scale, or as it is."""
    if scale is not None:
        axes.imshow(image, cmap="magma", norm=scale)
    elif image.ndim == 2:
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    else:
        axes.imshow(image)
    axes.set_axis_off()


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def _empty(title: str, message: str) -> Figure:
    """Make a figure that says that there is nothing to show."""
    figure = Figure(figsize=(4.6, 1.4), dpi=DPI, facecolor="white")
    figure.text(0.04, 0.9, title, va="top", fontsize=11.5, color=INK, weight="bold")
    figure.text(0.5, 0.4, message, ha="center", va="center", fontsize=10, color="#666666", style="italic")
    return figure


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(labelsize=8.5, colors=INK)
    axes.xaxis.label.set(fontsize=9, color=INK)
    axes.yaxis.label.set(fontsize=9, color=INK)
    axes.grid(color=PALE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)
