"""Tables that a run which is killed leaves as they were, and that may not be there yet."""

from __future__ import annotations

import logging
from typing import Any, Literal

import pandas as pd
from pyarrow import ArrowException

from crack_pipeline.datasets.places import FileDataset

logger = logging.getLogger(__name__)


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


class OptionalParquetDataset(FileDataset[pd.DataFrame, pd.DataFrame | None]):
    """A Parquet table: None where there is none yet, written whole or not at all.

    It lets a pipeline carry on what it wrote before: the catalog has two entries for one file, so that a run reads
    what the run before it left and writes it anew.

    Parameters
    ----------
    filepath
        Of the Parquet file: a path, or a URL.
    damaged
        ``refused``: a file that is no whole table is an error. ``ignored``: it is taken for none, with a warning, which
        is for what others write and a run that was killed may have left in pieces.
    metadata
        For other tools; ignored here.
    """

    def __init__(
        self,
        *,
        filepath: str,
        damaged: Literal["refused", "ignored"] = "refused",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._ignored = damaged == "ignored"
        super().__init__(filepath, None, metadata)

    def load(self) -> pd.DataFrame | None:
        """Read the table; None if the file does not exist."""
        if not self._exists():
            return None
        with self._reading(self._filepath) as file:
            try:
                return pd.read_parquet(file)
            except (ArrowException, OSError) as error:
                if not self._ignored:
                    raise
                logger.warning("%s is no whole table, and is taken for none: %s", self._url(self._filepath), error)
                return None

    def save(self, data: pd.DataFrame) -> None:
        """Write the table beside the old one and put it in its place."""
        with self._writing(self._filepath) as file:
            data.to_parquet(file, index=False)
