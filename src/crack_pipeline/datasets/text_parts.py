"""A text that comes in parts."""

from __future__ import annotations

from collections.abc import Iterable

from kedro.io.core import DatasetError

from crack_pipeline.datasets.places import FileDataset


class TextPartsDataset(FileDataset[Iterable[str], str]):
    """A text file in UTF-8, written part by part, whole or not at all.

    Parameters
    ----------
    filepath
        Where it lies: a path, or a URL.
    version
        Set by Kedro for versioned datasets.
    metadata
        For other tools; ignored here.
    """

    def load(self) -> str:
        """Read all of it."""
        with self._reading(self._get_load_path()) as file:
            return file.read_text("utf-8")

    def save(self, data: Iterable[str]) -> None:
        """Write one part after the other; DatasetError where the file cannot be written."""
        path = self._get_save_path()
        try:
            with (
                self._writing(path) as whole,
                whole.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
            ):
                file.writelines(data)
        except OSError as error:
            raise DatasetError(f"{self._url(path)} cannot be written: {error}") from error
