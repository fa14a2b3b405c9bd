"""A folder that a node is handed, for files that are not results: checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError


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

    def _exists(self) -> bool:
        return self._folder.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder)}
