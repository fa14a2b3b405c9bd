"""Pydantic models as JSON files that people can read and edit."""

from __future__ import annotations

from typing import Any

from kedro.io import DatasetError, Version
from kedro.utils import load_obj
from kedro_datasets._typing import JSONPreview
from pydantic import BaseModel, ValidationError

from crack_pipeline.datasets.places import FileDataset


class ModelJSONDataset(FileDataset[BaseModel, BaseModel]):
    """One pydantic model in one JSON file.

    Parameters
    ----------
    filepath
        Where it lies: a path, or a URL.
    model
        Dotted name of the model's class.
    version
        Set by Kedro for versioned datasets.
    metadata
        For other tools; ignored here.
    """

    def __init__(
        self,
        *,
        filepath: str,
        model: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._model: type[BaseModel] = load_obj(model)
        super().__init__(filepath, version, metadata)

    def load(self) -> BaseModel:
        """Read and validate the file; DatasetError if it does not fit the model."""
        path = self._get_load_path()
        try:
            with self._reading(path) as file:
                return self._model.model_validate_json(file.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise DatasetError(f"{self._url(path)} does not describe a {self._model.__name__}: {error}") from error

    def save(self, data: BaseModel) -> None:
        """Write the model, indented."""
        with self._writing(self._get_save_path()) as file:
            file.write_text(data.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def preview(self) -> JSONPreview:
        """Give the model's fields as JSON, for Kedro-Viz, which goes by the name of this type."""
        return JSONPreview(self.load().model_dump_json())

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "model": self._model.__name__}
