"""Parameters of the repair of photographs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from crack_pipeline.imaging.inpainting import METHODS, Method
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.pipelines.trained import Wanted


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Cracks(_Strict):
    """What says where the cracks are."""

    source: Literal["auto", "masks", "segmenter"] = Field(
        "auto",
        description="masks: those of the data set, and photographs without one are left out; segmenter: one that was "
        "trained, on photographs in any folders; auto: the mask where there is one, otherwise the segmenter",
    )
    segmenter: Wanted = Field(
        "auto",
        description="the pipeline whose newest segmenter is taken; auto: the first of these that has trained one; or a "
        "registered one, such as models:/segmentation@champion",
    )


class Judging(_Strict):
    """How the methods are compared."""

    methods: tuple[Method, ...] = Field(METHODS, min_length=1, description="those that are compared")
    squares: int = Field(
        64, ge=0, description="squares of sound concrete on which a crack is drawn and filled; 0: none"
    )
    size: int = Field(192, ge=32, le=2048, description="side of these squares, px")
    simulation: Simulation = Field(
        default_factory=lambda: Simulation.model_validate({"cracked": 1.0, "width": (2.0, 16.0), "nuisances": 0.0})
    )
    photographs: int = Field(
        40, ge=0, description="photographs with cracks that are repaired by every method and looked at again; 0: none"
    )
    largest: int = Field(4_000_000, ge=10_000, description="px; larger ones are not looked at by every method")
    least_pixels: int = Field(20, ge=1, description="crack pixels from which on a segmenter sees a crack")
    examples: int = Field(8, ge=1, le=40, description="squares that are shown")
    seed: int = Field(0, ge=0, description="of the choice of squares, and of what is drawn on them")


class Output(_Strict):
    """What is written of each photograph."""

    before_after: bool = Field(True, description="a picture of the photograph beside itself without its cracks")
