"""A folder of files that a run makes anew, all at once or not at all."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Sized
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from crack_pipeline.datasets.places import SharedFolder

logger = logging.getLogger(__name__)

MARKER = ".rendered"
"""Name of the empty file by which a folder is known to have been written here, and may be replaced."""

SECONDS_BETWEEN_MESSAGES = 5.0


class RenderedFolderDataset(AbstractDataset[Iterable[tuple[str, bytes]], dict[str, Callable[[], bytes]]]):
    """Writes files one by one into a new folder, which takes the old one's place when it is complete.

    Files come as an iterable of (name, content), so that no more than one of them is in memory. A run that is
    interrupted leaves the folder as it was; nothing of an earlier rendering is left in a finished one. A
    folder that was not written here is never replaced.

    Parameters
    ----------
    filepath
        The folder: a path, or the URL of one in an object store, which is rendered on this machine's disk and shared
        when it is complete; see `SharedFolder`.
    metadata
        For Kedro's plug-ins; not used here.

    Examples
    --------
    .. code-block:: yaml

        sample_photographs:
          type: crack_pipeline.datasets.rendered_folder.RenderedFolderDataset
          filepath: data/01_raw/sample
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._shared = SharedFolder(filepath)
        self._folder = self._shared.folder
        self.metadata = metadata

    def save(self, data: Iterable[tuple[str, bytes]]) -> None:
        """Write all files and swap the finished folder in.

        Parameters
        ----------
        data
            Names relative to the folder, with ``/``, and contents. A length, if it has one, tells progress.

        Raises
        ------
        DatasetError
            If the folder holds files that were not written here, or a name leads out of it.
        """
        self._check_own()
        partial, replaced = self._beside("partial"), self._beside("replaced")
        for leftover in (partial, replaced):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            self._write(partial, data)
            (partial / MARKER).touch()
            if self._folder.exists():
                self._folder.rename(replaced)
            partial.rename(self._folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            if replaced.exists():
                replaced.rename(self._folder)
            raise
        shutil.rmtree(replaced, ignore_errors=True)
        self._shared.share()

    def load(self) -> dict[str, Callable[[], bytes]]:
        """List the files.

        Returns
        -------
        dict
            For each name, in order, a function that reads the file.
        """
        self._shared.bring()
        return {
            path.relative_to(self._folder).as_posix(): path.read_bytes
            for path in sorted(self._folder.rglob("*"))
            if path.is_file() and path.name != MARKER
        }

    def _write(self, folder: Path, data: Iterable[tuple[str, bytes]]) -> None:
        total = f" of {len(data):,}" if isinstance(data, Sized) else ""
        started = told = time.monotonic()
        known: set[Path] = set()
        number = 0
        for name, content in data:
            pure = PurePosixPath(name)
            if pure.is_absolute() or ".." in pure.parts or not pure.parts:
                raise DatasetError(f"{name!r} is no name of a file inside {self._folder}")
            path = folder / pure
            if path.parent not in known:
                path.parent.mkdir(parents=True, exist_ok=True)
                known.add(path.parent)
            path.write_bytes(content)
            number += 1
            now = time.monotonic()
            if now - told >= SECONDS_BETWEEN_MESSAGES:
                told = now
                logger.info("wrote %s%s files, %.0f/s", f"{number:,}", total, number / (now - started))
        seconds = max(time.monotonic() - started, 1e-3)
        logger.info("wrote %s files to %s in %.1f s, %.0f/s", f"{number:,}", self._folder, seconds, number / seconds)

    def _check_own(self) -> None:
        if not self._folder.exists() or (self._folder / MARKER).exists():
            return
        if not self._folder.is_dir():
            raise DatasetError(f"{self._folder} is a file; remove it or render into another folder")
        foreign = next((entry.name for entry in self._folder.iterdir() if entry.name != ".gitkeep"), None)
        if foreign is not None:
            raise DatasetError(
                f"{self._folder} holds files that were not rendered ({foreign}, …) and is not replaced; "
                "move them away or render into another folder"
            )

    def _beside(self, state: str) -> Path:
        return self._folder.with_name(f".{self._folder.name}.{state}")

    def _exists(self) -> bool:
        return self._shared.exists((self._folder / MARKER).exists())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._shared.url}
