"""A table that may not be there yet."""

from __future__ import annotations

from typing import Any, NoReturn

import pandas as pd
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError
from kedro_datasets.pandas import ParquetDataset


class OptionalParquetDataset(AbstractDataset[None, pd.DataFrame | None]):
    """Read the table that an earlier run left, or None where there was none.

    It lets a pipeline carry on what it wrote before: the catalog has one entry to read the file and another
    one, of pandas, to write it. This one cannot write.

    Parameters
    ----------
    filepath
        Of the Parquet file.
    **options
        Passed on to ``pandas.ParquetDataset`` (``load_args``, ``credentials``, ``fs_args``, ``metadata``).
    """

    def __init__(self, *, filepath: str, **options: Any) -> None:
        self._table = ParquetDataset(filepath=filepath, **options)
        self.metadata = options.get("metadata")

    def load(self) -> pd.DataFrame | None:
        """Read the table; None if the file does not exist."""
        return self._table.load() if self._table.exists() else None

    def save(self, data: None) -> NoReturn:
        """Refuse: another entry of the catalog writes the file."""
        raise DatasetError("an optional table is only read: write it through its own catalog entry")

    def _exists(self) -> bool:
        return bool(self._table.exists())

    def _describe(self) -> dict[str, Any]:
        return self._table._describe()
