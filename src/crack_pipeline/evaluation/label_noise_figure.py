"""The figure of what wrong labels cost."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator

from crack_pipeline.evaluation.figures import COLOURS, PERCENT, new_figure, tidy

_MEASURES = {"dice": "Dice", "f1_tolerant": "F1 with tolerance", "recall": "recall", "precision": "precision"}


def label_noise_figure(trainings: pd.DataFrame) -> Figure:
    """Draw measures over the share of wrong labels: means as a line, every training as a dot.

    Parameters
    ----------
    trainings
        A row per training: ``wrong`` (0 to 1), ``dice``, ``f1_tolerant``, ``recall``, ``precision``, and ``dice_low``,
        ``dice_high``, which are drawn as a band where there is one training of each share (NaN: none).

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = new_figure(6.4, 3.8)
    axes = figure.subplots()
    tidy(axes)
    for colour, (name, title) in zip(COLOURS, _MEASURES.items(), strict=False):
        curve = trainings.groupby("wrong")[name].mean()
        main = name == "dice"
        axes.plot(curve.index, curve, "-", color=colour, linewidth=2.2 if main else 1.2, label=title)
        axes.plot(trainings["wrong"], trainings[name], "o", color=colour, markersize=5 if main else 3)
    if not trainings["wrong"].duplicated().any():
        table = trainings.sort_values("wrong")
        axes.fill_between(
            table["wrong"],
            table["dice_low"],
            table["dice_high"],
            color=COLOURS[0],
            alpha=0.15,
            linewidth=0,
            label="95 % over photographs",
        )
    axes.xaxis.set_major_locator(FixedLocator(sorted(trainings["wrong"].unique())))
    axes.xaxis.set_major_formatter(PERCENT)
    axes.set_xlabel("labels that are wrong")
    axes.set_ylim(None, 1)
    figure.legend(frameon=False, fontsize=8.5, loc="outside right upper")
    return figure
