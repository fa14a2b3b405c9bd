"""From dotted names to the parameters of a training, and to what Optuna draws from."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from crack_pipeline.evaluation.trials import as_text
from crack_pipeline.pipelines.segmentation.parameters import Network, Training
from crack_pipeline.pipelines.segmentation_tuning.parameters import Dimension, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Model = TypeVar("Model", bound=BaseModel)
_PROBED = 100
_CLOSE = 1e-8


class ImpossibleError(ValueError):
    """Parameters that do not go together."""


@dataclass(frozen=True)
class SearchSpace:
    """A space whose every name and value was checked.

    Attributes
    ----------
    space
        The dimensions.
    base
        ``network`` and ``training``, JSON-like: the values of everything that is not varied.
    """

    space: Space
    base: Mapping[str, Any]

    def at_base(self, name: str) -> JsonValue:
        """Give the value that a field has where it is not varied."""
        value = self.base
        for part in _parts(name):
            value = value[part]  # type: ignore[index]
        return value  # type: ignore[return-value]

    def build(self, values: Mapping[str, JsonValue]) -> tuple[Network, Training]:
        """Put values in their places.

        Raises
        ------
        ImpossibleError
            If they do not go together.
        """
        changed: Any = deepcopy(dict(self.base))
        for name, value in values.items():
            *way, last = _parts(name)
            holder = changed
            for part in way:
                holder = holder[part]
            holder[last] = value
        return _validated(Network, changed["network"]), _validated(Training, changed["training"])

    def distributions(self) -> dict[str, BaseDistribution]:
        """Give what Optuna draws from."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        found: dict[str, BaseDistribution] = {}
        for name, about in self.space.root.items():
            if about.choices is not None:
                found[name] = CategoricalDistribution([_label(choice) for choice in about.choices])
                continue
            low, high = about.ends
            if self._whole(name, about):
                found[name] = IntDistribution(int(low), int(high), about.log, int(about.step or 1))
            else:
                found[name] = FloatDistribution(float(low), float(high), about.log, about.step)
        return found

    def values(self, drawn: Mapping[str, Any]) -> dict[str, JsonValue]:
        """Give the values of the fields from what Optuna drew."""
        found: dict[str, JsonValue] = {}
        for name, value in drawn.items():
            choices = self.space.root[name].choices or ()
            found[name] = next((choice for choice in choices if _label(choice) == value), value)
        return found

    def drawn(self, values: Mapping[str, JsonValue]) -> dict[str, Any]:
        """Give what Optuna would have drawn, for values of fields."""
        return {name: _label(value) for name, value in values.items()}

    def point(self, wanted: Mapping[str, JsonValue]) -> dict[str, Any]:
        """Give a point as Optuna takes it.

        Parameters
        ----------
        wanted
            Values by name; those of the other fields are what they are without the search, if the space holds them.

        Returns
        -------
        dict
            By name; a name that is not there is drawn.

        Raises
        ------
        ImpossibleError
            If the space has no such name or does not hold such a value.
        """
        found = {}
        for name in wanted:
            if name not in self.space.root:
                raise ImpossibleError(f"{name} is not varied")
        for name in self.space.root:
            value = wanted.get(name, self.at_base(name))
            if self._holds(name, value):
                found[name] = _label(value)
            elif name in wanted:
                raise ImpossibleError(f"{name} is {value!r}, which the space does not hold")
        return found

    def axes(self) -> dict[str, list[str] | str]:
        """Say how each dimension is drawn: the choices as text, ``log`` or ``linear``; without those that are fixed."""
        found: dict[str, list[str] | str] = {}
        for name, about in self.space.root.items():
            if about.choices is None:
                found |= {name: "log" if about.log else "linear"} if about.ends[0] < about.ends[1] else {}
            elif len(about.choices) > 1:
                found[name] = [as_text(choice) for choice in about.choices]
        return found

    def _holds(self, name: str, value: JsonValue) -> bool:
        about = self.space.root[name]
        if about.choices is not None:
            return any(value == choice and type(value) is type(choice) for choice in about.choices)
        low, high = about.ends
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            return False
        steps = (value - low) / (about.step or (1 if self._whole(name, about) else math.inf))
        return abs(steps - round(steps)) < _CLOSE

    def _whole(self, name: str, about: Dimension) -> bool:
        value = self.at_base(name)
        if value is None:
            return all(float(number).is_integer() for number in (*about.ends, about.step or 1))
        return isinstance(value, int) and not isinstance(value, bool)


