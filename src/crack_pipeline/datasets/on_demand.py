"""What a pipeline may need, read only if it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import generate_timestamp


class OnDemandDataset(AbstractDataset[NoReturn, Callable[[], Any]]):
    """Gives a function that loads another dataset, its newest version where it has versions.

    A node that takes it decides by its parameters whether there must be something to load.

    Parameters
    ----------
    dataset
        The other one, as the catalog describes it.
    metadata
        For other tools; ignored here.
    """

    def __init__(self, *, dataset: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        self._dataset = AbstractDataset.from_config("on_demand", dataset, None, generate_timestamp())
        self.metadata = metadata

    def load(self) -> Callable[[], Any]:
        """Give the function that loads; it raises what the other dataset raises."""
        return self._dataset.load

    def save(self, data: NoReturn) -> None:
        """Refuse; raises DatasetError."""
        raise DatasetError("what is loaded on demand is written by the pipeline that makes it")

    def _exists(self) -> bool:
        return self._dataset.exists()

    def _describe(self) -> dict[str, Any]:
        return {"dataset": self._dataset}
