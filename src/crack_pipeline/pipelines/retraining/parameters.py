"""Parameters of retrainings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from crack_pipeline.evaluation.drift import Limits


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DriftCheck(Limits):
    """How new photographs are compared with the earlier ones, and what follows from a drift."""

    stops: bool = Field(
        False, description="whether a drift ends the run with an error before anything is trained; otherwise it warns"
    )
    photographs: int = Field(2000, ge=20, description="of the new and of the earlier ones that are measured at most")
    scored: int = Field(500, ge=20, description="of each that the current model scores at most, which takes longer")
    seed: int = Field(0, ge=0, description="of the draw of these")


class Retraining(_Strict):
    """When a model is trained again."""

    reread: bool = Field(
        True,
        description="read every file to see whether it has changed; false: a file of known path and size has not, "
        "which is for roots that take hours to read",
    )
    most_lost: float = Field(
        0.1,
        ge=0,
        le=1,
        description="share of the known photographs that may be gone; with more the run ends with an error",
    )
    attempts: int = Field(
        3, ge=1, le=100, description="comparisons with the champion while other promotions are quicker"
    )
    drift: DriftCheck
