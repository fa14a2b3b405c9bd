"""Nodes that turn what was found of each photograph into tables and files for other tools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import pandas as pd

from crack_pipeline.imaging.crack_records import coco_document, coco_image, geojson_document
from crack_pipeline.imaging.scale import Optics, resolve
from crack_pipeline.imaging.severity import NONE, UNKNOWN, Severity
from crack_pipeline.pipelines.inspection.parameters import Scales
from crack_pipeline.pipelines.inspection.preparing import OPTICS

CRACKS = {
    "image_id": "str",
    "path": "str",
    "crack_id": "str",
    "severity": "str",
    "probability": "float64",
    "length_px": "float64",
    "mean_width_px": "float64",
    "max_width_px": "float64",
    "area_px": "int64",
    "orientation_degrees": "float64",
    "branches": "int64",
    "length_mm": "float64",
    "mean_width_mm": "float64",
    "max_width_mm": "float64",
    "area_mm2": "float64",
    "millimetres_per_pixel": "float64",
    "x": "int64",
    "y": "int64",
    "width": "int64",
    "height": "int64",
    "widest_x": "float64",
    "widest_y": "float64",
}
"""Columns of the table of cracks."""

PHOTOGRAPHS = {
    "image_id": "str",
    "path": "str",
    "label": "str",
    "score": "float64",
    "predicted": "str",
    "severity": "str",
    "cracks": "int64",
    "length_px": "float64",
    "max_width_px": "float64",
    "length_mm": "float64",
    "max_width_mm": "float64",
    "crack_share": "float64",
    "foreground_share": "float64",
    "width": "int64",
    "height": "int64",
    "millimetres_per_pixel": "float64",
    "overlay": "str",
    "note": "str",
}
"""Columns of the table of photographs."""


class Records(Protocol):
    """What was found, as :class:`crack_pipeline.datasets.record_folder.Records` gives it."""

    paths: list[str]
    failed: pd.DataFrame

    def facts(self, path: str) -> dict[str, Any]:
        """Read what is known of a photograph."""

    def files(self, path: str) -> dict[str, str]:
        """Name its files."""

    def read(self, path: str, name: str) -> bytes:
        """Read one of them."""


def tabulate_cracks(
    inspected: Records, photographs: pd.DataFrame, severity: Severity
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give every crack a row, the widest in millimetres first, then the longest.

    Parameters
    ----------
    inspected
        What was found.
    photographs
        Their scales, as :func:`crack_pipeline.pipelines.inspection.preparing.read_scale` gives them.
    severity
        The classes of widths.

    Returns
    -------
    tuple of pandas.DataFrame
        The same twice, for Parquet and for CSV. `CRACKS`: px as measured, mm (and mm²) where the scale is known;
        ``probability`` the mean of its pixels;
        ``orientation_degrees`` from 0 (left to right) over 45 (from the upper left to the lower right) to 180; ``x``,
        ``y``, ``width``, ``height`` of the box and the place where it is widest, px.
    """
    scales = _scales(photographs)
    rows = []
    for path in inspected.paths:
        facts = inspected.facts(path)
        scale = resolve(scales.get(path), facts["width"], facts["height"])
        rows += [
            {"image_id": facts["image_id"], "path": path, **_row(crack, scale, severity)} for crack in facts["cracks"]
        ]
    table = pd.DataFrame(rows, columns=list(CRACKS)).astype(CRACKS)
    order = ["max_width_mm", "length_px"]
    table = table.sort_values(order, ascending=False, na_position="last", kind="stable", ignore_index=True)
    return table, table


