"""Exported models: an ONNX file, and beside it what it says of itself."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, DatasetError, Version

from crack_pipeline.serving.exporting import Exported
from crack_pipeline.serving.onnx import OnnxModel


class OnnxDataset(AbstractVersionedDataset[Exported, Exported]):
    """An exported model of the local file system: ``model.onnx``, and ``model.json`` for people to read.

    Parameters
    ----------
    filepath
        Of the ONNX file; the other one gets its name, and ``.json``.
    version
        Set by Kedro for versioned datasets.
    metadata
        For other tools; ignored here.
    """

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self.metadata = metadata
        super().__init__(PurePosixPath(filepath), version)

    def load(self) -> Exported:
        """Read the file; DatasetError if it is damaged or was not exported by this project."""
        data = Path(self._get_load_path()).read_bytes()
        try:
            return Exported(data, OnnxModel(data).facts)
        except (ValueError, ImportError) as error:
            raise DatasetError(f"{self._filepath}: {error}") from error

    def save(self, data: Exported) -> None:
        """Write both files, the model last, and whole or not at all."""
        path = Path(self._get_save_path())
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".json").write_text(data.facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
        part = path.with_suffix(".part")
        part.write_bytes(data.model)
        part.replace(path)

    def _exists(self) -> bool:
        try:
            return Path(self._get_load_path()).is_file()
        except DatasetError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}
