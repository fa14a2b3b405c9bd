"""What a report of an inspection is told."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

NONE, UNKNOWN = "none", "unknown"
"""What a photograph without cracks is called, and a crack whose width in millimetres is not known."""

VIEWS = {
    "photograph": "Photograph",
    "probability": "Probability",
    "mask": "Mask",
    "foreground": "Foreground",
    "repaired": "Repaired",
}
"""The pictures that a photograph may have, and what they are called."""

MIME_TYPES = ("image/jpeg", "image/png", "image/webp")

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class SeverityClass:
    """Cracks from a width on.

    Attributes
    ----------
    name
        In one word or a few.
    from_mm
        The least width, mm.
    colour
        Of its lines, ``#rrggbb``.
    meaning
        In a few words.
    """

    name: str
    from_mm: float
    colour: str
    meaning: str = ""


@dataclass(frozen=True)
class CrackLine:
    """One crack of a photograph.

    Attributes
    ----------
    crack_id
        Unique within its photograph.
    severity
        Name of its class, or ``unknown``.
    length, mean_width, max_width, area
        In px, area in square px.
    orientation
        Degrees from 0 to 180.
    branches
        How many pieces it has between ends and forks.
    length_mm, mean_width_mm, max_width_mm, area_mm2
        The same in mm, all of them or none.
    paths
        Centrelines, (n, 2), x and y in px of the photograph at full size; whole numbers are the middle of a pixel.
    box
        x, y, width and height of what surrounds it, px.
    probability
        How sure the network is of it, 0 to 1.
    """

    crack_id: str
    severity: str
    length: float
    mean_width: float
    max_width: float
    area: float
    orientation: float
    branches: int
    length_mm: float | None
    mean_width_mm: float | None
    max_width_mm: float | None
    area_mm2: float | None
    paths: tuple[NDArray[np.float64], ...]
    box: tuple[float, float, float, float]
    probability: float

    def __post_init__(self) -> None:
        numbers = [
            self.length,
            self.mean_width,
            self.max_width,
            self.area,
            self.orientation,
            *self.box,
            self.probability,
        ]
        metric = [value for value in self._metric if value is not None]
        if not np.isfinite(numbers + metric).all() or not all(np.isfinite(path).all() for path in self.paths):
            raise ValueError(f"crack {self.crack_id} has a measure or a place that is no finite number")
        if metric and len(metric) < len(self._metric):
            raise ValueError(f"crack {self.crack_id} has some of its measures in mm: all of them or none are needed")
        if any(path.ndim != 2 or path.shape[1] != 2 or not len(path) for path in self.paths):
            shapes = ", ".join(str(path.shape) for path in self.paths)
            raise ValueError(f"the paths of crack {self.crack_id} must be (n, 2) with a point at least, got {shapes}")

    @property
    def _metric(self) -> tuple[float | None, ...]:
        return self.length_mm, self.mean_width_mm, self.max_width_mm, self.area_mm2

    @property
    def unit(self) -> Literal["mm", "px"]:
        """In which it is shown."""
        return "px" if self.length_mm is None else "mm"

    @property
    def measures(self) -> tuple[float, float, float, float]:
        """Length, mean width, max width and area in its unit."""
        pixels = self.length, self.mean_width, self.max_width, self.area
        length, mean, widest, area = (
            one if one is not None else other for one, other in zip(self._metric, pixels, strict=True)
        )
        return length, mean, widest, area


@dataclass(frozen=True)
class PhotographPage:
    """One photograph and what was found in it.

    Attributes
    ----------
    path
        As it is shown.
    width, height
        Of the photograph at full size, px.
    millimetres_per_pixel
        None where nobody knows.
    severity
        The worst of its cracks; ``none`` where there is no crack.
    foreground_share, crack_share
        Of all pixels, 0 to 1: what is concrete, and what is crack.
    pictures
        From a view (see ``VIEWS``) to MIME type and bytes of a picture, all with the photograph's aspect ratio. A
        view may be missing; without any, the photograph has no page.
    cracks
        In the order in which they are listed.
    note
        What else is to be said of it.
    """

    path: str
    width: int
    height: int
    millimetres_per_pixel: float | None
    severity: str
    foreground_share: float
    crack_share: float
    pictures: Mapping[str, tuple[str, bytes]]
    cracks: tuple[CrackLine, ...]
    note: str = ""

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(f"{self.path} has {self.width} x {self.height} px")
        strange = [view for view in self.pictures if view not in VIEWS]
        if strange:
            raise ValueError(f"{self.path} has a view {strange[0]!r}, known are: {', '.join(VIEWS)}")
        for view, (kind, _) in self.pictures.items():
            if kind not in MIME_TYPES:
                raise ValueError(f"{self.path}: {view} is of type {kind!r}, shown are: {', '.join(MIME_TYPES)}")
        if len({crack.crack_id for crack in self.cracks}) < len(self.cracks):
            raise ValueError(f"{self.path}: two of its cracks have the same crack_id")


@dataclass(frozen=True)
class Inspection:
    """All that a report says.

    Attributes
    ----------
    title
        Of the document.
    made
        When the photographs were worked on, with its time zone.
    settings
        Name to value, shown as they are.
    severities
        From mild to severe.
    photographs
        Those with a page. Gone through twice, one at a time: they may be read from a disk as they are asked for.
    others
        Those in the tables only; their pictures are not looked at.
    failed
        Path and reason of what could not be worked on.
    severity_source
        The standard that the classes are taken from.
    severity_width
        The width of a crack that its class goes by.
    """

    title: str
    made: datetime
    settings: Mapping[str, str]
    severities: tuple[SeverityClass, ...]
    photographs: Sequence[PhotographPage]
    others: Sequence[PhotographPage] = ()
    failed: Sequence[tuple[str, str]] = ()
    severity_source: str = ""
    severity_width: Literal["max_width", "mean_width"] = "max_width"

    def __post_init__(self) -> None:
        if self.made.tzinfo is None:
            raise ValueError(f"{self.made} has no time zone")
        names = self.severity_names
        if len({*names, NONE, UNKNOWN}) < len(names) + 2:
            raise ValueError(f"the names of classes must differ, also from {NONE} and {UNKNOWN}: {', '.join(names)}")
        for known in self.severities:
            if not _COLOUR.fullmatch(known.colour):
                raise ValueError(f"the colour of {known.name} is {known.colour!r}, and must be like #c62828")
        for milder, worse in pairwise(self.severities):
            if worse.from_mm <= milder.from_mm:
                raise ValueError(
                    f"classes go from mild to severe: {worse.name} begins at {worse.from_mm:g} mm and must begin above "
                    f"{milder.name}, {milder.from_mm:g} mm"
                )

    @property
    def severity_names(self) -> tuple[str, ...]:
        """From mild to severe."""
        return tuple(known.name for known in self.severities)
