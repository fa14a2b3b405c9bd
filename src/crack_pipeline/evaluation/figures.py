"""What the figures share: their colours and looks, curves of a training, and grids of images.

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
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, YELLOW = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#F0E442",
)
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
INK, PALE = "#222222", "#D9D9D9"
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


def short_name(path: str) -> str:
    """Name a file without its folder, in at most 30 characters.

    Examples
    --------
    >>> short_name("Positive/00012.jpg")
    '00012.jpg'
    """
    name = PurePosixPath(path).name
    return name if len(name) <= 30 else f"{name[:16]}…{name[-13:]}"


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
        return message_figure("Training", "no epoch was recorded")
    figure = new_figure(3.6 * len(quantities) + 0.6, 3.2)
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
        tidy(axes)
        if min(drawn) > 0 and max(drawn) > 20 * min(drawn):
            axes.set_yscale("log")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
        axes.set_xlabel("epoch")
        unit = (units or {}).get(quantity)
        name = "KL divergence" if quantity == "kl" else quantity.replace("_", " ")
        axes.set_title(f"{name} ({unit})" if unit else name, loc="left", fontsize=10, color=INK)
        axes.legend(frameon=False, fontsize=8.5)
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
    cell: float | tuple[float, float] = 1.35,
    legend: Mapping[str, str] | None = None,
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
        Width that an image gets, and the most height, in inches; one number for both. A row is as high as its
        images need.
    legend
        What the colours in the images mean: the colour by its meaning, shown under the title.
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
        return message_figure(title, none)
    maps = [np.asarray(s.images[k], np.float64) for s in samples for k in heat_columns]
    low, high = heat_range or _heat_range(maps)
    scale = Normalize(low, high)
    across = max(1, min(across, len(samples)))
    gap, between, margin = 0.06, 0.35, 0.18
    cell_width, cell_height = cell if isinstance(cell, tuple) else (cell, cell)
    lines = max(s.caption.count("\n") + 1 if s.caption else 0 for s in samples)
    above = 0.155 * lines + 0.12
    top = (0.42 if title else 0.1) + (0.12 if legend else 0) + 0.24
    block = len(columns) * cell_width + (len(columns) - 1) * gap
    bar = 0.85 if heat_columns else 0.0
    width = 2 * margin + across * block + (across - 1) * between + bar
    tall = [max(_height(image, cell_width, cell_height) for image in sample.images) for sample in samples]
    rows = [max(tall[first : first + across]) for first in range(0, len(samples), across)]
    height = top + sum(above + row for row in rows) + margin
    figure = Figure(figsize=(max(width, 3.0), height), dpi=DPI, facecolor="white")
    width = max(width, 3.0)
    if title:
        figure.text(margin / width, 1 - 0.14 / height, title, va="top", fontsize=11.5, color=INK, weight="bold")
    if legend:
        figure.legend(
            handles=[
                Patch(facecolor=colour, edgecolor=INK, linewidth=0.4, label=text) for text, colour in legend.items()
            ],
            loc="upper left",
            bbox_to_anchor=(margin / width, 1 - (0.36 if title else 0.04) / height),
            ncols=len(legend),
            frameon=False,
            fontsize=8.5,
            borderpad=0,
            borderaxespad=0,
            handlelength=1.4,
            columnspacing=1.6,
        )
    for number, sample in enumerate(samples):
        row, place = divmod(number, across)
        left = margin + place * (block + between)
        upper = height - top - sum(above + r for r in rows[:row]) - above
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
            x = left + k * (cell_width + gap)
            axes = figure.add_axes((x / width, (upper - rows[row]) / height, cell_width / width, rows[row] / height))
            _show(axes, np.asarray(image), scale if k in heat_columns else None)
            if row == 0:
                where = (x + cell_width / 2) / width, 1 - (top - 0.02) / height
                figure.text(*where, columns[k], ha="center", va="bottom", fontsize=9, color=INK)
    if heat_columns:
        length = min(3.0, sum(above + row for row in rows) - above)
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


def _height(image: NDArray[Any], width: float, most: float) -> float:
    """Height of an image that is shown at a width, at most ``most``."""
    return max(0.1, min(most, width * image.shape[0] / image.shape[1]))


def _show(axes: Axes, image: NDArray[Any], scale: Normalize | None) -> None:
    """Show one image: in the colours of the scale, or as it is."""
    if scale is not None:
        axes.imshow(image, cmap="magma", norm=scale)
    elif image.ndim == 2:
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
    else:
        axes.imshow(image)
    axes.set_anchor("N")
    axes.set_axis_off()


def new_figure(width: float, height: float) -> Figure:
    """Make an empty figure of a size in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")


def message_figure(title: str, message: str) -> Figure:
    """Make a figure that says that there is nothing to show."""
    figure = Figure(figsize=(4.6, 1.4), dpi=DPI, facecolor="white")
    figure.text(0.04, 0.9, title, va="top", fontsize=11.5, color=INK, weight="bold")
    figure.text(0.5, 0.4, message, ha="center", va="center", fontsize=10, color="#666666", style="italic")
    return figure


def tidy(axes: Axes) -> None:
    """Give axes the looks that all figures share."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(labelsize=8.5, colors=INK)
    axes.xaxis.label.set(fontsize=9, color=INK)
    axes.yaxis.label.set(fontsize=9, color=INK)
    axes.grid(color=PALE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)
