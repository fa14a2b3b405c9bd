"""The trained model that predictions are made with: the newest training, the champion, or a registered version."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import generate_timestamp

from crack_pipeline.datasets.model_registry import ModelRegistry
from crack_pipeline.models.registered import CHAMPION, IN_USE, PREFIX, Registered
from crack_pipeline.models.weights import Weights

logger = logging.getLogger(__name__)

NEWEST = "newest"


class ChosenModelDataset(AbstractDataset[NoReturn, Weights]):
    """One model of a pipeline, read once: what becomes champion or is trained during a run does not change the run.

    Parameters
    ----------
    model
        The pipeline that trains it, and its name in the registry.
    use
        ``newest`` (the newest training of this project, registered or not), ``champion``, or the number of a registered
        version.
    dataset
        Of the newest training, as the catalog describes it.
    metadata
        For other tools; ignored here.

    Raises
    ------
    DatasetError
        If the version is none of these.
    """

    def __init__(
        self, *, model: str, use: str | int, dataset: dict[str, Any], metadata: dict[str, Any] | None = None
    ) -> None:
        wanted = str(use)
        if wanted not in (NEWEST, CHAMPION) and not (wanted.isdecimal() and int(wanted) > 0):
            raise DatasetError(
                f"model_version is {use!r}; it must be {NEWEST}, {CHAMPION}, or the number of a registered version"
            )
        self._model, self._use = model, wanted
        self._dataset = AbstractDataset.from_config("newest", dataset, None, generate_timestamp())
        self._found: Weights | None = None
        self.metadata = metadata

    def load(self) -> Weights:
        """Give the model, and say in its facts which one it is; DatasetError if there is none, or nobody can tell."""
        if self._found is None:
            version, weights = (None, self._dataset.load()) if self._use == NEWEST else self._registered()
            self._found = Weights(weights.tensors, weights.facts | {IN_USE: {"model": self._model, "version": version}})
        return self._found

    def _registered(self) -> Registered:
        place = f"@{CHAMPION}" if self._use == CHAMPION else f"/{int(self._use)}"
        found = ModelRegistry(Path()).find(f"{PREFIX}{self._model}{place}")
        logger.info("%s, version %d answers", self._model, found.version)
        return found

    def save(self, data: NoReturn) -> None:
        """Refuse; raises DatasetError."""
        raise DatasetError("a model is written by the pipeline that trains it")

    def _exists(self) -> bool:
        return self._use != NEWEST or self._dataset.exists()

    def _describe(self) -> dict[str, Any]:
        return {"model": self._model, "use": self._use, "dataset": self._dataset}
