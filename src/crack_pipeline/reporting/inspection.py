"""The report of an inspection: one HTML document that needs nothing but itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from crack_pipeline.imaging.lines import simplify
from crack_pipeline.reporting import wording
from crack_pipeline.reporting.inspected import (
    NONE,
    UNKNOWN,
    VIEWS,
    CrackLine,
    Inspection,
    PhotographPage,
    SeverityClass,
)
from crack_pipeline.reporting.summary import Facts, collect

__all__ = ["CrackLine", "Inspection", "PhotographPage", "SeverityClass", "render"]

_TOLERANCE = 0.35
"""How far a line may be drawn from where it is, px of the photograph."""
_PER_PIXEL = 10
_UNKNOWN_COLOUR = "#5b6470"


@dataclass(frozen=True)
class _Kind:
    """A class as it is drawn: ``style`` names its colour and dashes in the style sheet."""

    name: str
    style: str
    colour: str
    range: str
    meaning: str


def render(inspection: Inspection) -> Iterator[str]:
    """Write the report.

    Pictures are only asked for when their part is, so that no more than one of them lies in memory twice.

    Parameters
    ----------
    inspection
        What it says.

    Yields
    ------
    str
        Parts of one HTML document, to be written one after the other in UTF-8.

    Raises
    ------
    ValueError
        If a severity is none of the classes, or a photograph with a page has no picture; before the first part.
    """
    facts = collect(inspection)
    kinds = _kinds(inspection)
    style = Markup("\n".join([_read("inspection.css"), *_styles(kinds)]))
    script = Markup(_read("inspection.js"))
    parts = (
        _environment()
        .get_template("inspection.html")
        .generate(
            inspection=inspection,
            facts=facts,
            kinds=kinds,
            style=style,
            script=script,
            policy=_policy(style, script),
            data=_data(facts, kinds),
            pages=_pages(inspection),
            views=VIEWS,
        )
    )
    # Some are Markup, and text that is added to that is escaped.
    return map(str, parts)


def _read(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("crack_pipeline", "reporting"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    for name in ("plain", "number", "quantity", "distance", "share", "moment"):
        environment.filters[name] = getattr(wording, name)
    environment.filters["base64"] = _base64
    return environment


def _policy(style: str, script: str) -> str:
    """Allow this style, this script and pictures of the document itself, and nothing from anywhere else."""
    return "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src 'sha256-{_digest(style)}'",
            f"script-src 'sha256-{_digest(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _base64(content: bytes) -> Markup:
    return Markup(base64.b64encode(content).decode("ascii"))


def _kinds(inspection: Inspection) -> tuple[_Kind, ...]:
    """Give the classes from mild to severe, and ``unknown`` before them."""
    classes = inspection.severities
    ends = [known.from_mm for known in classes[1:]]
    kinds = [_Kind(UNKNOWN, f"severity-{UNKNOWN}", _UNKNOWN_COLOUR, "not known in mm", "the photograph has no scale")]
    for place, known in enumerate(classes):
        below = f"to below {ends[place]:g} mm" if place < len(ends) else "and more"
        reach = f"{known.from_mm:g} mm {below}" if known.from_mm or place == len(ends) else below.removeprefix("to ")
        kinds.append(_Kind(known.name, f"severity-{place}", known.colour, reach, known.meaning))
    return tuple(kinds)


def _styles(kinds: tuple[_Kind, ...]) -> Iterator[str]:
    """Give each class its colour, and lines that differ without it: the most severe are drawn without gaps."""
    dashes = ["none", "9 5", "2 5"]
    for place, kind in enumerate(reversed(kinds)):
        dash = "9 4 2 4" if kind.name == UNKNOWN else dashes[min(place, len(dashes) - 1)]
        gaps = dash if dash == "none" else " ".join(f"calc({part}px * var(--unit))" for part in dash.split())
        yield f".{kind.style} {{ --severity: {kind.colour}; stroke: {kind.colour}; stroke-dasharray: {gaps}; }}"


def _data(facts: Facts, kinds: tuple[_Kind, ...]) -> dict[str, Any]:
    return {
        "photographs": facts.photographs,
        "cracks": facts.cracks,
        "pages": facts.pages,
        "severities": [{"name": kind.name, "style": kind.style} for kind in kinds],
        "none": NONE,
        "views": VIEWS,
    }


def _pages(inspection: Inspection) -> Iterator[tuple[int, PhotographPage, list[list[Any]]]]:
    for number, page in enumerate(inspection.photographs, start=1):
        yield (
            number,
            page,
            [[_drawn(crack.paths), [round(side, 1) for side in crack.box], _middle(crack)] for crack in page.cracks],
        )


def _drawn(paths: tuple[NDArray[np.float64], ...]) -> str:
    """Write lines as the data of an SVG path; a picture's corner, not the middle of its first pixel, is 0, 0 there."""
    return "".join(map(_line, paths))


def _middle(crack: CrackLine) -> list[float]:
    """Give where the name of a crack is written: halfway along its longest line, or else amid its box."""
    if not crack.paths:
        x, y, width, height = crack.box
        return [round(x + width / 2, 1), round(y + height / 2, 1)]
    path = max(crack.paths, key=len)
    return [round(float(place) + 0.5, 1) for place in path[len(path) // 2]]


def _line(path: NDArray[np.float64]) -> str:
    places = np.rint((simplify(path, _TOLERANCE) + 0.5) * _PER_PIXEL).astype(np.int64)
    steps = np.diff(places, axis=0) if len(places) > 1 else np.zeros((1, 2), np.int64)
    start, *rest = ([f"{value / _PER_PIXEL:.8g}" for value in pair] for pair in (places[0], *steps))
    return f"M{start[0]} {start[1]}l{' '.join(f'{x} {y}' for x, y in rest)}"
