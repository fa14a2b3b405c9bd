"""The figure that shows how new photographs differ from earlier ones."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crack_pipeline.evaluation.drift import Drift, Shift, paired_weights
from crack_pipeline.evaluation.figures import BLUE, GREEN, INK, ORANGE, VERMILLION, message_figure, new_figure, tidy

_COLOURS = {"stable": GREEN, "drifted": VERMILLION, "uncertain": ORANGE}
_UNITS = {
    "score": "score of the current model",
    "brightness": "brightness (grey value)",
    "sharpness": "sharpness (variance of the Laplacian)",
    "resolution": "resolution (px: root of width × height)",
}


def drift_figure(drift: Drift, earlier: pd.DataFrame, new: pd.DataFrame) -> Figure:
    """Draw the distribution functions of each quantity, a panel each, with the verdict.

    Parameters
    ----------
    drift
        What came of the comparison.
    earlier, new
        What was compared, as :func:`crack_pipeline.evaluation.drift.measure_drift` takes it.

    Returns
    -------
    matplotlib.figure.Figure
    """
    shown = [shift for shift in drift.shifts if shift.distance is not None]
    if not shown:
        return message_figure("Drift", "there are no photographs to compare")
    figure = new_figure(3.3 * len(shown) + 0.4, 3.1)
    for axes, shift in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        _panel(axes, shift, earlier, new)
    figure.axes[0].set_ylabel("share of photographs below")
    figure.axes[0].legend(frameon=False, fontsize=8.5, loc="lower right")
    return figure


def _panel(axes: Axes, shift: Shift, earlier: pd.DataFrame, new: pd.DataFrame) -> None:
    name = shift.quantity
    before, after, theirs, ours = paired_weights(
        *(table[np.isfinite(table[name].to_numpy(float))] for table in (earlier, new))
    )
    tidy(axes)
    for table, weights, colour, style, label in (
        (before, theirs, BLUE, "-", "earlier"),
        (after, ours, VERMILLION, "--", "new"),
    ):
        axes.plot(*_steps(table[name].to_numpy(float), weights), style, color=colour, linewidth=1.6, label=label)
    values = np.concatenate([before[name], after[name]])
    if values.min() > 0 and values.max() > 50 * values.min():
        axes.set_xscale("log")
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(_UNITS.get(name, name), fontsize=9)
    axes.set_title(
        f"{shift.verdict}, D = {shift.distance:.2f}",
        loc="left",
        fontsize=10,
        color=_COLOURS.get(shift.verdict, INK),
    )


def _steps(values: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return np.repeat(values[order], 2), np.repeat(np.concatenate([[0.0], below]), 2)[1:-1]
