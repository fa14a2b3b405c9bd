"""Exported models: an ONNX file, and beside it what it says of itself."""

from __future__ import annotations

from kedro.io import DatasetError

from crack_pipeline.datasets.places import FileDataset
from crack_pipeline.serving.exporting import Exported
from crack_pipeline.serving.onnx import OnnxModel


class OnnxDataset(FileDataset[Exported, Exported]):
    """An exported model: ``model.onnx``, and ``model.json`` for people to read.

    Parameters
    ----------
    filepath
        Of the ONNX file, a path or a URL; the other one gets its name, and ``.json``.
    version
        Set by Kedro for versioned datasets.
    metadata
        For other tools; ignored here.
    """

    def load(self) -> Exported:
        """Read the file; DatasetError if it is damaged or was not exported by this project."""
        with self._reading(self._get_load_path()) as file:
            data = file.read_bytes()
        try:
            return Exported(data, OnnxModel(data).facts)
        except (ValueError, ImportError) as error:
            raise DatasetError(f"{self._url(self._filepath)}: {error}") from error

    def save(self, data: Exported) -> None:
        """Write both files, the model last, and whole or not at all."""
        path = self._get_save_path()
        with self._writing(path.with_suffix(".json")) as file:
            file.write_text(data.facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
        with self._writing(path) as file:
            file.write_bytes(data.model)
