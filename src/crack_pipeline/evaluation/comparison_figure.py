"""The figure that sets segmenters beside each other."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from crack_pipeline.evaluation.figures import COLOURS, INK, message_figure, new_figure, tidy

_MARKS = "osD^v"


def comparison_figure(comparison: pd.DataFrame) -> Figure:
    """Draw Dice of segmenters with its interval, the best on top, in a colour and shape for what each has learned from.

    Parameters
    ----------
    comparison
        A row per segmenter: ``segmenter``, ``learned_from``, ``dice``, ``dice_low``, ``dice_high`` (NaN: no interval),
        ``seen`` (photographs that it has learned from: its mark is hollow then).

    Returns
    -------
    matplotlib.figure.Figure
    """
    if comparison.empty:
        return message_figure("Dice of the segmenters", "no mask of a crack is known of these photographs")
    table = comparison.sort_values("dice", kind="stable", ignore_index=True)
    figure = new_figure(7.2, 1.4 + 0.42 * len(table) + 0.2 * table["learned_from"].nunique())
    axes = figure.subplots()
    tidy(axes)
    kinds = {
        kind: (COLOURS[number % len(COLOURS)], _MARKS[number // len(COLOURS) % len(_MARKS)])
        for number, kind in enumerate(sorted(set(table["learned_from"])))
    }
    named: set[str] = set()
    for place, (_, row) in enumerate(table.iterrows()):
        kind = row["learned_from"]
        colour, mark = kinds[kind]
        ends = np.array([[row["dice"] - row["dice_low"]], [row["dice_high"] - row["dice"]]], np.float64)
        axes.errorbar(
            row["dice"],
            place,
            xerr=None if np.isnan(ends).any() else ends,
            fmt=mark,
            color=colour,
            markerfacecolor="white" if row["seen"] else colour,
            capsize=3,
            label=None if kind in named else kind,
        )
        axes.annotate(
            f"{row['dice']:.3f}",
            (row["dice"], place),
            (0, 6),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=INK,
        )
        named.add(kind)
    axes.set_yticks(range(len(table)), [name.replace("_", " ") for name in table["segmenter"]])
    axes.set_ylim(-0.6, len(table) - 0.2)
    axes.set_xlabel("Dice, pooled over all pixels, with 95 % interval")
    figure.legend(title="learned from", frameon=False, fontsize=8.5, title_fontsize=8.5, loc="outside lower right")
    return figure
