"""Weights in the safetensors format: read without unpickling anything."""

from __future__ import annotations

import json

from kedro.io import DatasetError
from kedro.io.core import VersionNotFoundError
from safetensors import SafetensorError
from safetensors.torch import save_file

from crack_pipeline.datasets.places import FileDataset
from crack_pipeline.models.weights import FACTS, Weights, read_weights


class SafetensorsDataset(FileDataset[Weights, Weights]):
    """:class:`~crack_pipeline.models.weights.Weights` in a ``.safetensors`` file.

    Parameters
    ----------
    filepath
        Where it lies: a path, or a URL.
    version
        Set by Kedro for versioned datasets.
    metadata
        For other tools; ignored here.
    """

    def load(self) -> Weights:
        """Read the file; DatasetError if there is none, it is damaged or not safetensors."""
        try:
            path = self._get_load_path()
        except VersionNotFoundError:
            raise DatasetError(
                f"there are no trained weights in {self._url(self._filepath)}: "
                f"train them first, with kedro run --pipeline {self._filepath.parent.name}"
            ) from None
        try:
            with self._reading(path) as file:
                return read_weights(file)
        except SafetensorError as error:
            raise DatasetError(f"{self._url(path)} is damaged or not a safetensors file: {error}") from error

    def save(self, data: Weights) -> None:
        """Write the file whole or not at all."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in data.tensors.items()}
        with self._writing(self._get_save_path()) as file:
            save_file(tensors, file, metadata={FACTS: json.dumps(data.facts)})
