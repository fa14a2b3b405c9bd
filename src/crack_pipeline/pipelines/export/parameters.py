"""Parameters of the export to ONNX."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Check(BaseModel):
    """How the exported model is compared with torch; beyond these limits nothing is exported."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    photographs: int = Field(
        16, ge=1, description="of the root, spread evenly over the sorted list; all of them where there are fewer"
    )
    most_pixels: int = Field(4_000_000, ge=10_000, description="segmenter: larger photographs are not compared")
    probability: float = Field(
        1e-3, gt=0, le=0.1, description="segmenter: how far the probability of any pixel may differ"
    )
    pixels: float = Field(
        1e-4, ge=0, le=0.1, description="segmenter: share of a photograph's pixels that the mask may differ in"
    )
    score: float = Field(
        1e-3, gt=0, le=0.1, description="detector: how far a score may differ, as a share of 1 or of the score"
    )
