"""Figures of a segmenter: curves, results by crack width, and photographs with hits, misses and false alarms.

They are made as those of :mod:`crack_pipeline.evaluation.figures`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crack_pipeline.evaluation.figures import (
    BLUE,
    COLOURS,
    DPI,
    GREEN,
    INK,
    ORANGE,
    PERCENT,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    Sample,
    image_grid,
    message_figure,
    new_figure,
    tidy,
)
from crack_pipeline.evaluation.segmentation_counts import TOLERANCE, PhotographCounts
from crack_pipeline.evaluation.segmentation_metrics import photograph_table
from crack_pipeline.imaging.photograph_stack import CRACK, IGNORED
from crack_pipeline.imaging.segmented import shrink_to

HIT, MISS, FALSE_ALARM, IGNORED_AREA = SKY, VERMILLION, YELLOW, PURPLE
"""Colours of an overlay: they differ in lightness too, and none of them is a colour of concrete."""

MEASURES = {
    "dice": ("Dice", BLUE, "-"),
    "precision": ("precision", VERMILLION, (0, (5, 1.5))),
    "recall": ("recall", GREEN, (0, (1.5, 1.2))),
    "iou": ("IoU of cracks", ORANGE, (0, (6, 1.5, 1.5, 1.5))),
    "miou": ("mean IoU", PURPLE, (0, (3, 1))),
}

_CELL = 3.65, 4.4
"""Width and most height of a photograph among the examples, in inches: 547 px show each pixel of the usual ones."""


@dataclass(frozen=True)
class Example:
    """A photograph for :func:`examples`.

    Attributes
    ----------
    photograph
        (H, W) or (H, W, 3) uint8.
    mask
        (H, W) uint8, 0 background, 1 crack, 2 ignored; None if it is not known.
    predicted
        (H, W) bool: where a crack was found.
    caption
        A line or two, shown above.
    """

    photograph: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None
    predicted: NDArray[np.bool_]
    caption: str = ""


class Chosen(NamedTuple):
    """A photograph chosen to be shown."""

    kind: str
    """best, median or worst"""
    row: int
    """its position among the counts"""
    dice: float


def precision_recall(
    curves: Mapping[str, pd.DataFrame],
    thresholds: float | Mapping[str, float] | None = None,
    *,
    dashed: Collection[str] = (),
) -> Figure:
    """Draw precision against recall over all pixels, with lines of equal Dice.

    Parameters
    ----------
    curves
        By the name in the legend: what :func:`~crack_pipeline.evaluation.segmentation_metrics.threshold_curve` gives.
    thresholds
        Probability from which on a pixel is called crack, one for all or by name; marked on the curve.
    dashed
        Names of curves that are drawn dashed, such as a baseline's.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(5.6, 4.9)
    axes = figure.subplots()
    for dice in np.arange(1, 10) / 10:
        # At equal Dice, precision and recall are at least dice / (2 - dice).
        recall = dice / (2 - dice) + (1 - dice / (2 - dice)) * np.linspace(0, 1, 100) ** 3
        axes.plot(recall, dice * recall / (2 * recall - dice), color="#BBBBBB", linewidth=0.8, zorder=1)
        _beside(axes, f"{dice:.1f}", dice / (2 - dice))
    _beside(axes, "Dice", 1.0)
    for number, (name, curve) in enumerate(curves.items()):
        colour, style = COLOURS[number % len(COLOURS)], (0, (4, 2)) if name in dashed else "-"
        recall, precision = curve["recall"].to_numpy(), curve["precision"].to_numpy()
        defined = ~np.isnan(recall) & ~np.isnan(precision)
        if not defined.any():
            axes.plot([], [], color=colour, linestyle=style, label=f"{name}: no crack, no curve")
            continue
        label = f"{name}: average precision {_average_precision(curve):.3f}"
        threshold = thresholds.get(name) if isinstance(thresholds, Mapping) else thresholds
        if threshold is not None:
            point = curve.iloc[int((curve["threshold"] - threshold).abs().argmin())]
            label += f"\nDice {point['dice']:.3f} at threshold {threshold:.2f}"
            axes.plot(point["recall"], point["precision"], "o", color=colour, markeredgecolor="white", zorder=5)
        axes.plot(recall[defined], precision[defined], color=colour, linestyle=style, linewidth=1.6, label=label)
    _shares(axes)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set_aspect("equal")
    axes.set_xlabel("recall: true crack pixels that are found")
    axes.set_ylabel("precision: found pixels that are crack")
    if curves:
        axes.legend(
            frameon=True,
            framealpha=0.85,
            edgecolor="none",
            fontsize=8.5,
            loc="lower left",
            title="● at the threshold" if thresholds is not None else None,
            title_fontsize=8.5,
            alignment="left",
        )
    return figure


