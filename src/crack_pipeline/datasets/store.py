"""Datasets that give something to fetch from, and nothing else."""

from __future__ import annotations

from typing import Any, Generic, NoReturn, TypeVar

from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

S = TypeVar("S")


class StoreDataset(AbstractDataset[NoReturn, S], Generic[S]):
    """Opens a store; nothing is fetched before it is asked for.

    Parameters
    ----------
    store
        What is given to nodes.
    metadata
        For other tools; not used.
    described
        What Kedro shows of it.
    """

    def __init__(self, store: S, metadata: dict[str, Any] | None, **described: Any) -> None:
        self._store, self._described, self.metadata = store, described, metadata

    def load(self) -> S:
        """Give the store."""
        return self._store

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: it fills itself."""
        raise DatasetError(f"{self._described['filepath']} keeps what was downloaded; nothing is saved there")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return self._described
