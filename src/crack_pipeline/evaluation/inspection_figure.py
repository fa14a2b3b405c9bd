"""A figure of the cracks that an inspection found."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from crack_pipeline.imaging.severity import UNKNOWN, Severity

_BINS = 24
_UNKNOWN_COLOUR = "#7a8190"


def lengths_by_width(cracks: pd.DataFrame, severity: Severity) -> Figure:
    """Draw the length of all cracks by the width that their severity goes by.

    Parameters
    ----------
    cracks
        A row per crack: ``severity``, and, in px and mm, length, mean and largest width.
    severity
        The classes, whose colours are used.

    Returns
    -------
    matplotlib.figure.Figure
        In mm and m, unless nothing is known in mm; then in px.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    metric = bool(cracks[f"{severity.by}_mm"].notna().any())
    unit, factor = ("mm", 1e-3) if metric else ("px", 1.0)
    known = cracks.dropna(subset=[f"{severity.by}_{unit}"])
    widths, lengths = known[f"{severity.by}_{unit}"].to_numpy(), known[f"length_{unit}"].to_numpy() * factor
    axes.set_xlabel(f"{'largest' if severity.by == 'max_width' else 'mean'} width of a crack, {unit}")
    axes.set_ylabel(f"length of cracks, {'m' if metric else 'px'}")
    if not len(known):
        axes.text(0.5, 0.5, "no cracks", ha="center", va="center", transform=axes.transAxes)
        return figure
    edges = np.geomspace(widths.min() * 0.98, widths.max() * 1.02, _BINS + 1)
    kinds = [(UNKNOWN, _UNKNOWN_COLOUR), *((of.name, of.colour) for of in severity.classes)]
    kinds = [(name, colour) for name, colour in kinds if (known["severity"] == name).any()]
    mine = [(known["severity"] == name).to_numpy() for name, _ in kinds]
    axes.hist(
        [widths[rows] for rows in mine],
        bins=edges.tolist(),
        weights=[lengths[rows] for rows in mine],
        stacked=True,
        color=[colour for _, colour in kinds],
        label=[name for name, _ in kinds],
    )
    axes.set_xscale("log")
    if metric:
        for of in severity.classes:
            if edges[0] < of.from_mm < edges[-1]:
                axes.axvline(of.from_mm, color="0.4", linewidth=1, linestyle="--")
    title = severity.source if metric else None
    figure.legend(loc="outside lower center", ncols=len(kinds), title=title, fontsize="small", title_fontsize="small")
    axes.set_title(f"{len(known):,} cracks, {lengths.sum():,.1f} {'m' if metric else 'px'}")
    return figure
