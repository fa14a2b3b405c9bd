"""Inspections in a small size, as a report is told of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import cv2
import numpy as np

from crack_pipeline.reporting.inspection import CrackLine, Inspection, PhotographPage, SeverityClass

CLASSES = (
    SeverityClass("narrow", 0.0, "#2e7d32", "no action"),
    SeverityClass("moderate", 0.3, "#b35900", "to be watched"),
    SeverityClass("wide", 1.0, "#c62828", "to be repaired"),
)
WIDTH, HEIGHT = 240, 160


def crack(crack_id: str, width: float = 4.0, scale: float | None = 0.1, **changes: Any) -> CrackLine:
    """Give a crack from the left to the right, as wide as is said in px."""
    y = 20.0 + 30.0 * ((ord(crack_id[1]) - ord("0")) % 4)
    path = np.array([[20.0, y], [120.0, y + 2.0], [220.0, y]])
    metric = {
        "length_mm": None if scale is None else 200.0 * scale,
        "mean_width_mm": None if scale is None else width / 2 * scale,
        "max_width_mm": None if scale is None else width * scale,
        "area_mm2": None if scale is None else 100.0 * width * scale**2,
    }
    known = [one.name for one in CLASSES if scale is not None and width * scale >= one.from_mm] or ["unknown"]
    told: dict[str, Any] = {
        "crack_id": crack_id,
        "severity": known[-1],
        "length": 200.0,
        "mean_width": width / 2,
        "max_width": width,
        "area": 100.0 * width,
        "orientation": 0.0,
        "probability": 0.9,
        "branches": 1,
        "paths": (path,),
        "box": (20.0, y, 200.0, 6.0),
    }
    return CrackLine(**(told | metric | changes))


def page(path: str, *cracks: CrackLine, **changes: Any) -> PhotographPage:
    """Give a photograph with a page and all views."""
    order = ["none", "unknown", *(known.name for known in CLASSES)]
    told: dict[str, Any] = {
        "path": path,
        "width": WIDTH,
        "height": HEIGHT,
        "millimetres_per_pixel": 0.1,
        "severity": max((one.severity for one in cracks), key=order.index, default="none"),
        "foreground_share": 0.9,
        "crack_share": 0.01 * len(cracks),
        "pictures": pictures(),
        "cracks": cracks,
    }
    return PhotographPage(**(told | changes))


def pictures(brighter: int = 0) -> Mapping[str, tuple[str, bytes]]:
    """Give a picture per view, each of its own grey."""
    views = ("photograph", "probability", "mask", "foreground", "repaired")
    return {view: ("image/png", _png(40 * number + 40 + brighter)) for number, view in enumerate(views)}


def inspection(*photographs: PhotographPage, **changes: Any) -> Inspection:
    """Give an inspection of these photographs."""
    told: dict[str, Any] = {
        "title": "A bridge",
        "made": datetime(2026, 11, 28, 9, 30, tzinfo=UTC),
        "settings": {"model": "unet"},
        "severities": CLASSES,
        "photographs": photographs,
        "severity_source": "a standard",
    }
    return Inspection(**(told | changes))


def _png(grey: int) -> bytes:
    encode: Callable[..., Any] = cv2.imencode
    return bytes(encode(".png", np.full((HEIGHT // 4, WIDTH // 4), grey, np.uint8))[1])
