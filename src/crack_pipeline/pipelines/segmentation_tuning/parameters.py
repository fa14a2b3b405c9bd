"""Parameters of the search: what is varied, how far, and how long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel, model_serializer, model_validator

_FIELDS = frozenset({"choices", "low", "high", "step", "log"})


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Dimension(_Strict):
    """The values that a field may have: some choices, or a range of numbers.

    Null is as good as nothing, so that an environment can turn one into the other.
    """

    choices: tuple[JsonValue, ...] | None = Field(None, min_length=1, description="a single one fixes the field")
    low: int | float | None = Field(None, description="smallest value")
    high: int | float | None = Field(None, description="largest value; whole numbers where the field takes these")
    step: int | float | None = Field(None, gt=0, description="distance of the values, from low on; null: every value")
    log: bool = Field(False, description="whether every factor counts alike, instead of every difference")

    @model_validator(mode="after")
    def _consistent(self) -> Dimension:
        low, high, choices = self.low, self.high, self.choices
        if choices is not None:
            if low is not None or high is not None:
                raise ValueError("has choices and a range: set choices, or low and high, to null")
            repeated = [choice for number, choice in enumerate(choices) if choice in choices[:number]]
            if repeated:
                raise ValueError(f"{repeated[0]!r} is twice among the choices")
            return self
        if low is None or high is None:
            raise ValueError("needs choices, or low and high")
        if low > high:
            raise ValueError(f"low is {low}, more than high, {high}")
        if self.log and low <= 0:
            raise ValueError(f"low is {low}: with log it must be above 0")
        if self.log and self.step is not None:
            raise ValueError("step and log do not go together")
        return self

    @property
    def ends(self) -> tuple[float, float]:
        """Smallest and largest value of a range."""
        assert self.low is not None and self.high is not None
        return self.low, self.high

    @model_serializer
    def _short(self) -> dict[str, Any]:
        if self.choices is not None:
            return {"choices": list(self.choices)}
        rest = {"step": self.step, "log": self.log}
        return {"low": self.low, "high": self.high} | {name: value for name, value in rest.items() if value}


class Space(RootModel[dict[str, Dimension]]):
    """What is varied, by the dotted name of a field of ``segmentation.network`` or ``segmentation.training``.

    Names may also be nested, as on the command line, and null takes a dimension out: ``training.learning_rate: null``.
    """

    root: dict[str, Dimension] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        found: dict[str, Any] = {}
        _flatten(value, "", found)
        return {name: about for name, about in found.items() if about is not None}


def _flatten(value: Mapping[Any, Any], prefix: str, found: dict[str, Any]) -> None:
    for key, inner in value.items():
        name = f"{prefix}{key}"
        if isinstance(inner, Mapping) and not _FIELDS.intersection(inner):
            _flatten(inner, f"{name}.", found)
        elif isinstance(inner, Mapping):
            found[name] = {**(found.get(name) or {}), **inner}
        elif inner is None:
            found[name] = None
        else:
            raise ValueError(f"{name} is {inner!r}: write {{choices: [...]}}, or {{low: ..., high: ...}}")


class Search(_Strict):
    """How many trials there are, and how each is trained."""

    trials: int = Field(20, ge=1, description="in all, those of interrupted runs included")
    steps: int = Field(480, ge=1, description="batches of a trial, in place of segmentation.training.steps")
    steps_per_epoch: int = Field(
        60, ge=1, description="batches between two validations, at most steps, in place of segmentation's"
    )
    sampler: Literal["tpe", "random"] = Field(
        "tpe", description="tree-structured Parzen estimator, which learns from the trials so far, or no learning"
    )
    startup: int = Field(6, ge=1, description="trials that are drawn at random, before the sampler has learned enough")
    first: tuple[dict[str, JsonValue], ...] = Field(
        ({},),
        description="points that are tried first, by name; what one leaves out is as in segmentation, where the space "
        "allows that, so that {} stands for the settings there are",
    )
    retries: int = Field(3, ge=0, description="how often a trial whose process was killed is begun again")
    seed: int = Field(0, ge=0, description="of the points that are drawn")


class Pruning(_Strict):
    """When a trial is stopped early."""

    rule: Literal["median", "none"] = Field(
        "median", description="median: where it is below the median of the complete trials after as many epochs"
    )
    startup: int = Field(5, ge=1, description="complete trials there must be before one is stopped")
    epochs: int = Field(3, ge=1, description="epochs that every trial is given")
