"""Nodes that show and sum up what the ways to fill a crack do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crack_pipeline.evaluation.figures import Sample, image_grid
from crack_pipeline.imaging.inpainting import Inpainting, inpaint, widen
from crack_pipeline.pipelines.inpainting.judging import simulate_cracks
from crack_pipeline.pipelines.inpainting.parameters import Judging

_SHOWN = 112
"""Side of what is shown of a square, px: few enough for its grain to be seen."""


def draw_fills(sound_squares: Sequence[NDArray[np.uint8]], fill: Inpainting, judging: Judging) -> Figure:
    """Show simulated cracks, what every method makes of them, and what was there."""
    samples = []
    cracks = simulate_cracks(sound_squares, judging.simulation, judging.seed)
    for one in islice((one for one in cracks if not widen(one.crack, fill.margin).all()), judging.examples):
        filled = [inpaint(one.cracked, one.crack, fill.model_copy(update={"method": m})) for m in judging.methods]
        part = _busiest(one.crack)
        samples.append(Sample([picture[part] for picture in (one.cracked, *filled, one.sound)]))
    names = [method.replace("_", " ") for method in judging.methods]
    return image_grid(
        samples, ["crack", *names, "as it was"], title="Filled cracks", cell=1.5, none="no square of sound concrete"
    )


def summarise(
    metrics: Mapping[str, Any], predictions_repaired: pd.DataFrame, quarantine: pd.DataFrame, fill: Inpainting
) -> str:
    """Say in a few lines what was repaired, and what each method does."""
    done = metrics["repaired"]
    lines = [
        f"{done['cracked']:,} of {done['photographs']:,} photographs repaired with the method {fill.method}, "
        f"{done['seconds']:.1f} s of filling; {len(quarantine):,} files left out"
    ]
    by_segmenter = int((predictions_repaired["cracks"] == "segmenter").sum())
    if by_segmenter:
        lines.append(f"in {by_segmenter:,} of them a segmenter has said where cracks are")
    table = pd.DataFrame(metrics["methods"]).T.astype(float)
    lines += ["", f"simulated cracks on {metrics['squares']:,} squares of sound concrete, and who still sees one:"]
    lines.append(table.to_string(float_format=lambda value: f"{value:.3f}", na_rep="?"))
    called = metrics["called_crack"]
    if called["as_it_was"] is not None:
        lines.append(
            f"called_crack: share of what was filled there that the segmenter calls crack; it was "
            f"{called['cracked']:.3f} before, and is {called['as_it_was']:.3f} of the same places without a crack"
        )
    alarmed = metrics["alarmed"]
    lines.append(
        f"segmenter, segmenter_there, detector: share of the {alarmed['segmenter']:,}, {alarmed['segmenter_there']:,} "
        f"and {alarmed['detector']:,} photographs that alarmed before and still do (there: where it was filled); "
        "segmenter_left: share of the crack pixels found there that still are"
    )
    return "\n".join(lines)


def _busiest(crack: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Give the part round the middle of a crack that is shown."""
    middle = np.argwhere(crack)[int(crack.sum()) // 2]
    rows, columns = (
        slice(start, start + _SHOWN)
        for start in (
            min(max(0, int(at) - _SHOWN // 2), max(0, length - _SHOWN))
            for at, length in zip(middle, crack.shape, strict=True)
        )
    )
    return rows, columns
