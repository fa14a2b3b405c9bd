"""A folder that a node is handed, for files that are not results: checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NoReturn

from fsspec.implementations.local import LocalFileSystem
from kedro.io import AbstractDataset, DatasetError

from crack_pipeline.datasets.block_folder import FolderTicket


class FolderDataset(AbstractDataset[NoReturn, Path]):
    """Gives the path of a local folder, which it creates.

    Parameters
    ----------
    filepath
        Of the folder.
    metadata
        For other tools; ignored here.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._folder = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """Give the folder's path."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    def save(self, data: NoReturn) -> NoReturn:
        """Refuse: files get there by other ways."""
        raise DatasetError(f"{self._folder} is a folder to work in; nothing is saved through the catalog")

    def clear(self) -> None:
        """Delete what is in the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def ticket(self) -> FolderTicket:
        """Give what tries on any machine whether it reaches the folder."""
        return FolderTicket(LocalFileSystem(), str(self._folder.absolute()), str(self._folder))

    def _exists(self) -> bool:
        return self._folder.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}
