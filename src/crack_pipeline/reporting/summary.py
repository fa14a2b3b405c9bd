"""What a reader wants to know of an inspection first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from crack_pipeline.reporting.inspected import NONE, UNKNOWN, VIEWS, CrackLine, Inspection, PhotographPage
from crack_pipeline.reporting.wording import plain


@dataclass(frozen=True)
class Widest:
    """The widest crack.

    Attributes
    ----------
    photograph
        Number of its photograph, from 1.
    crack_id, severity
        Of the crack.
    width, unit
        Its max width in mm or px.
    has_page
        Whether the photograph has a page.
    """

    photograph: int
    crack_id: str
    severity: str
    width: float
    unit: str
    has_page: bool


@dataclass
class Facts:
    """Everything of an inspection but its pictures and lines.

    Attributes
    ----------
    photographs, cracks
        A row for each, as the script of the report reads them. Photographs that have a page come first.
    pages
        How many photographs have one.
    crack_counts, photograph_counts
        Per class: its cracks, and the photographs whose worst crack is of it.
    length_mm, length_px
        Of all cracks whose scale is known, and of all others.
    without_scale
        How many photographs with cracks have no scale.
    widest
        Of the cracks whose scale is known, or else of all; None without a crack.
    """

    photographs: list[dict[str, Any]] = field(default_factory=list)
    cracks: list[list[Any]] = field(default_factory=list)
    pages: int = 0
    crack_counts: Counter[str] = field(default_factory=Counter)
    photograph_counts: Counter[str] = field(default_factory=Counter)
    length_mm: float = 0.0
    length_px: float = 0.0
    without_scale: int = 0
    widest: Widest | None = None

    @property
    def cracked(self) -> int:
        """How many photographs have a crack."""
        return sum(bool(row["cracks"]) for row in self.photographs)


def collect(inspection: Inspection) -> Facts:
    """Go through all photographs once and keep what is said of them in tables and sums.

    Raises
    ------
    ValueError
        If a severity is none of the classes, or a photograph with a page has no picture.
    """
    facts = Facts()
    for page, has_page in _all(inspection):
        _check(page, has_page, inspection.severity_names)
        first, place = len(facts.cracks), len(facts.photographs)
        for crack in page.cracks:
            facts.cracks.append(_crack_row(crack, place))
            facts.crack_counts[crack.severity] += 1
            facts.widest = _wider(facts.widest, crack, place + 1, has_page)
        facts.photographs.append(_photograph_row(page, has_page, first))
        facts.photograph_counts[page.severity] += 1
        facts.pages += has_page
        facts.length_mm += sum(crack.measures[0] for crack in page.cracks if crack.unit == "mm")
        facts.length_px += sum(crack.length for crack in page.cracks if crack.unit == "px")
        facts.without_scale += any(crack.unit == "px" for crack in page.cracks)
    return facts


def _all(inspection: Inspection) -> Iterator[tuple[PhotographPage, bool]]:
    yield from ((page, True) for page in inspection.photographs)
    yield from ((page, False) for page in inspection.others)


def _check(page: PhotographPage, has_page: bool, names: tuple[str, ...]) -> None:
    if has_page and not page.pictures:
        raise ValueError(f"{page.path} has no picture to show on its page: it belongs to the others")
    for found, allowed in (
        (page.severity, (NONE, UNKNOWN, *names)),
        *((c.severity, (UNKNOWN, *names)) for c in page.cracks),
    ):
        if found not in allowed:
            raise ValueError(f"{page.path}: the severity {found!r} is none of {', '.join(allowed)}")
    if (page.severity == NONE) != (not page.cracks):
        raise ValueError(f"{page.path} has {len(page.cracks)} cracks and the severity {page.severity!r}")


def _crack_row(crack: CrackLine, place: int) -> list[Any]:
    measures = [round(value, 3) for value in crack.measures]
    return [
        place,
        plain(crack.crack_id),
        crack.severity,
        *measures,
        round(crack.orientation, 1),
        crack.branches,
        crack.unit,
        round(crack.probability, 3),
    ]


def _photograph_row(page: PhotographPage, has_page: bool, first: int) -> dict[str, Any]:
    unit = "mm" if page.cracks and all(crack.unit == "mm" for crack in page.cracks) else "px"
    measured = [crack.measures if unit == "mm" else (crack.length, 0.0, crack.max_width, 0.0) for crack in page.cracks]
    return {
        "path": plain(page.path),
        "width": page.width,
        "height": page.height,
        "scale": page.millimetres_per_pixel,
        "severity": page.severity,
        "foreground": round(page.foreground_share, 6),
        "crackShare": round(page.crack_share, 8),
        "note": plain(page.note),
        "firstCrack": first,
        "cracks": len(page.cracks),
        "length": round(sum(values[0] for values in measured), 3),
        "widest": round(max((values[2] for values in measured), default=0.0), 3),
        "unit": unit,
        "views": {view: page.pictures[view][0] for view in VIEWS if view in page.pictures} if has_page else None,
    }


def _wider(widest: Widest | None, crack: CrackLine, number: int, has_page: bool) -> Widest:
    candidate = Widest(number, plain(crack.crack_id), crack.severity, crack.measures[2], crack.unit, has_page)
    if widest is None or (candidate.unit == "mm", candidate.width) > (widest.unit == "mm", widest.width):
        return candidate
    return widest
