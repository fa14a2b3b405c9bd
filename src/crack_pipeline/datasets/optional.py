"""A table that may not be there yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset


class OptionalParquetDataset(AbstractDataset[pd.DataFrame, pd.DataFrame | None]):
    """A Parquet table of the local file system: None where there is none yet, written whole or not at all.

    It lets a pipeline carry on what it wrote before: the catalog has two entries for one file, so that a run reads
    what the run before it left and writes it anew.

    Parameters
    ----------
    filepath
        Of the Parquet file.
    metadata
        For other tools; ignored here.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> pd.DataFrame | None:
        """Read the table; None if the file does not exist."""
        return pd.read_parquet(self._filepath) if self._exists() else None

    def save(self, data: pd.DataFrame) -> None:
        """Write the table beside the old one and put it in its place."""
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        part = self._filepath.with_suffix(".part")
        data.to_parquet(part, index=False)
        part.replace(self._filepath)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
