"""Figures of a search for parameters: its course, what mattered, and the values along each dimension."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from crack_pipeline.evaluation.figures import BLUE, INK, ORANGE, PERCENT, VERMILLION, message_figure, new_figure, tidy
from crack_pipeline.evaluation.trials import TrialResult, as_text

_ACROSS = 3
_LONGEST = 28
_SPREAD = 0.12
_DENSE = 100


def history(results: Sequence[TrialResult], *, value_name: str = "value") -> Figure:
    """Draw the value of every trial in the order of their numbers, and the best of the complete ones so far.

    Parameters
    ----------
    results
        In any order. Failed and interrupted trials are marked at the lower edge.
    value_name
        What the value is, for the axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if not results:
        return message_figure("Trials", "no trial has ended")
    figure = new_figure(7.2, 3.8)
    axes = figure.subplots()
    tidy(axes)
    ordered = sorted(results, key=lambda result: result.number)
    complete = _scatter(axes, ordered, lambda result: float(result.number))
    if complete:
        numbers = [result.number for result in complete]
        best = np.maximum.accumulate([result.value or 0.0 for result in complete])
        end = ordered[-1].number
        line = [*numbers, end], [*best, best[-1]]
        axes.plot(*line, color=BLUE, linewidth=1.6, drawstyle="steps-post", label="best so far", zorder=2)
    lost = [result.number for result in ordered if result.state in ("failed", "interrupted")]
    if lost:
        at = axes.get_xaxis_transform()
        axes.plot(lost, [0.015] * len(lost), "x", color=INK, transform=at, clip_on=False, label="failed, interrupted")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("trial")
    axes.set_ylabel(value_name)
    axes.legend(
        frameon=False,
        fontsize=8.5,
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=5,
        borderpad=0,
        columnspacing=1.2,
        handletextpad=0.4,
    )
    return figure


def importances(shares: Mapping[str, float], *, complete: int) -> Figure:
    """Draw how much of the differences between complete trials each parameter explains.

    Parameters
    ----------
    shares
        By name; 0 to 1. Empty where there were too few trials.
    complete
        Number of complete trials, which the figure names: few of them say little.

    Returns
    -------
    matplotlib.figure.Figure
    """
    title = "Which parameters matter"
    if not shares:
        return message_figure(title, "at least two complete trials with different values are needed")
    ordered = sorted(shares.items(), key=lambda item: item[1])
    figure = new_figure(6.4, 1.3 + 0.3 * len(ordered))
    axes = figure.subplots()
    tidy(axes)
    axes.grid(visible=False, axis="y")
    bars = axes.barh([_short(name) for name, _ in ordered], [share for _, share in ordered], color=BLUE, height=0.62)
    axes.bar_label(bars, [f"{share:.0%}" for _, share in ordered], padding=3, fontsize=8.5, color=INK)
    axes.set_xlim(0, min(1.0, 1.15 * ordered[-1][1]) or 1.0)
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set_xlabel(f"share of the differences between {complete} complete trials (fANOVA)")
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    return figure


def slices(
    results: Sequence[TrialResult], dimensions: Mapping[str, Sequence[str] | str], *, value_name: str = "value"
) -> Figure:
    """Draw the value of the trials against each parameter, a panel per parameter.

    Parameters
    ----------
    results
        In any order; those without a value are left out.
    dimensions
        By name: the choices as text, in their order, or the scale, ``linear`` or ``log``.
    value_name
        What the value is, for the axis.

    Returns
    -------
    matplotlib.figure.Figure
    """
    title = "Trials along each dimension"
    valued = [result for result in results if result.value is not None and result.state != "interrupted"]
    if not valued or not dimensions:
        return message_figure(title, "no trial has a value" if dimensions else "nothing was varied")
    across = min(_ACROSS, len(dimensions))
    down = math.ceil(len(dimensions) / across)
    figure = new_figure(3.1 * across + 0.5, 2.6 * down + 0.5)
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes, (name, scale) in zip(panels, dimensions.items(), strict=False):
        tidy(axes)
        if isinstance(scale, str):
            _scatter(axes, valued, lambda result, name=name: float(result.parameters[name]))  # type: ignore[misc]
            if scale == "log":
                _logarithmic(axes)
        else:
            _scatter(axes, valued, _place(name, list(scale)))
            axes.set_xticks(range(len(scale)), [_short(choice) for choice in scale])
            axes.set_xlim(-0.5, len(scale) - 0.5)
            if sum(map(len, scale)) > _LONGEST:
                axes.tick_params(axis="x", rotation=30)
        axes.set_title(_short(name, 34), loc="left", fontsize=9.5, color=INK)
    for axes in panels[len(dimensions) :]:
        axes.set_visible(False)
    for axes in panels[::across]:
        axes.set_ylabel(value_name)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8.5, loc="outside upper left", ncols=3)
    return figure


def _scatter(axes: Axes, results: Sequence[TrialResult], at: Callable[[TrialResult], float]) -> list[TrialResult]:
    """Mark complete trials, pruned ones and the best; gives the complete ones."""
    complete = [result for result in results if result.state == "complete"]
    pruned = [result for result in results if result.state == "pruned" and result.value is not None]
    for label, chosen, edge, face in (("complete", complete, BLUE, BLUE), ("pruned", pruned, ORANGE, "none")):
        if chosen:
            x, y = [at(result) for result in chosen], [result.value or 0.0 for result in chosen]
            axes.scatter(x, y, s=24, linewidths=1.3, facecolors=face, edgecolors=edge, label=label, zorder=3)
    if complete:
        best = max(complete, key=lambda result: result.value or 0.0)
        value = best.value or 0.0
        label = f"best: {value:.4f}, trial {best.number}"
        axes.scatter(at(best), value, s=130, marker="*", color=VERMILLION, label=label, zorder=4)
    return complete


def _logarithmic(axes: Axes) -> None:
    """Make the scale of x logarithmic, with numbers that one reads at a glance."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < _DENSE * low else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _place(name: str, choices: list[str]) -> Callable[[TrialResult], float]:
    """Give the place of a trial among choices, a little aside, so that equal trials are told apart."""

    def place(result: TrialResult) -> float:
        aside = _SPREAD * ((result.number * 7) % 5 - 2) / 2
        return choices.index(as_text(result.parameters[name])) + aside

    return place


def _short(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else f"{text[: longest // 3]}…{text[-(longest - longest // 3 - 1) :]}"
