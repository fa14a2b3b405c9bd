"""A segmentation that the workers of a cluster write the files of, while one process keeps its tables."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from fsspec.implementations.local import LocalFileSystem
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from crack_pipeline.datasets.block_folder import FolderTicket
from crack_pipeline.datasets.places import SharedFolder
from crack_pipeline.datasets.safe_names import SafeNames
from crack_pipeline.datasets.segmentation_folder import PARTS, PLACES
from crack_pipeline.imaging.records import Record


class SegmentationKeeper:
    """Writes files into a segmentation that was begun; see `engines.photographs.Keeper`.

    Parameters
    ----------
    folder
        The unfinished one. Once it has taken its place, or another run has begun, nothing can be written any more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self, paths: Sequence[str]) -> list[str]:
        """Give names as `SegmentationFolderDataset` does; raises ValueError if a path comes twice."""
        names = SafeNames()
        return [names.of(path) for path in paths]

    def put(self, record: Record, name: str) -> Record:
        """Write the files of a record, each whole or not at all; raises OSError."""
        for kind, content in record.files.items():
            part = self._folder / PARTS / uuid.uuid4().hex  # two may write the same photograph at the same time
            try:
                part.write_bytes(content)
                path = self._folder / PLACES[kind].format(name=name)
                path.parent.mkdir(parents=True, exist_ok=True)
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        return record.written(name, record.facts)

    def drop(self, record: Record) -> None:
        """Remove the files of a record."""
        for kind in record.files:
            (self._folder / PLACES[kind].format(name=record.place)).unlink(missing_ok=True)


class UnfinishedSegmentationDataset(AbstractDataset[None, SegmentationKeeper | None]):
    """Opens a folder of `SegmentationFolderDataset` for the workers of a cluster, all of which must reach it.

    Parameters
    ----------
    filepath
        That of the other dataset, which begins the segmentation and keeps its tables.
    metadata
        For other tools; ignored here.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._shared = SharedFolder(filepath)
        self.metadata = metadata

    def load(self) -> SegmentationKeeper | None:
        """Give what writes into it; None where it is one of an object store, which gets it when it is complete."""
        folder = self._shared.folder
        return None if self._shared.is_remote else SegmentationKeeper(folder.with_name(f"{folder.name}.unfinished"))

    def ticket(self) -> FolderTicket | None:
        """Give what tries on any machine whether it reaches the folder, where that is needed."""
        if self._shared.is_remote:
            return None
        return FolderTicket(LocalFileSystem(), str(self._shared.folder.parent.absolute()), str(self._shared.folder))

    def save(self, data: None) -> NoReturn:
        """Refuse: workers write the files."""
        raise DatasetError(f"files are written by those who find what is in them, not to {self._shared.url} as a whole")

    def _exists(self) -> bool:
        return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._shared.url}
