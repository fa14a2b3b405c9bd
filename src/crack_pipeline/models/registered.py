"""Versions of a registered model, as they are compared and used."""

from __future__ import annotations

from typing import NamedTuple

from crack_pipeline.models.weights import Weights


class Registered(NamedTuple):
    """One version of a registered model, and what it needs to answer."""

    version: int
    weights: Weights


class Contenders(NamedTuple):
    """The version that wants to be used, and the one that is.

    Attributes
    ----------
    model
        Name of the registered model: that of the pipeline that trained it.
    challenger
        The version that may be promoted.
    champion
        The version in use; None if there is none yet.
    asked_for
        Whether the challenger was named, instead of being the newest one.
    rolled_back
        Whether the challenger was in use before, and somebody went back from it to an earlier one.
    """

    model: str
    challenger: Registered
    champion: Registered | None
    asked_for: bool
    rolled_back: bool


class Standing(NamedTuple):
    """The version in use, those that may be gone back to, the last one first, and those that were gone back from."""

    champion: int | None
    earlier: tuple[int, ...]
    rolled_back: frozenset[int]
