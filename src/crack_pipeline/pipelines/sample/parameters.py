"""What is rendered."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

DIFFICULTIES = {"easy": 0.15, "medium": 0.5, "hard": 0.85}
"""The named difficulties on the scale from 0 to 1."""

SMALLEST, LARGEST = 32, 4096
"""Range of a photograph's sides, px."""


class Sample(BaseModel):
    """A rendered data set: how many photographs, how large, how hard."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    normal: int = Field(600, ge=0, le=10_000_000, description="photographs of sound concrete")
    crack: int = Field(400, ge=0, le=10_000_000, description="photographs with a crack")
    size: int | tuple[int, int] = Field(192, description="px: one number, or height and width; 32 to 4096")
    difficulty: Literal["easy", "medium", "hard"] | float = Field(
        "medium", description="a name, or 0 (wide, dark cracks) to 1 (hairlines on rough, dirty concrete)"
    )
    seed: int = Field(0, ge=0, description="the same seed gives the same bytes")
    jpeg_quality: int = Field(90, ge=1, le=100, description="quality of the JPEG files")

    @field_validator("size", mode="before")
    @classmethod
    def _check_size(cls, value: Any) -> Any:
        sides = value if isinstance(value, list | tuple) else [value, value]
        if len(sides) != 2 or not all(type(side) is int and SMALLEST <= side <= LARGEST for side in sides):
            raise ValueError(
                f"size must be one number or [height, width] from {SMALLEST} to {LARGEST} px, got {value!r}"
            )
        return value

    @field_validator("difficulty", mode="before")
    @classmethod
    def _check_difficulty(cls, value: Any) -> Any:
        named = isinstance(value, str) and value in DIFFICULTIES
        numbered = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        if not (named or numbered):
            names = ", ".join(DIFFICULTIES)
            raise ValueError(f"difficulty must be {names} or a number from 0 to 1, got {value!r}")
        return value

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def hardness(self) -> float:
        """The difficulty as a number from 0 to 1."""
        return DIFFICULTIES[self.difficulty] if isinstance(self.difficulty, str) else self.difficulty
