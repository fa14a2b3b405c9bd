"""Parts of a stack of pictures, a folder each, that several machines write at the same time."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from fsspec.implementations.local import LocalFileSystem
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from crack_pipeline.datasets.block_folder import FolderTicket
from crack_pipeline.datasets.safe_names import PART
from crack_pipeline.datasets.stack_joining import is_whole
from crack_pipeline.datasets.stack_writing import begin_stack
from crack_pipeline.imaging.photograph_stack import PhotographChunk
from crack_pipeline.imaging.stack import DESCRIPTION, ImageChunk


class PartFolder:
    """A folder of stacks by name; it can be pickled, and every machine that reaches it may write to it.

    It is an `engines.blocks.Store`; what is written are chunks, and what is read is where they lie.

    Parameters
    ----------
    folder
        The folder.
    shard_bytes
        Most bytes in one shard.
    """

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self._folder, self._shard_bytes = folder, shard_bytes

    def names(self) -> set[str]:
        """Name the parts that are there, each whole."""
        try:
            found = [path for path in self._folder.iterdir() if not path.name.startswith(".")]
            # A machine whose power was cut may have forgotten what it wrote last.
            return {path.name for path in found if is_whole(path)}
        except FileNotFoundError:
            return set()

    def read(self, name: str) -> Path:
        """Give the folder of a part; raises OSError if it is not there."""
        place = self._folder / name
        if not (place / DESCRIPTION).exists():
            raise FileNotFoundError(f"{place} is gone")
        return place

    def write(self, name: str, table: Iterable[ImageChunk | PhotographChunk]) -> None:
        """Write a part, of chunk after chunk, whole or not at all; one that is there already is as good."""
        partial = self._folder / f".{name}.{uuid.uuid4().hex}{PART}"  # two may write the same part at the same time
        partial.mkdir(parents=True)
        writer = None
        try:
            for chunk in table:
                writer = writer or begin_stack(partial, self._shard_bytes, chunk)
                writer.append(chunk)
            if writer is None:
                raise ValueError("a part of a stack has at least one chunk")
            writer.close()
        except BaseException:
            if writer is not None:
                writer.abandon()
            shutil.rmtree(partial, ignore_errors=True)
            raise
        try:
            partial.rename(self._folder / name)
        except OSError:
            if is_whole(self._folder / name):
                shutil.rmtree(partial, ignore_errors=True)
                return
            self.remove(name)
            partial.rename(self._folder / name)

    def keep(self, names: set[str]) -> None:
        """Remove all others, and what machines that are lost have left."""
        with suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                if path.name not in names:
                    shutil.rmtree(path, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Remove one, if it is there."""
        shutil.rmtree(self._folder / name, ignore_errors=True)


class PartFolderDataset(AbstractDataset[None, PartFolder]):
    """A folder in which the workers of a cluster write the parts of a stack of pictures.

    It lies on the file system of the stack, which takes the files over by linking them, and all machines must reach it.
    When the stack is complete, nothing is left in it.

    Parameters
    ----------
    filepath
        The folder.
    shard_bytes
        Most bytes in one shard; a larger picture has a shard of its own.
    metadata
        For other tools; not used.
    """

    def __init__(self, *, filepath: str, shard_bytes: int = 2**28, metadata: dict[str, Any] | None = None) -> None:
        if "://" in filepath and not filepath.startswith("file://"):
            raise DatasetError(f"parts of an image stack are mapped into memory: {filepath} is not on this machine")
        self._folder = Path(filepath.removeprefix("file://")).absolute()
        self._shard_bytes = shard_bytes
        self.metadata = metadata

    def load(self) -> PartFolder:
        """Open the folder, which need not be there yet."""
        return PartFolder(self._folder, self._shard_bytes)

    def ticket(self) -> FolderTicket:
        """Give what tries on any machine whether it reaches the folder."""
        return FolderTicket(LocalFileSystem(), str(self._folder), str(self._folder))

    def save(self, data: None) -> NoReturn:
        """Refuse: workers write the parts."""
        raise DatasetError(f"parts are written by those who make them, not to {self._folder} as a whole")

    def _exists(self) -> bool:
        return bool(self.load().names())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder), "shard_bytes": self._shard_bytes}
