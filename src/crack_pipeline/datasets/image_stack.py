"""Write pictures to a stack on the disk, chunk by chunk, and open it again."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from crack_pipeline.datasets.block_folder import FolderTicket
from crack_pipeline.datasets.places import SharedFolder
from crack_pipeline.datasets.swapping import beside, finish_swap, swap
from crack_pipeline.imaging.photograph_stack import IGNORED, PhotographChunk, PhotographStack, open_stack
from crack_pipeline.imaging.stack import DESCRIPTION, FORMAT, IMAGES, PHOTOGRAPHS, ImageChunk, ImageStack

logger = logging.getLogger(__name__)

_TEXT, _NUMBER = pa.string(), pa.int64()
_TABLES = {
    "index": {
        "image_id": _TEXT,
        "photo_id": _TEXT,
        "photo": _NUMBER,
        "label": _TEXT,
        "width": _NUMBER,
        "height": _NUMBER,
        "crack_pixels": _NUMBER,
    },
    "photos": {
        "photo_id": _TEXT,
        "path": _TEXT,
        "label": _TEXT,
        "mask_path": _TEXT,
        "source": _TEXT,
        "width": _NUMBER,
        "height": _NUMBER,
    },
    "rejected": {"path": _TEXT, "kind": _TEXT, "reason": _TEXT},
}
_ROWS_AT_ONCE = 8192


class ImageStackDataset(AbstractDataset[ImageChunk | PhotographChunk, ImageStack | PhotographStack]):
    """A stack of pictures: shards of ``.npy`` and three tables in one folder.

    A generator node gives it one chunk after another: `ImageChunk` makes an `ImageStack` of pictures of one
    size, `PhotographChunk` a `PhotographStack` of photographs of their own sizes. They go into a folder beside
    the stack that takes the stack's place when the last one is written, so that a run that is killed, or a
    disk that is full, leaves the earlier stack as it was; the next run clears away what is left.

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
        self._writer: _Writer | None = None
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

    def save(self, data: ImageChunk | PhotographChunk) -> None:
        """Add a chunk; the last one puts the new stack in the place of the earlier one.

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
            self._writer.append(data)
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

    def _begin(self, first: ImageChunk | PhotographChunk) -> None:
        self._drop()
        finish_swap(self._folder)
        self._partial.mkdir(parents=True)
        pictures = _Images if isinstance(first, ImageChunk) else _Photographs
        self._writer = _Writer(self._partial, self._shard_bytes, pictures(self._partial, self._shard_bytes))

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


class _Pictures(Protocol):
    """The pictures of a stack being written."""

    def append(self, chunk: Any) -> None: ...

    def close(self) -> dict[str, Any]:
        """Give what the description of the stack says of them."""

    def abandon(self) -> None: ...


class _Writer:
    """A stack being written."""

    def __init__(self, folder: Path, shard_bytes: int, pictures: _Pictures) -> None:
        self.chunks = 0
        self._folder = folder
        self._pictures = pictures
        self._fingerprints = _RowWriter(folder, "fingerprints", shard_bytes)
        self._tables = {name: _TableWriter(folder / f"{name}.parquet", schema) for name, schema in _TABLES.items()}

    def append(self, chunk: ImageChunk | PhotographChunk) -> None:
        if len(chunk.fingerprints) != len(chunk.photos):
            raise ValueError(f"{len(chunk.fingerprints)} fingerprints with {len(chunk.photos)} photographs")
        self._pictures.append(chunk)
        self._fingerprints.append(chunk.fingerprints)
        for name, table in self._tables.items():
            table.append(getattr(chunk, name))
        self.chunks += 1

    def close(self) -> None:
        for table in self._tables.values():
            table.close()
        about = {"format": FORMAT, "dtype": "uint8", **self._pictures.close()}
        about["fingerprints"] = self._fingerprints.close()
        (self._folder / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    def abandon(self) -> None:
        self._pictures.abandon()
        self._fingerprints.abandon()
        for table in self._tables.values():
            table.abandon()


class _Images:
    """Pictures of one size."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self._images = _RowWriter(folder, "images", shard_bytes)

    def append(self, chunk: ImageChunk) -> None:
        if len(chunk.images) != len(chunk.index):
            raise ValueError(f"{len(chunk.images)} images with {len(chunk.index)} rows of index")
        self._images.append(chunk.images)

    def close(self) -> dict[str, Any]:
        return {IMAGES: self._images.close()}

    def abandon(self) -> None:
        self._images.abandon()


