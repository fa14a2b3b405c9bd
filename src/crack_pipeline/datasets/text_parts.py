"""A text that comes in parts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractVersionedDataset
from kedro.io.core import DatasetError, Version

from crack_pipeline.datasets.safe_names import PART


class TextPartsDataset(AbstractVersionedDataset[Iterable[str], str]):
    """A text file of the local file system, in UTF-8, written part by part, whole or not at all.

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

    def load(self) -> str:
        """Read all of it."""
        return Path(self._get_load_path()).read_text("utf-8")

    def save(self, data: Iterable[str]) -> None:
        """Write one part after the other; DatasetError where the file cannot be written."""
        path = Path(self._get_save_path())
        part = path.with_name(f"{path.name}{PART}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                file.writelines(data)
            part.replace(path)
        except OSError as error:
            raise DatasetError(f"{path} cannot be written: {error}") from error
        finally:
            part.unlink(missing_ok=True)

    def _exists(self) -> bool:
        try:
            return Path(self._get_load_path()).is_file()
        except DatasetError:
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}