def check(space: Space, network: Network, training: Training, *, steps: int, steps_per_epoch: int) -> SearchSpace:
    """Check every name and every value by itself.

    Parameters
    ----------
    space
        What is varied.
    network, training
        The values of everything else.
    steps, steps_per_epoch
        Of a trial, in place of those of ``training``.

    Returns
    -------
    SearchSpace

    Raises
    ------
    ValueError
        If a name is no field, or a value is not one that the field takes; the message names both.
    """
    base = {
        "network": network.model_dump(mode="json"),
        "training": {**training.model_dump(mode="json"), "steps": steps, "steps_per_epoch": steps_per_epoch},
    }
    found = SearchSpace(space, base)
    try:
        found.build({})
    except ImpossibleError as error:
        raise ValueError(f"segmentation_tuning.search: {error}") from None
    for name, about in space.root.items():
        _check_name(name, base)
        inside = [other for other in space.root if other.startswith(f"{name}.")]
        if inside:
            raise ValueError(f"segmentation_tuning.space: {name} and its part {inside[0]} cannot both be varied")
        if about.choices is None and found._whole(name, about):
            _check_whole(name, about)
        for value in _probes(found, name):
            try:
                found.build({name: value})
            except ImpossibleError as error:
                raise ValueError(f"segmentation_tuning.space: {name} cannot be {value!r}: {error}") from None
    return found


def _check_name(name: str, base: Mapping[str, Any]) -> None:
    value: Any = base
    parts = _parts(name)
    for number, part in enumerate(parts):
        keys = list(value) if isinstance(value, Mapping) else list(range(len(value))) if _is_list(value) else []
        if part not in keys:
            place = ".".join(map(str, parts[:number]))
            if not place:
                raise ValueError(
                    f"segmentation_tuning.space: {name} names no field; names begin with network. or training., such "
                    "as training.learning_rate"
                )
            there = f"it has {', '.join(map(str, keys))}" if keys else "it has no fields of its own"
            raise ValueError(f"segmentation_tuning.space: {name} names no field of segmentation.{place}; {there}")
        value = value[part]
    if name == "training":
        raise ValueError("segmentation_tuning.space: name the fields of training one by one")


def _check_whole(name: str, about: Dimension) -> None:
    for what in ("low", "high", "step"):
        number = getattr(about, what)
        if number is not None and not float(number).is_integer():
            raise ValueError(f"segmentation_tuning.space: {name} takes whole numbers, but its {what} is {number}")


def _probes(space: SearchSpace, name: str) -> Iterator[JsonValue]:
    about = space.space.root[name]
    if about.choices is not None:
        yield from about.choices
    elif space._whole(name, about):
        low, high, step = *map(int, about.ends), int(about.step or 1)
        yield from range(low, high + 1, step * max(1, (high - low) // step // _PROBED))
        yield high - (high - low) % step
    else:
        yield from map(float, about.ends)


def _parts(name: str) -> list[str | int]:
    return [int(part) if part.isdigit() else part for part in name.split(".")]


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _label(choice: JsonValue) -> Any:
    """Give what stands for a choice in a study, which keeps nothing but plain values."""
    return json.dumps(choice, sort_keys=True) if isinstance(choice, dict | list) else choice


def _validated(model: type[Model], values: Any) -> Model:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"] if part not in ("unet", "encoder"))
        message = problem["msg"].removeprefix("Value error, ")
        raise ImpossibleError(f"{where}: {message}" if where else message) from None