class _Photographs:
    """Photographs of their own sizes, with or without masks."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self._count = 0
        self._form: tuple[int, bool] | None = None
        self._pixels = _PieceWriter(folder, "pixels", shard_bytes)
        self._masks = _PieceWriter(folder, "masks", shard_bytes)

    def append(self, chunk: PhotographChunk) -> None:
        form = chunk.channels, chunk.masks is not None
        if self._form not in (None, form):
            raise ValueError(f"photographs of (channels, masks) {form} in a stack of {self._form}")
        self._form = form
        sizes = list(zip(chunk.index["height"], chunk.index["width"], strict=True))
        colours = () if chunk.channels == 1 else (chunk.channels,)
        if [photograph.shape for photograph in chunk.photographs] != [(*size, *colours) for size in sizes]:
            raise ValueError("the photographs are not of the sizes and channels that the chunk names")
        if chunk.masks is not None and (
            [mask.shape for mask in chunk.masks] != sizes or any(mask.max(initial=0) > IGNORED for mask in chunk.masks)
        ):
            raise ValueError("the masks are not of the sizes of the photographs, or hold a value above 2")
        for photograph in chunk.photographs:
            self._pixels.append(photograph)
        for mask in chunk.masks or []:
            self._masks.append(mask)
        self._count += len(chunk.photographs)

    def close(self) -> dict[str, Any]:
        channels, masked = self._form or (1, False)
        about = {"count": self._count, "channels": channels, "pixels": self._pixels.close()}
        return {PHOTOGRAPHS: {**about, "masks": self._masks.close() if masked else None}}

    def abandon(self) -> None:
        self._pixels.abandon()
        self._masks.abandon()


class _Shards:
    """One uint8 array, written along its first axis into ``.npy`` files of bounded size."""

    def __init__(self, folder: Path, name: str, shard_bytes: int) -> None:
        self._folder, self._name, self._bytes = folder, name, shard_bytes
        self._row_shape: tuple[int, ...] = ()
        self._rows: list[int] = []
        self._file: BinaryIO | None = None

    def abandon(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:  # the disk that is full already refused this
                logger.debug("an abandoned shard could not be closed", exc_info=True)
            self._file = None

    def _write(self, rows: NDArray[np.uint8]) -> None:
        if self._file is None:
            self._rows.append(0)
            self._file = (self._folder / f"{self._name}-{len(self._rows) - 1:05d}.npy").open("wb")
            self._write_header()
        self._file.write(np.ascontiguousarray(rows).data)
        self._rows[-1] += len(rows)

    def _finish_shard(self) -> None:
        if self._file is not None:
            self._file.seek(0)
            self._write_header()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def _write_header(self) -> None:
        # numpy pads the header so that the first axis can grow without moving the data
        header = {"descr": "|u1", "fortran_order": False, "shape": (self._rows[-1], *self._row_shape)}
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[arg-type]


class _RowWriter(_Shards):
    """Rows of one shape; a file is filled up with them."""

    def __init__(self, folder: Path, name: str, shard_bytes: int) -> None:
        super().__init__(folder, name, shard_bytes)
        self._begun = False

    def append(self, rows: NDArray[np.uint8]) -> None:
        if rows.dtype != np.uint8 or rows.ndim < 2:
            raise ValueError(f"{self._name} must be uint8 rows, not {rows.dtype} of {rows.shape}")
        if not self._begun:
            self._begun, self._row_shape = True, rows.shape[1:]
        if rows.shape[1:] != self._row_shape:
            raise ValueError(f"{self._name} of {rows.shape[1:]} in a stack of {self._row_shape}")
        room_of_one = max(1, self._bytes // max(1, int(np.prod(self._row_shape))))
        while len(rows):
            part = rows[: room_of_one - (self._rows[-1] if self._file else 0)]
            self._write(part)
            rows = rows[len(part) :]
            if self._rows[-1] == room_of_one:
                self._finish_shard()

    def close(self) -> dict[str, Any]:
        self._finish_shard()
        return {"shape": [sum(self._rows), *(self._row_shape or (0,))], "rows": self._rows}


class _PieceWriter(_Shards):
    """Bytes of pieces of any size; a piece lies whole in one file."""

    def append(self, piece: NDArray[np.uint8]) -> None:
        if piece.dtype != np.uint8:
            raise ValueError(f"{self._name} must be uint8, not {piece.dtype}")
        if self._file and self._rows[-1] + piece.size > self._bytes:
            self._finish_shard()
        self._write(piece.reshape(-1))

    def close(self) -> list[int]:
        self._finish_shard()
        return self._rows


class _TableWriter:
    """A Parquet table, written in groups of rows."""

    def __init__(self, path: Path, columns: dict[str, Any]) -> None:
        self._schema = pa.schema(list(columns.items()))
        self._file = pq.ParquetWriter(path, self._schema)
        self._waiting: list[Any] = []

    def append(self, rows: pd.DataFrame) -> None:
        table = pa.Table.from_pandas(rows, schema=self._schema, preserve_index=False)
        self._waiting.append(table.replace_schema_metadata(None))
        if sum(len(waiting) for waiting in self._waiting) >= _ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def abandon(self) -> None:
        try:
            self._file.close()
        except OSError:
            logger.debug("an abandoned table could not be closed", exc_info=True)

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.concat_tables(self._waiting))
            self._waiting = []
