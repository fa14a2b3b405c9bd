"""Weights in the safetensors format: read without unpickling anything."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset, DatasetError, Version
from kedro.io.core import VersionNotFoundError
from safetensors import SafetensorError
from safetensors.torch import save_file

from crack_pipeline.models.weights import FACTS, Weights, read_weights


class SafetensorsDataset(AbstractVersionedDataset[Weights, Weights]):
    """:class:`~crack_pipeline.models.weights.Weights` in a ``.safetensors`` file of the local file system.

    Parameters
    ----------
    filepath
        Where it lies.
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

    def load(self) -> Weights:
        """Read the file; DatasetError if there is none, it is damaged or not safetensors."""
        try:
            path = Path(self._get_load_path())
        except VersionNotFoundError:
            pipeline = Path(self._filepath).parent.name
            raise DatasetError(
                f"there are no trained weights in {self._filepath}: "
                f"train them first, with kedro run --pipeline {pipeline}"
            ) from None
        try:
            return read_weights(path)
        except SafetensorError as error:
            raise DatasetError(f"{path} is damaged or not a safetensors file: {error}") from error

    def save(self, data: Weights) -> None:
        """Write the file whole or not at all."""
        path = Path(self._get_save_path())
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in data.tensors.items()}
        save_file(tensors, part, metadata={FACTS: json.dumps(data.facts)})
        part.replace(path)

    def _exists(self) -> bool:
        try:
            return Path(self._get_load_path()).is_file()
        except DatasetError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}
