"""Who is told of the epochs of a training that other processes do.

Where a training is in this process, the tools that follow Lightning follow it. Where it is not, this is how its epochs
come to them, as the lines of log come to the handlers of a logger: who trains need not know who listens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Listener = Callable[[int, Mapping[str, float]], None]
"""Takes an epoch, from 0, and its metrics."""

_listeners: list[Listener] = []


def listen(listener: Listener | None) -> None:
    """Tell nobody but this listener from now on; None: nobody."""
    _listeners[:] = [] if listener is None else [listener]


def tell(epoch: int, metrics: Mapping[str, float]) -> None:
    """Tell those who listen of an epoch."""
    for listener in _listeners:
        listener(epoch, metrics)
