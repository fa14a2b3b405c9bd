"""Nodes that show what an inspection found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from crack_pipeline.evaluation.inspection_figure import lengths_by_width
from crack_pipeline.imaging.foreground import Foreground
from crack_pipeline.imaging.severity import Severity
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.inspection.inspecting import VIEWS, threshold_of
from crack_pipeline.pipelines.inspection.parameters import Cracks, Repair, Report, Scales
from crack_pipeline.pipelines.inspection.tabulating import Records
from crack_pipeline.reporting.inspection import CrackLine, Inspection, PhotographPage, SeverityClass, render

_LISTED = 10


class Document:
    """The parts of a document, made whenever they are asked for: so it never lies in memory as a whole."""

    def __init__(self, inspection: Inspection) -> None:
        self._inspection = inspection

    def __iter__(self) -> Iterator[str]:
        """Give one part after the other."""
        return render(self._inspection)


def write_report(
    inspected: Records,
    photographs_table: pd.DataFrame,
    cracks: pd.DataFrame,
    failures: pd.DataFrame,
    segmenter: Weights,
    trained_by: str,
    foreground: Foreground,
    what: Cracks,
    scale: Scales,
    repair: Repair,
    severity: Severity,
    report: Report,
) -> Document:
    """Write the report: a page for the most severely cracked photographs, and tables of all.

    Parameters
    ----------
    inspected
        What was found, with pictures.
    photographs_table, cracks, failures
        The tables; photographs are shown in the order of theirs.
    segmenter, trained_by, foreground, what, scale, repair, severity
        How it was found, which the report says.
    report
        How much it shows.

    Returns
    -------
    Document
        HTML that needs nothing but itself.
    """
    mine = dict(iter(cracks.groupby("path")))
    pages = [
        _page(inspected, row, mine.get(row["path"], cracks.iloc[:0]), shown=place < report.pages)
        for place, row in enumerate(photographs_table.to_dict("records"))
    ]
    classes = tuple(SeverityClass(**of.model_dump()) for of in severity.classes)
    settings = _settings(segmenter, trained_by, foreground, what, scale, repair)
    return Document(
        Inspection(
            title=report.title,
            made=datetime.now(UTC),
            settings=settings,
            severities=classes,
            photographs=pages[: report.pages],
            others=pages[report.pages :],
            failed=list(failures[["path", "reason"]].itertuples(index=False, name=None)),
            severity_source=severity.source,
            severity_width=severity.by,
        )
    )


def draw_widths(cracks: pd.DataFrame, severity: Severity) -> Figure:
    """Draw how many metres, or pixels where no scale is known, of cracks there are of each width."""
    return lengths_by_width(cracks, severity)


def summarise(
    totals: Mapping[str, Any], photographs_table: pd.DataFrame, failures: pd.DataFrame, severity: Severity
) -> str:
    """Say in a few lines what was found."""
    if photographs_table.empty:
        reasons = [f"  {row.path}: {row.reason}" for row in failures.head(_LISTED).itertuples()]
        return "\n".join([f"no photograph could be inspected; {len(failures):,} files left out:", *reasons])
    lines = [
        f"{totals['cracked']:,} of {totals['photographs']:,} photographs show cracks: {totals['cracks']:,} cracks, "
        + _extent(totals)
    ]
    classes = [name for name in (*(of.name for of in reversed(severity.classes)), "unknown")]
    found = [f"{totals['severity'][name]:,} {name}" for name in classes if name in totals["severity"]]
    if found:
        lines.append(f"by width: {', '.join(found)} ({severity.source})")
    if totals["with_scale"] < totals["photographs"]:
        without = totals["photographs"] - totals["with_scale"]
        lines.append(
            f"{without:,} photographs have no scale, so that nothing is told of them in mm: give one in "
            "inspection.scale, or in a table scale.csv beside them"
        )
    if len(failures):
        lines.append(f"{len(failures):,} files left out:")
        lines += [f"  {row.path}: {row.reason}" for row in failures.head(_LISTED).itertuples()]
    worst = photographs_table[photographs_table["cracks"] > 0].head(_LISTED)
    if len(worst):
        shown = worst[["path", "severity", "cracks", "length_px", "max_width_px", "length_mm", "max_width_mm"]]
        shown = shown.dropna(axis="columns", how="all")
        lines += ["", "the worst:", shown.to_string(index=False, float_format=lambda value: f"{value:.1f}", na_rep="?")]
    notes = photographs_table[photographs_table["note"].fillna("").astype(bool)].head(_LISTED)
    lines += [f"{row.path}: {row.note}" for row in notes.itertuples()]
    return "\n".join(lines)


def _extent(totals: Mapping[str, Any]) -> str:
    extents = []
    if totals["max_width_mm"] is not None:
        extents.append(f"{totals['length_mm'] / 1000:,.2f} m long in all, at most {totals['max_width_mm']:.2f} mm wide")
    if totals["max_width_px_unscaled"] is not None:
        more = "without a scale " if extents else ""
        length, width = totals["length_px_unscaled"], totals["max_width_px_unscaled"]
        extents.append(f"{more}{length:,.0f} px long in all, at most {width:.1f} px wide")
    return "; ".join(extents) or "none"


def _page(inspected: Records, row: Mapping[Any, Any], cracks: pd.DataFrame, *, shown: bool) -> PhotographPage:
    path = row["path"]
    facts = inspected.facts(path)
    paths = {crack["crack_id"]: crack["geojson"]["geometry"]["coordinates"] for crack in facts["cracks"]}
    return PhotographPage(
        path=path,
        width=facts["width"],
        height=facts["height"],
        millimetres_per_pixel=_known(row["millimetres_per_pixel"]),
        severity=row["severity"],
        foreground_share=facts["foreground_share"],
        crack_share=facts["crack_share"],
        pictures=_Pictures(inspected, path) if shown else {},
        cracks=tuple(_line(crack, paths[crack["crack_id"]]) for crack in cracks.to_dict("records")),
        note=facts["note"],
    )


def _line(crack: Mapping[Any, Any], paths: list[list[list[float]]]) -> CrackLine:
    return CrackLine(
        crack_id=crack["crack_id"],
        severity=crack["severity"],
        length=crack["length_px"],
        mean_width=crack["mean_width_px"],
        max_width=crack["max_width_px"],
        area=crack["area_px"],
        orientation=crack["orientation_degrees"],
        branches=crack["branches"],
        length_mm=_known(crack["length_mm"]),
        mean_width_mm=_known(crack["mean_width_mm"]),
        max_width_mm=_known(crack["max_width_mm"]),
        area_mm2=_known(crack["area_mm2"]),
        paths=tuple(np.array(path, np.float64).reshape(-1, 2) for path in paths),
        box=(crack["x"], crack["y"], crack["width"], crack["height"]),
        probability=crack["probability"],
    )


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


class _Pictures(Mapping[str, tuple[str, bytes]]):
    """The views of a photograph, read when they are asked for."""

    def __init__(self, inspected: Records, path: str) -> None:
        self._inspected, self._path, files = inspected, path, inspected.files(path)
        self._files = {name: f"view_{name}.jpg" for name in VIEWS if f"view_{name}.jpg" in files}

    def __getitem__(self, view: str) -> tuple[str, bytes]:
        return "image/jpeg", self._inspected.read(self._path, self._files[view])

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _settings(
    segmenter: Weights, trained_by: str, foreground: Foreground, what: Cracks, scale: Scales, repair: Repair
) -> dict[str, str]:
    return {
        "Model": f"{trained_by}, {segmenter.fingerprint()[:12]}",
        "Threshold of the probability": f"{threshold_of(segmenter, what):.3f}",
        "Smallest crack": f"{what.least_pixels} px in area, {what.least_length:g} px in length, "
        f"{what.least_elongation:g} times as long as wide",
        "Widest crack": "any" if what.most_width is None else f"{what.most_width:g} px on average",
        "Foreground": foreground.method.replace("_", " "),
        "Scale": _scale(scale),
        "Repaired view": repair.how.method.replace("_", " ") if repair.enabled else "none",
    }


def _scale(scale: Scales) -> str:
    """Say where scales come from; of which photographs one is known stands beside each."""
    if scale.optics is not None:
        of = scale.optics
        every = f"{of.distance_m:g} m away, lens of {of.focal_length_mm:g} mm, sensor of {of.sensor_width_mm:g} mm"
    elif scale.millimetres_per_pixel is not None:
        every = f"{scale.millimetres_per_pixel:g} mm/px"
    else:
        return f"from {scale.file}, if there is one"
    return f"{every}, where {scale.file} says nothing else"
