"""What a worker of a cluster could not read, though it can be read where the command runs."""

from __future__ import annotations

import logging

logger = logging.getLogger(__name__)


class Misread:
    """Forgives some of it, since every machine has a bad moment; more of it, and a machine has lost the photographs.

    Parameters
    ----------
    forgiven
        How many times.
    instead
        What is done about it, for the log.
    """

    def __init__(self, forgiven: int, instead: str) -> None:
        self._forgiven, self._instead, self._times = forgiven, instead, 0

    def note(self, path: str, reason: str) -> None:
        """Say of a photograph why it could not be read; raises RuntimeError when it is too much."""
        self._times += 1
        if self._times > self._forgiven:
            raise RuntimeError(
                f"workers of the Ray cluster cannot read photographs that can be read here: {path} {reason}; see "
                "whether all nodes still reach the root, and type the command again: what was done of the others is "
                "kept"
            )
        logger.warning("a worker could not read %s (%s), and it can be read here: %s", path, reason, self._instead)
