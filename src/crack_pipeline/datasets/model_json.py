"""Pydantic models as JSON files that people can read and edit."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, DatasetError, Version
from kedro.utils import load_obj
from kedro_datasets._typing import JSONPreview
from pydantic import BaseModel, ValidationError


class ModelJSONDataset(AbstractVersionedDataset[BaseModel, BaseModel]):
    """One pydantic model in one JSON file of the local file system.

    Parameters
    ----------
    filepath
        Where it lies.
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
        self.metadata = metadata
        super().__init__(PurePosixPath(filepath), version)

    def load(self) -> BaseModel:
        """Read and validate the file; DatasetError if it does not fit the model."""
        path = Path(self._get_load_path())
        try:
            return self._model.model_validate_json(path.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise DatasetError(f"{path} does not describe a {self._model.__name__}: {error}") from error

    def save(self, data: BaseModel) -> None:
        """Write the model, indented."""
        path = Path(self._get_save_path())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def preview(self) -> JSONPreview:
        """Give the model's fields as JSON, for Kedro-Viz, which goes by the name of this type."""
        return JSONPreview(self.load().model_dump_json())

    def _exists(self) -> bool:
        try:
            return Path(self._get_load_path()).is_file()
        except DatasetError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "model": self._model.__name__, "version": self._version}
