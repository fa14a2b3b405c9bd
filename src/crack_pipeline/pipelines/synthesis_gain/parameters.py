"""Parameters of the study of what synthetic cracks add."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from crack_pipeline.pipelines.simulating import Share

_FEWEST = 4


class Gain(BaseModel):
    """Which trainings are compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pairs: tuple[int, ...] = Field(
        (10, 30, 100, 300),
        min_length=1,
        description="real photographs with masks, of which every fifth chooses epoch and threshold",
    )
    shares: tuple[Share, ...] = Field(
        (0.0, "auto"), min_length=1, description="of synthetic squares, as segmentation.synthetic.share; 0 among them"
    )
    sound: Literal["all", "pairs"] = Field(
        "all",
        description="on whose sound concrete cracks are simulated. all: of every photograph that neither tests nor "
        "chooses; pairs: only of the pairs that are learned from, and of photographs without a crack",
    )
    seeds: int = Field(3, ge=1, le=100, description="trainings of each kind, each with other photographs and weights")
    classifier_steps: int = Field(400, ge=1, description="of the training of the classifier of tiles")
    tile: int = Field(128, ge=32, description="side of the tiles that are called cracked or not, px")
    min_crack_pixels: int = Field(64, ge=1, description="of a tile that shows a crack; fewer, but not none: left out")

    @model_validator(mode="after")
    def _possible(self) -> Gain:
        if self.min_crack_pixels > self.tile**2:
            raise ValueError(f"a tile of {self.tile} px has fewer than {self.min_crack_pixels:,} pixels")
        return self

    @field_validator("pairs")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < _FEWEST or len(set(value)) < len(value):
            raise ValueError(f"pairs must be different numbers from {_FEWEST} on, got {value}")
        return value

    @field_validator("shares")
    @classmethod
    def _shares(cls, value: tuple[Share, ...]) -> tuple[Share, ...]:
        if len(set(value)) < len(value) or 0 not in value:
            raise ValueError(f"shares must be different ones, 0 among them, got {value}")
        return value
