"""Parameters of the study of what wrong labels cost."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator


class LabelNoise(BaseModel):
    """Which trainings are compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wrong: tuple[float, ...] = Field(
        (0.0, 0.05, 0.1, 0.2), min_length=1, description="shares of the labels that are turned into their contrary"
    )
    seeds: int = Field(
        1,
        ge=1,
        le=100,
        description="trainings with each share, each with other wrong labels, other draws, and other first weights "
        "unless a segmenter is loaded to begin with",
    )

    @field_validator("wrong")
    @classmethod
    def _shares(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not all(0 <= share < 0.5 for share in value) or len(set(value)) < len(value):
            raise ValueError(f"wrong must be different shares of at least 0 and less than 0.5, got {value}")
        return value
