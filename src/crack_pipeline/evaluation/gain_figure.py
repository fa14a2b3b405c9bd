"""The figure of what synthetic cracks add."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from crack_pipeline.evaluation.figures import COLOURS, message_figure, new_figure, tidy

NONE = "none"
"""Without synthetic squares."""


def gain_figure(gains: pd.DataFrame, measures: Mapping[str, str]) -> Figure:
    """Draw measures over the number of real photographs, a curve without and each with synthetic squares.

    Parameters
    ----------
    gains
        A row per number, kind and measure: ``pairs``, ``synthetic`` (`NONE`, or how many), ``measure``, ``mean``,
        ``low``, ``high``; without an interval these two are NaN.
    measures
        Title by name, from left to right.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if gains.empty:
        return message_figure("", "no training has ended")
    figure = new_figure(3.6 * len(measures), 3.4)
    for axes, (name, title) in zip(figure.subplots(1, len(measures), squeeze=False)[0], measures.items(), strict=True):
        tidy(axes)
        of_measure = gains[gains["measure"] == name].groupby("synthetic", sort=False)
        for colour, (synthetic, table) in zip(COLOURS, of_measure, strict=False):
            curve = table.sort_values("pairs")
            label = "real photographs alone" if synthetic == NONE else f"and synthetic cracks ({synthetic})"
            axes.plot(curve["pairs"], curve["mean"], "o-", color=colour, markersize=4, linewidth=1.6, label=label)
            axes.fill_between(curve["pairs"], curve["low"], curve["high"], color=colour, alpha=0.15, linewidth=0)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(sorted(gains["pairs"].unique())))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_xlabel("real photographs with masks")
        axes.set_title(title, fontsize=10, loc="left")
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")
    return figure
