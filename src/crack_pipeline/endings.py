"""How a run ends well before its last node: where there is nothing to do."""

from __future__ import annotations

from typing import NamedTuple


class Ending(NamedTuple):
    """What a node returns when nothing is left to be done: the run ends there, well, and says why in one line.

    A pipeline has no branches, so this takes the place of one; :class:`crack_pipeline.hooks.ProjectHooks` reads it.

    Attributes
    ----------
    reason
        The line.
    trained
        Whether a training has come to its end, so that its checkpoints are no longer needed. Otherwise they may be of
        one that was interrupted, and is to go on.
    """

    reason: str
    trained: bool = False


class EndsWell(SystemExit):
    """Ends a process with the exit status 0, as Python, click and Airflow understand it, and calls nothing an error."""

    def __init__(self, reason: str) -> None:
        super().__init__(0)
        self.reason = reason
