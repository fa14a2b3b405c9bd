"""How severe a crack is, by its width."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

NONE, UNKNOWN = "none", "unknown"
"""What a photograph without cracks is called, and a crack whose width in millimetres is not known."""


class WidthClass(BaseModel):
    """Cracks from a width on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    from_mm: float = Field(ge=0, le=1e4, description="the least width, mm")
    colour: str = Field(pattern=r"^#[0-9a-fA-F]{6}$", description="in the report, such as #c62828")
    meaning: str = Field("", description="in a few words")


class Severity(BaseModel):
    """The classes of widths that cracks are sorted into."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(min_length=1, description="the standard that the classes are taken from")
    by: Literal["max_width", "mean_width"] = Field("max_width", description="the width of a crack that counts")
    classes: tuple[WidthClass, ...] = Field(min_length=1, description="from narrow to wide")

    @model_validator(mode="after")
    def _in_order(self) -> Severity:
        if self.classes[0].from_mm != 0:
            raise ValueError(f"the first class begins at {self.classes[0].from_mm:g} mm, and must begin at 0")
        for one, other in pairwise(self.classes):
            if other.from_mm <= one.from_mm:
                raise ValueError(
                    f"{other.name} begins at {other.from_mm:g} mm and must begin above {one.name}, {one.from_mm:g} mm"
                )
        names = [known.name for known in self.classes]
        if len({*names, NONE, UNKNOWN}) < len(names) + 2:
            raise ValueError(f"the names of classes must differ, also from {NONE} and {UNKNOWN}: {', '.join(names)}")
        return self

    def classify(self, width_mm: float | None) -> str:
        """Name the class of a crack of a width in mm; ``unknown`` where that is None."""
        if width_mm is None:
            return UNKNOWN
        return next(known.name for known in reversed(self.classes) if width_mm >= known.from_mm)

    def worst(self, names: Iterable[str]) -> str:
        """Name the most severe of some classes; ``unknown`` is worse than no crack, and milder than all classes."""
        order = [NONE, UNKNOWN, *(known.name for known in self.classes)]
        return max(names, key=order.index, default=NONE)
