"""Many figures in one folder, written as they come."""

from __future__ import annotations

from io import BytesIO
from typing import Any, NoReturn

import fsspec
from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import get_protocol_and_path
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


class FigureFolderDataset(AbstractDataset[dict[str, Figure], NoReturn]):
    """PNG files named by the keys of what is saved; the first save of a run empties the folder.

    Parameters
    ----------
    filepath
        Of the folder: a path, or the URL of one on any file system that fsspec opens.
    dpi
        Dots per inch.
    metadata
        For other tools; ignored here.
    """

    def __init__(self, *, filepath: str, dpi: int = 110, metadata: dict[str, Any] | None = None) -> None:
        self._protocol, self._filepath = get_protocol_and_path(filepath)
        self._fs = fsspec.filesystem(self._protocol)
        self._dpi = dpi
        self._begun = False
        self.metadata = metadata

    def load(self) -> NoReturn:
        """Refuse: the pictures are for people."""
        raise DatasetError(f"{self._filepath} holds pictures for people; nothing is read from it")

    def save(self, data: dict[str, Figure]) -> None:
        """Write each figure to ``<key>.png``."""
        if not self._begun:
            if self._fs.exists(self._filepath):
                self._fs.rm(self._filepath, recursive=True)
            self._fs.makedirs(self._filepath, exist_ok=True)
            self._begun = True
        for name, figure in data.items():
            content = BytesIO()
            FigureCanvasAgg(figure).figure.savefig(content, dpi=self._dpi, format="png")
            self._fs.pipe_file(f"{self._filepath}/{name}.png", content.getvalue())

    def _exists(self) -> bool:
        return bool(self._fs.isdir(self._filepath))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "protocol": self._protocol, "dpi": self._dpi}