def threshold_figure(curve: pd.DataFrame, threshold: float) -> Figure:
    """Draw the metrics over all pixels against the threshold.

    Parameters
    ----------
    curve
        What :func:`~crack_pipeline.evaluation.segmentation_metrics.threshold_curve` gives.
    threshold
        The one that was chosen.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(6.4, 3.9)
    axes = figure.subplots()
    point = curve.iloc[int((curve["threshold"] - threshold).abs().argmin())]
    # At 0 every pixel is called crack, and the curves jump there.
    shown = curve.iloc[1:]
    for column, (name, colour, style) in MEASURES.items():
        value = "undefined" if np.isnan(point[column]) else f"{point[column]:.3f}"
        axes.plot(
            shown["threshold"], shown[column], color=colour, linestyle=style, linewidth=1.6, label=f"{name} {value}"
        )
        axes.plot(threshold, point[column], "o", color=colour, markeredgecolor="white", markersize=6, zorder=5)
    axes.axvline(threshold, color=INK, linewidth=1)
    _shares(axes)
    axes.set_xlabel("threshold: probability from which on a pixel is called crack")
    axes.legend(
        frameon=False,
        fontsize=8.5,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        title=f"at threshold {threshold:.2f}",
        title_fontsize=8.5,
        alignment="left",
    )
    return figure


def width_figure(widths: pd.DataFrame, *, tolerance: float = TOLERANCE) -> Figure:
    """Draw how much of the cracks of each width is found.

    Parameters
    ----------
    widths
        What :func:`~crack_pipeline.evaluation.segmentation_metrics.by_width_table` gives.
    tolerance
        With which it was counted, in px.

    Returns
    -------
    matplotlib.figure.Figure
        The numbers over the bars are percentages.
    """
    if not widths["true_pixels"].any():
        return message_figure("Results by crack width", "no pixel is cracked")
    figure = new_figure(1.35 * len(widths) + 1.2, 3.9)
    axes = figure.subplots()
    at = np.arange(len(widths))
    for side, (column, name, colour, hatch) in enumerate(
        (
            ("recall", "found exactly", BLUE, ""),
            ("recall_tolerant", f"found within {tolerance:g} px", SKY, "///"),
        )
    ):
        value = widths[column].to_numpy()
        place = at + (side - 0.5) * 0.38
        axes.bar(place, np.nan_to_num(value), 0.36, color=colour, label=name, hatch=hatch, edgecolor="white", zorder=2)
        ends = np.stack([value - widths[f"{column}_low"], widths[f"{column}_high"] - value])
        drawn = ~np.isnan(ends).any(axis=0)
        axes.errorbar(
            place[drawn], value[drawn], np.maximum(ends[:, drawn], 0), fmt="none", ecolor=INK, elinewidth=1, capsize=2.5
        )
        tops = np.where(drawn, widths[f"{column}_high"], value)
        for x, top, number in zip(place, tops, value, strict=True):
            if not np.isnan(number):
                axes.annotate(
                    f"{100 * number:.0f}",
                    (x, top),
                    xytext=(0, 2),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    fontsize=8,
                    color=INK,
                )
    tidy(axes)
    axes.grid(visible=False, axis="x")
    axes.set_ylim(0, 1.1)
    axes.set_yticks(np.arange(6) / 5)
    axes.yaxis.set_major_formatter(PERCENT)
    axes.set_ylabel("true crack pixels that are found")
    shares = [
        f"{100 * share:.{0 if share > 0.1 else 1}f}% of crack" if number else "none"
        for share, number in zip(widths["share"], widths["true_pixels"], strict=True)
    ]
    axes.set_xticks(at, [f"{name}\n{share}" for name, share in zip(widths["width"], shares, strict=True)])
    axes.set_xlabel("width of the crack")
    axes.legend(frameon=False, fontsize=8.5, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=2)
    return figure


def overlay(
    photograph: NDArray[np.uint8],
    mask: NDArray[np.uint8] | None,
    predicted: NDArray[np.bool_],
    *,
    longest: int | None = None,
) -> NDArray[np.uint8]:
    """Draw hits, misses and false alarms over a photograph.

    Parameters
    ----------
    photograph
        (H, W) or (H, W, 3) uint8.
    mask
        (H, W) uint8, 0 background, 1 crack, 2 ignored; None if it is not known: then all that is predicted is drawn
        as a hit.
    predicted
        (H, W) bool: where a crack was found.
    longest
        Most px along the longer side; None for the photograph's own size.

    Returns
    -------
    ndarray of uint8
        (h, w, 3), RGB: the photograph in grey and darker, over it ``HIT``, ``MISS`` and ``FALSE_ALARM``, and
        ``IGNORED_AREA`` as stripes. A pixel that stands for several of the photograph has the
        colour of what is most among them, as soon as one of them is marked: a thin crack does not fade.

    Raises
    ------
    ValueError
        If the sizes differ.
    """
    size = photograph.shape[0], photograph.shape[1]
    if predicted.shape != size or (mask is not None and mask.shape != size):
        other = predicted.shape if predicted.shape != size else mask.shape if mask is not None else ()
        raise ValueError(f"photograph, mask and prediction must be of one size, got {size} and {other}")
    small = shrink_to(photograph, longest or max(size))
    height, width = small.shape[0], small.shape[1]
    grey = small if small.ndim == 2 else small.mean(axis=2)
    contrast = min(_CONTRAST, _BRIGHT / max(float(np.percentile(grey, 95)), 1.0))
    picture = np.repeat((contrast * grey)[..., None], 3, axis=2)
    marks: dict[str, NDArray[np.bool_]]
    if mask is None:
        marks = {HIT: predicted}
    else:
        true, ignored = mask == CRACK, mask == IGNORED
        striped = _block_sums(ignored, (height, width)) * (height * width / ignored.size) > 0.5
        striped &= (np.arange(height)[:, None] + np.arange(width)) % 8 < 3
        picture[striped] = 0.55 * picture[striped] + 0.45 * _rgb(IGNORED_AREA)
        marks = {MISS: true & ~predicted, FALSE_ALARM: predicted & ~true & ~ignored, HIT: true & predicted}
    sums = np.stack([_block_sums(mark, (height, width)) for mark in marks.values()])
    colours = np.stack([_rgb(colour) for colour in marks])
    marked = sums.any(axis=0)
    picture[marked] = colours[sums.argmax(axis=0)[marked]]
    return np.rint(picture).astype(np.uint8)


# Bright concrete must be darkened more for thin marks to stand out.
_CONTRAST, _BRIGHT = 0.65, 105.0


def examples(samples: Sequence[Example], *, title: str = "", none: str = "no photograph") -> Figure:
    """Show photographs, each beside its overlay.

    Parameters
    ----------
    samples
        From top to bottom. Large ones are shown shrunk.
    title
        Over the whole figure.
    none
        What the figure says where there is no sample.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not samples:
        return message_figure(title, none)
    rows = []
    for sample in samples:
        height, width = sample.photograph.shape[:2]
        scale = min(DPI * _CELL[0] / width, DPI * _CELL[1] / height, 1)
        longest = max(1, round(scale * max(height, width)))
        drawn = overlay(sample.photograph, sample.mask, sample.predicted, longest=longest)
        rows.append(Sample([shrink_to(sample.photograph, longest), drawn], sample.caption))
    masks = [sample.mask for sample in samples if sample.mask is not None]
    legend = {"crack, found": HIT, "crack, missed": MISS, "false alarm": FALSE_ALARM} if masks else {"found": HIT}
    if any((mask == IGNORED).any() for mask in masks):
        legend["ignored"] = IGNORED_AREA
    return image_grid(rows, ["photograph", "result"], title=title, cell=_CELL, legend=legend)


