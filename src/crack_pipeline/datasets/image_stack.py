"""Write pictures to a stack on the disk, chunk by chunk, and open it again."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from crack_pipeline.datasets.block_folder import FolderTicket
from crack_pipeline.datasets.places import SharedFolder
from crack_pipeline.datasets.stack_joining import StackJoiner
from crack_pipeline.datasets.stack_writing import StackWriter, begin_stack
from crack_pipeline.datasets.swapping import beside, finish_swap, swap
from crack_pipeline.imaging.photograph_stack import PhotographChunk, PhotographStack, open_stack
from crack_pipeline.imaging.stack import DESCRIPTION, ImageChunk, ImageStack, StackPart

Piece = ImageChunk | PhotographChunk | StackPart


class ImageStackDataset(AbstractDataset[Piece, ImageStack | PhotographStack]):
    """A stack of pictures: shards of ``.npy`` and three tables in one folder.

    A generator node gives it one chunk after another: `ImageChunk` makes an `ImageStack` of pictures of one
    size, `PhotographChunk` a `PhotographStack` of photographs of their own sizes; the files of a `StackPart`, which
    others have written, are taken over. They go into a folder beside the stack that takes the stack's place when the
    last one is written, so that a run that is killed, or a disk that is full, leaves the earlier stack as it was; the
    next run clears away what is left.

    Parameters
    ----------
    filepath
        Folder of the stack: a path, or the URL of one in an object store, of which this machine keeps a copy on its
        disk (it is mapped into memory); see `SharedFolder`.
    shard_bytes
        Most bytes in one shard; a larger picture has a shard of its own.
    metadata
        For other tools; not used.
    """

    def __init__(self, *, filepath: str, shard_bytes: int = 2**28, metadata: dict[str, Any] | None = None) -> None:
        if shard_bytes < 1:
            raise DatasetError(f"shard_bytes must be at least 1, not {shard_bytes}")
        self._shared = SharedFolder(filepath)
        self._folder = self._shared.folder
        self._shard_bytes = shard_bytes
        self._writer: StackWriter | StackJoiner | None = None
        self.metadata = metadata

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_writer": None}

    def load(self) -> ImageStack | PhotographStack:
        """Open the stack; pictures are read when they are taken.

        Raises
        ------
        DatasetError
            If there is none, with the command that makes one.
        """
        self._shared.bring()
        finish_swap(self._folder)
        try:
            return open_stack(self._folder)
        except (FileNotFoundError, ValueError) as error:
            raise DatasetError(str(error)) from error

    def save(self, data: Piece) -> None:
        """Add a chunk or a part; the last one puts the new stack in the place of the earlier one.

        Raises
        ------
        DatasetError
            If chunks are missing, or the disk is full or cannot be written; the earlier stack is untouched.
        """
        try:
            if data.number == 0:
                self._begin(data)
            if self._writer is None or self._writer.chunks != data.number:
                raise DatasetError(f"chunk {data.number} of an image stack came out of turn: run the ingestion again")
            self._writer.append(data)  # type: ignore[arg-type]  # a generator gives one kind
            if data.last:
                self._writer.close()
                self._writer = None
                swap(self._partial, self._folder)
                self._shared.share()
        except OSError as error:
            self._drop()
            raise DatasetError(self._explain(error)) from error

    def ticket(self) -> FolderTicket:
        """Give what tries on any machine whether it reaches the place of the stack."""
        return FolderTicket(LocalFileSystem(), str(self._folder.parent.absolute()), str(self._folder))

    @property
    def _partial(self) -> Path:
        return self._folder.with_name(f".{self._folder.name}.partial")

    def _begin(self, first: Piece) -> None:
        self._drop()
        finish_swap(self._folder)
        self._partial.mkdir(parents=True)
        if isinstance(first, StackPart):
            self._writer = StackJoiner(self._partial)
        else:
            self._writer = begin_stack(self._partial, self._shard_bytes, first)

    def _drop(self) -> None:
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
        if self._partial.exists():
            shutil.rmtree(self._partial)

    def _explain(self, error: OSError) -> str:
        kept = "the earlier image stack is untouched" if self._folder.exists() else "no image stack was written"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(self._folder.parent).free // 2**20
            return f"the disk of {self._folder.parent} is full ({free:,} MiB free without the images): {kept}"
        return f"the image stack cannot be written to {self._folder}: {error}; {kept}"

    def _exists(self) -> bool:
        here = (self._folder / DESCRIPTION).exists() or (not self._folder.exists() and beside(self._folder).exists())
        return self._shared.exists(here)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._shared.url, "shard_bytes": self._shard_bytes}
