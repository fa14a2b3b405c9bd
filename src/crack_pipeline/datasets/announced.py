"""A table that says where it lies when there is something in it."""

from __future__ import annotations

import logging

import pandas as pd
from kedro_datasets.pandas import CSVDataset

logger = logging.getLogger(__name__)


class AnnouncedCSVDataset(CSVDataset):
    """A CSV table, as ``pandas.CSVDataset``, whose place is logged at every save that is not empty.

    Nodes know no paths, so it is the table of what went wrong that tells the user where to read it.
    """

    def save(self, data: pd.DataFrame) -> None:
        """Write the table and log its number of rows and its path."""
        super().save(data)
        if len(data):
            logger.warning("%s rows in %s", f"{len(data):,}", self._filepath)
