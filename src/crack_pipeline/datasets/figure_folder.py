"""Many figures in one folder, written as they come."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset, DatasetError
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


class FigureFolderDataset(AbstractDataset[dict[str, Figure], NoReturn]):
    """PNG files named by the keys of what is saved; the first save of a run empties the folder.

    Parameters
    ----------
    filepath
        Of the folder, in the local file system.
    dpi
        Dots per inch.
    metadata
        For other tools; ignored here.
    """

    def __init__(self, *, filepath: str, dpi: int = 110, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self._dpi = dpi
        self._begun = False
        self.metadata = metadata

    def load(self) -> NoReturn:
        """Refuse: the pictures are for people."""
        raise DatasetError(f"{self._filepath} holds pictures for people; nothing is read from it")

    def save(self, data: dict[str, Figure]) -> None:
        """Write each figure to ``<key>.png``."""
        if not self._begun:
            shutil.rmtree(self._filepath, ignore_errors=True)
            self._filepath.mkdir(parents=True)
            self._begun = True
        for name, figure in data.items():
            FigureCanvasAgg(figure).figure.savefig(self._filepath / f"{name}.png", dpi=self._dpi)

    def _exists(self) -> bool:
        return self._filepath.is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "dpi": self._dpi}
