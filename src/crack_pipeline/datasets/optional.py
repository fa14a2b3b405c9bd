"""Tables that a run which is killed leaves as they were, and that may not be there yet."""

from __future__ import annotations

from typing import Any

import pandas as pd

from crack_pipeline.datasets.places import FileDataset


class ParquetTableDataset(FileDataset[pd.DataFrame, pd.DataFrame]):
    """A Parquet table, written whole or not at all, for a run that reads what a killed one has left.

    Parameters
    ----------
    filepath
        Of the Parquet file: a path, or a URL.
    metadata
        For other tools; ignored here.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        super().__init__(filepath, None, metadata)

    def load(self) -> pd.DataFrame:
        """Read the table."""
        with self._reading(self._filepath) as file:
            return pd.read_parquet(file)

    def save(self, data: pd.DataFrame) -> None:
        """Write the table beside the old one and put it in its place."""
        with self._writing(self._filepath) as file:
            data.to_parquet(file, index=False)


class OptionalParquetDataset(ParquetTableDataset):
    """A Parquet table as :class:`ParquetTableDataset`: None where there is none yet.

    It lets a pipeline carry on what it wrote before: the catalog has two entries for one file, so that a run reads
    what the run before it left and writes it anew.
    """

    def load(self) -> pd.DataFrame | None:  # type: ignore[override]
        """Read the table; None if the file does not exist."""
        return super().load() if self._exists() else None
