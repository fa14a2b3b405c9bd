"""Parameters of a command that no pipeline asks for: Kedro passes over them, so that a misspelt one does nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from kedro.pipeline import Pipeline

_PREFIX = "params:"
_RUNTIME = re.compile(r"\$\{runtime_params:\s*([\w.]+)")
_CLOSE = 0.6


class UnknownParameterError(Exception):
    """A parameter was given that there is none of."""


def names_of(pipelines: Iterable[Pipeline]) -> set[str]:
    """Name the parameters that nodes ask for, such as ``anomaly.vae``; what is below them their models check."""
    inputs = {name for pipeline in pipelines for name in pipeline.inputs()}
    return {name.removeprefix(_PREFIX) for name in inputs if name.startswith(_PREFIX)}


def names_in(configuration: Path) -> set[str]:
    """Name the parameters that files of a configuration ask for, such as ``raw_root`` of the catalog."""
    return {
        name
        for file in sorted(configuration.rglob("*.yml"))
        for name in _RUNTIME.findall(file.read_text(encoding="utf-8"))
    }


def check(given: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse what is misspelt.

    Parameters
    ----------
    given
        Parameters of a command, nested.
    known
        Names that there are. What is below one of them, or holds one, is not looked at.

    Raises
    ------
    UnknownParameterError
        If there is another one; the message names the nearest.

    Examples
    --------
    >>> check({"anomly": {"vae": {"epochs": 3}}}, {"anomaly.vae", "raw_root"})
    Traceback (most recent call last):
    ...
    crack_pipeline.parameter_names.UnknownParameterError: there is no parameter anomly.vae.epochs: is it \
anomaly.vae.epochs?
    """
    for name in _leaves(given):
        if any(name == one or name.startswith(f"{one}.") or one.startswith(f"{name}.") for one in known):
            continue
        near = _nearest(name, known)
        first = sorted({one.partition(".")[0] for one in known})
        hint = f"is it {near}?" if near else f"they begin with {', '.join(first)}"
        raise UnknownParameterError(f"there is no parameter {name}: {hint}")


def _leaves(given: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in given.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _nearest(name: str, known: Collection[str]) -> str | None:
    """Put the known name that is most like the beginning of another one in its place."""
    parts, best, found = name.split("."), _CLOSE, None
    for one in sorted(known):
        length = one.count(".") + 1
        head, rest = ".".join(parts[:length]), parts[length:]
        likeness = SequenceMatcher(None, head, one).ratio()
        if likeness > best:
            best, found = likeness, ".".join([one, *rest])
    return found