def squares_figure(images: NDArray[np.uint8], masks: NDArray[np.uint8], *, title: str = "", across: int = 6) -> Figure:
    """Show squares, each beside itself with the outline of its cracks.

    Parameters
    ----------
    images
        (n, S, S) or (n, S, S, 3).
    masks
        (n, S, S): 1 on a crack.
    title
        Over the whole figure.
    across
        Squares side by side.

    Returns
    -------
    matplotlib.figure.Figure
    """
    samples = [Sample([image, outline(image, mask == CRACK)]) for image, mask in zip(images, masks, strict=True)]
    return image_grid(samples, ["square", "its cracks"], title=title, across=across, cell=1.2)


def outline(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw the border of a mask, red, around a crack.

    Parameters
    ----------
    image
        (H, W) or (H, W, 3).
    mask
        (H, W).

    Returns
    -------
    ndarray of uint8
        (H, W, 3), RGB.
    """
    inside = mask.astype(np.uint8)
    picture = image.copy() if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2RGB)
    picture[cv2.dilate(inside, np.ones((3, 3), np.uint8)) > inside] = (230, 30, 30)
    return picture


def choose_examples(counts: Sequence[PhotographCounts], threshold: float, each: int) -> list[Chosen]:
    """Choose the photographs with the best, the middle and the worst Dice, none of them twice.

    Photographs in which no crack is and none was found are chosen only where there are no others.

    Parameters
    ----------
    counts
        Of each photograph.
    threshold
        Probability from which on a pixel is called crack.
    each
        How many of each kind at most; fewer where there are fewer than three times as many.

    Returns
    -------
    list of Chosen
        With falling Dice: the best, those in the middle, the worst.
    """
    table = photograph_table(counts, threshold)
    dice = table["dice"].to_numpy()
    shows = (table["crack_pixels"] + table["predicted_pixels"]).to_numpy() > 0
    rows = np.flatnonzero(shows if shows.any() else ~np.isnan(dice))
    ranked = rows[np.argsort(-dice[rows], kind="stable")]
    ends = min(each, (len(ranked) + 1) // 3)
    middle = min(each, len(ranked) - 2 * ends)
    first = (len(ranked) - middle) // 2
    chosen = {
        "best": ranked[:ends],
        "median": ranked[first : first + middle],
        "worst": ranked[len(ranked) - ends :],
    }
    return [Chosen(kind, int(row), float(dice[row])) for kind, part in chosen.items() for row in part]


def _beside(axes: Axes, text: str, height: float) -> None:
    """Write to the right of the axes."""
    axes.text(1.03, height, text, va="center", fontsize=7.5, color="#777777")


def _block_sums(marked: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.int32]:
    """Count the marked pixels that each pixel of a smaller picture stands for."""
    sums: NDArray[Any] = marked
    for axis, length in enumerate(size):
        if length != marked.shape[axis]:
            starts = np.arange(length) * marked.shape[axis] // length
            sums = np.add.reduceat(sums, starts, axis=axis, dtype=np.int32)
    return sums.astype(np.int32)


def _rgb(colour: str) -> NDArray[np.float64]:
    return 255 * np.array(to_rgb(colour))


def _average_precision(curve: pd.DataFrame) -> float:
    """Sum of the precision at each level times the recall that it adds."""
    gained = -np.diff(curve["recall"].to_numpy(), append=0)
    return float((gained * np.nan_to_num(curve["precision"].to_numpy())).sum())


def _shares(axes: Axes) -> None:
    """Let both axes show shares from 0 to 1."""
    tidy(axes)
    axes.set_xlim(-0.015, 1.015)
    axes.set_ylim(-0.015, 1.015)
    axes.yaxis.set_major_formatter(PERCENT)
