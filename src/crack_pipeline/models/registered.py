"""Versions of a registered model, as they are compared and used."""

from __future__ import annotations

import re
from typing import NamedTuple

from crack_pipeline.models.weights import Weights

PREFIX = "models:/"
CHAMPION = "champion"
IN_USE = "in_use"
"""Fact of weights that were chosen for use: ``model``, and ``version``, None where they are the newest training."""

_REFERENCE = re.compile(rf"{PREFIX}(?P<model>[^/@\s]+)(?:/(?P<version>[1-9][0-9]*)|@(?P<alias>[\w.-]+))")


class Reference(NamedTuple):
    """What an address such as ``models:/segmentation@champion`` or ``models:/segmentation/3`` names.

    Attributes
    ----------
    model
        Name of the registered model.
    version
        None where an alias is named.
    alias
        None where a version is named.
    """

    model: str
    version: int | None
    alias: str | None


def parse(address: str) -> Reference:
    """Read the address of a registered model.

    Raises
    ------
    ValueError
        If it is none.

    Examples
    --------
    >>> parse("models:/segmentation/3")
    Reference(model='segmentation', version=3, alias=None)
    """
    found = _REFERENCE.fullmatch(address)
    if found is None:
        raise ValueError(
            f"{address!r} names no registered model: write {PREFIX}segmentation@{CHAMPION}, or {PREFIX}segmentation/3 "
            "for a version"
        )
    version = found["version"]
    return Reference(found["model"], None if version is None else int(version), found["alias"])


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


class Newest(NamedTuple):
    """The newest version of a registered model.

    Attributes
    ----------
    version
        Its number.
    decided
        Whether it was decided if it is used.
    photographs
        Hash of the photographs that there were when its training began; None if the training does not say so.
    unused
        Whether no version of the model is in use, this one or another.
    """

    version: int
    decided: bool
    photographs: str | None
    unused: bool = False