def tabulate_photographs(
    inspected: Records, photographs: pd.DataFrame, cracks: pd.DataFrame, severity: Severity
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give every photograph that was looked at a row, the most severely cracked first.

    Returns
    -------
    tuple of pandas.DataFrame
        The same twice, for Parquet and for CSV, from which a name such as 007 would come back as a number.
        `PHOTOGRAPHS`: ``score`` is the highest probability of a pixel; ``predicted`` crack or normal; ``severity`` that
        of its worst crack; ``overlay`` its file.
    """
    scales, found = _scales(photographs), dict(iter(cracks.groupby("path")))
    rows = []
    for path in inspected.paths:
        facts = inspected.facts(path)
        scale = resolve(scales.get(path), facts["width"], facts["height"])
        mine = found.get(path, cracks.iloc[:0])
        length, widest = float(mine["length_px"].sum()), float(mine["max_width_px"].max()) if len(mine) else 0.0
        rows.append(
            {
                **{name: facts[name] for name in PHOTOGRAPHS if name in facts},
                "path": path,
                "label": None,
                "predicted": "crack" if len(mine) else "normal",
                "severity": severity.worst(mine["severity"]),
                "cracks": len(mine),
                "length_px": length,
                "max_width_px": widest,
                "length_mm": None if scale is None else length * scale,
                "max_width_mm": None if scale is None else widest * scale,
                "millimetres_per_pixel": scale,
                "overlay": inspected.files(path).get("overlay.jpg"),
            }
        )
    table = pd.DataFrame(rows, columns=list(PHOTOGRAPHS)).astype(PHOTOGRAPHS)
    ranks = {name: rank for rank, name in enumerate([NONE, UNKNOWN, *(known.name for known in severity.classes)])}
    order = table.assign(rank=table["severity"].map(ranks)).sort_values(
        ["rank", "max_width_mm", "max_width_px", "length_px"], ascending=False, na_position="last", kind="stable"
    )
    table = table.loc[order.index].reset_index(drop=True)
    return table, table


def list_failures(rejected: pd.DataFrame, inspected: Records, scale: Scales) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Name every file of which nothing was found: ``path``, ``reason``, ``kind``; twice, for use and for CSV."""
    both = pd.concat([rejected[rejected["path"] != scale.file], inspected.failed], ignore_index=True).astype("str")
    both = both.sort_values(["path", "reason"], ignore_index=True)[["path", "reason", "kind"]]
    return both, both


def export_coco(inspected: Records, cracks: pd.DataFrame) -> dict[str, Any]:
    """Write all cracks as objects of the COCO format, with the exact pixels of each."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for path, facts, attributes in _each(inspected, cracks):
        images.append(coco_image(len(images) + 1, path, (facts["height"], facts["width"])))
        annotations += [
            {
                **crack["coco"],
                "id": len(annotations) + number,
                "image_id": len(images),
                "score": round(crack["probability"], 3),
                "attributes": attributes[crack["crack_id"]],
            }
            for number, crack in enumerate(facts["cracks"], start=1)
        ]
    return coco_document(images, annotations)


def export_geojson(inspected: Records, cracks: pd.DataFrame) -> dict[str, Any]:
    """Write the centrelines of all cracks as GeoJSON, in pixels of their photographs."""
    return geojson_document(
        {
            **crack["geojson"],
            "properties": {**crack["geojson"]["properties"], **attributes[crack["crack_id"]]},
        }
        for _, facts, attributes in _each(inspected, cracks)
        for crack in facts["cracks"]
    )


def total(photographs_table: pd.DataFrame, cracks: pd.DataFrame, failures: pd.DataFrame) -> dict[str, Any]:
    """Count and add up what the inspection found.

    Returns
    -------
    dict
        Numbers of photographs and cracks; ``length_mm`` and ``max_width_mm`` are of the cracks whose scale is known,
        ``length_px_unscaled`` and ``max_width_px_unscaled`` of the others, ``length_px`` and ``max_width_px`` of all.
    """
    unscaled = cracks["max_width_mm"].isna()
    known, others = cracks[~unscaled], cracks[unscaled]
    return {
        "photographs": len(photographs_table),
        "cracked": int((photographs_table["cracks"] > 0).sum()),
        "failed": len(failures),
        "with_scale": int(photographs_table["millimetres_per_pixel"].notna().sum()),
        "cracks": len(cracks),
        "length_px": float(cracks["length_px"].sum()),
        "max_width_px": float(cracks["max_width_px"].max()) if len(cracks) else 0.0,
        "length_px_unscaled": float(others["length_px"].sum()),
        "max_width_px_unscaled": float(others["max_width_px"].max()) if len(others) else None,
        "length_mm": float(known["length_mm"].sum()),
        "max_width_mm": float(known["max_width_mm"].max()) if len(known) else None,
        "severity": {str(name): int(number) for name, number in cracks["severity"].value_counts().items()},
    }


def _each(inspected: Records, cracks: pd.DataFrame) -> Iterator[tuple[str, dict[str, Any], dict[str, dict[str, Any]]]]:
    """Give path, facts, and what the table says of each crack by its name."""
    found = dict(iter(cracks.groupby("path")))
    measured = [name for name in CRACKS if name not in ("image_id", "path", "x", "y", "width", "height")]
    for path in inspected.paths:
        mine = found.get(path, cracks.iloc[:0])[measured]
        rows = [{str(name): _plain(value) for name, value in row.items()} for row in mine.to_dict("records")]
        yield path, inspected.facts(path), {row["crack_id"]: row for row in rows}


def _plain(value: Any) -> Any:
    """Give a value as JSON has it: what is not known as None, other numbers with as many digits as are of use."""
    if isinstance(value, float):
        return None if np.isnan(value) else round(value, 3)
    return value


def _scales(photographs: pd.DataFrame) -> Mapping[str, float | Optics]:
    found: dict[str, float | Optics] = {}
    for row in photographs.to_dict("records"):
        if not np.isnan(row["millimetres_per_pixel"]):
            found[row["path"]] = float(row["millimetres_per_pixel"])
        elif not np.isnan(row["distance_m"]):
            found[row["path"]] = Optics(**{name: row[name] for name in OPTICS})
    return found


def _row(crack: Mapping[str, Any], scale: float | None, severity: Severity) -> dict[str, Any]:
    x, y, width, height = crack["box"]
    sizes = {"length_px": crack["length"], "mean_width_px": crack["mean_width"], "max_width_px": crack["max_width"]}
    metric = {name.replace("_px", "_mm"): None if scale is None else value * scale for name, value in sizes.items()}
    return {
        "crack_id": crack["crack_id"],
        "severity": severity.classify(metric[f"{severity.by}_mm"]),
        "probability": crack["probability"],
        **sizes,
        "area_px": crack["area"],
        "orientation_degrees": crack["orientation"],
        "branches": crack["branches"],
        **metric,
        "area_mm2": None if scale is None else crack["area"] * scale**2,
        "millimetres_per_pixel": scale,
        **{"x": x, "y": y, "width": width, "height": height},
        **dict(zip(("widest_x", "widest_y"), crack["widest"], strict=True)),
    }
