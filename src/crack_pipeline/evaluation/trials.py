"""What came of one trial of a search for parameters."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

State = Literal["complete", "pruned", "failed", "interrupted"]
STATES: tuple[State, ...] = ("complete", "pruned", "failed", "interrupted")


class TrialResult(BaseModel):
    """A trial that has ended, in whichever way."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int = Field(ge=0, description="in its search, from 0")
    state: State = Field(
        description="complete; pruned: stopped early, since others were better after as many epochs; failed; "
        "interrupted: its process ended before it did, and another trial has the same parameters"
    )
    parameters: dict[str, JsonValue] = Field(description="by the dotted name of the field")
    values: tuple[float, ...] = Field((), description="after every epoch; the higher, the better")
    began: datetime
    seconds: float | None = Field(None, ge=0, description="how long it took")
    reason: str = Field("", description="why it did not complete")
    earlier: bool = Field(False, description="whether another run of the pipeline made it")

    @property
    def value(self) -> float | None:
        """The highest value of all epochs, which is that of the weights that a training keeps; None without one."""
        return max(self.values, default=None)


def as_text(value: JsonValue) -> str:
    """Write a parameter's value as it stands in tables and figures."""
    return value if isinstance(value, str) else json.dumps(value)
