"""The figure that shows why a model was promoted, or was not."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crack_pipeline.evaluation.figures import BLUE, GREEN, INK, PALE, VERMILLION, message_figure, new_figure, tidy
from crack_pipeline.evaluation.promotion import Comparison, Evidence

_COLOURS = {"better": GREEN, "not worse": BLUE, "enough": GREEN, "not required": BLUE}


def promotion_figure(evidence: Evidence, about: str = "") -> Figure:
    """Draw the difference to the champion in each metric with its interval, beside what may be lost and must be gained.

    Parameters
    ----------
    evidence
        What speaks for a challenger. Without a champion its own values are drawn, beside what they must reach.
    about
        Which versions of which model were compared; comes first in the title.

    Returns
    -------
    matplotlib.figure.Figure
        The chosen metric on top.
    """
    title = (f"{about}: " if about else "") + ("promoted" if evidence.promoted else "not promoted")
    rows = [row for row in evidence.rows if row.low is not None and row.high is not None]
    if not rows:
        return message_figure(title, "nothing was measured")
    compared = any(row.champion is not None for row in rows)
    figure = new_figure(7.2, 1.7 + 0.55 * len(rows))
    axes = figure.subplots()
    tidy(axes)
    axes.grid(visible=False, axis="y")
    if compared:
        axes.axvline(0, color="#888888", linewidth=1)
    for place, row in enumerate(reversed(rows)):
        _row(axes, place, row)
    axes.set_yticks(range(len(rows)), [row.metric.replace("_", " ") for row in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.3)
    share = f"{100 * (evidence.coverage or 0):.3g} % interval"
    what, grey = "challenger minus champion", "what may be lost, and what must be gained"
    if not compared:
        what, grey = "value of the challenger, as there is no champion yet", "what must be reached"
    axes.set_xlabel(f"{what}, with its {share}\n(grey: {grey})")
    axes.margins(x=0.12)
    axes.set_title(
        f"{title}\n{evidence.photographs:,} photographs of {evidence.groups:,} places",
        loc="left",
        fontsize=10.5,
        color=INK,
    )
    return figure


def _row(axes: Axes, place: int, row: Comparison) -> None:
    compared = row.champion is not None
    value = row.difference if compared else row.challenger
    low, high = row.low, row.high
    assert value is not None and low is not None and high is not None
    borders = [-row.may_lose, row.must_gain] if compared else [row.least] if row.least is not None else []
    axes.vlines(np.unique(borders), place - 0.28, place + 0.28, color="#999999", linewidth=2)
    if compared:
        axes.fill_betweenx([place - 0.28, place + 0.28], -row.may_lose, row.must_gain, color=PALE, alpha=0.5, zorder=0)
    colour = _COLOURS.get(row.verdict, VERMILLION)
    ends = np.maximum([[value - low], [high - value]], 0)  # the value may lie outside what was drawn
    axes.errorbar(value, place, xerr=ends, fmt="o", color=colour, capsize=3)
    text = f"{value:+.3f}  {row.verdict}" if compared else f"{value:.3f}  {row.verdict}"
    axes.annotate(text, (value, place), (0, 7), textcoords="offset points", ha="center", fontsize=8, color=INK)
