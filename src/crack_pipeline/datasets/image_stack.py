"""Write pictures to a stack on the disk, chunk by chunk, and open it again."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError
from numpy.typing import NDArray

from crack_pipeline.imaging.stack import DESCRIPTION, FORMAT, ImageChunk, ImageStack

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


class ImageStackDataset(AbstractDataset[ImageChunk, ImageStack]):
    """A stack of pictures: shards of ``.npy`` and three tables in one folder.

    A generator node gives it one `ImageChunk` after another. They go into a folder beside the stack that
    takes the stack's place when the last one is written, so that a run that is killed, or a disk that is
    full, leaves the earlier stack as it was; the next run clears away what is left.

    Parameters
    ----------
    filepath
        Folder of the stack, on a file system of this machine (it is mapped into memory).
    shard_bytes
        Most bytes in one shard.
    metadata
        For other tools; not used.
    """

    def __init__(self, *, filepath: str, shard_bytes: int = 2**28, metadata: dict[str, Any] | None = None) -> None:
        if "://" in filepath and not filepath.startswith("file://"):
            raise DatasetError(f"an image stack is mapped into memory: {filepath} is not on this machine")
        if shard_bytes < 1:
            raise DatasetError(f"shard_bytes must be at least 1, not {shard_bytes}")
        self._folder = Path(filepath.removeprefix("file://"))
        self._shard_bytes = shard_bytes
        self._writer: _Writer | None = None
        self.metadata = metadata

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_writer": None}

    def load(self) -> ImageStack:
        """Open the stack; pictures are read when they are taken.

        Raises
        ------
        DatasetError
            If there is none, with the command that makes one.
        """
        self._finish_swap()
        try:
            return ImageStack(self._folder)
        except (FileNotFoundError, ValueError) as error:
            raise DatasetError(str(error)) from error

    def save(self, data: ImageChunk) -> None:
        """Add a chunk; the last one puts the new stack in the place of the earlier one.

        Raises
        ------
        DatasetError
            If chunks are missing, or the disk is full or cannot be written; the earlier stack is untouched.
        """
        try:
            if data.number == 0:
                self._begin()
            if self._writer is None or self._writer.chunks != data.number:
                raise DatasetError(f"chunk {data.number} of an image stack came out of turn: run the ingestion again")
            self._writer.append(data)
            if data.last:
                self._writer.close()
                self._swap()
        except OSError as error:
            self._drop()
            raise DatasetError(self._explain(error)) from error

    @property
    def _partial(self) -> Path:
        return self._folder.with_name(f".{self._folder.name}.partial")

    @property
    def _old(self) -> Path:
        return self._folder.with_name(f".{self._folder.name}.old")

    def _begin(self) -> None:
        self._drop()
        self._finish_swap()
        self._partial.mkdir(parents=True)
        self._writer = _Writer(self._partial, self._shard_bytes)

    def _swap(self) -> None:
        self._writer = None
        if self._folder.exists():
            self._folder.rename(self._old)
        self._partial.rename(self._folder)
        self._finish_swap()

    def _finish_swap(self) -> None:
        """Bring the folders in order after a run that was killed in the middle of a swap."""
        if self._old.exists():
            if self._folder.exists():
                shutil.rmtree(self._old)
            else:
                self._old.rename(self._folder)

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
        return (self._folder / DESCRIPTION).exists() or (not self._folder.exists() and self._old.exists())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._folder), "shard_bytes": self._shard_bytes}


class _Writer:
    """A stack being written."""

    def __init__(self, folder: Path, shard_bytes: int) -> None:
        self.chunks = 0
        self._folder = folder
        self._images = _ShardWriter(folder, "images", shard_bytes)
        self._fingerprints = _ShardWriter(folder, "fingerprints", shard_bytes)
        self._tables = {name: _TableWriter(folder / f"{name}.parquet", schema) for name, schema in _TABLES.items()}

    def append(self, chunk: ImageChunk) -> None:
        if len(chunk.images) != len(chunk.index) or len(chunk.fingerprints) != len(chunk.photos):
            raise ValueError(
                f"{len(chunk.images)} images with {len(chunk.index)} rows of index, "
                f"{len(chunk.fingerprints)} fingerprints with {len(chunk.photos)} photographs"
            )
        self._images.append(chunk.images)
        self._fingerprints.append(chunk.fingerprints)
        for name, table in self._tables.items():
            table.append(getattr(chunk, name))
        self.chunks += 1

    def close(self) -> None:
        for table in self._tables.values():
            table.close()
        about = {
            "format": FORMAT,
            "dtype": "uint8",
            "images": self._images.close(),
            "fingerprints": self._fingerprints.close(),
        }
        (self._folder / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    def abandon(self) -> None:
        self._images.abandon()
        self._fingerprints.abandon()
        for table in self._tables.values():
            table.abandon()


class _ShardWriter:
    """One array, written row by row into ``.npy`` files of bounded size."""

    def __init__(self, folder: Path, name: str, shard_bytes: int) -> None:
        self._folder, self._name, self._bytes = folder, name, shard_bytes
        self._row_shape: tuple[int, ...] | None = None
        self._rows: list[int] = []
        self._file: BinaryIO | None = None

    def append(self, rows: NDArray[np.uint8]) -> None:
        if rows.dtype != np.uint8 or rows.ndim < 2:
            raise ValueError(f"{self._name} must be uint8 rows, not {rows.dtype} of {rows.shape}")
        if self._row_shape is None:
            self._row_shape = rows.shape[1:]
        if rows.shape[1:] != self._row_shape:
            raise ValueError(f"{self._name} of {rows.shape[1:]} in a stack of {self._row_shape}")
        room_of_one = max(1, self._bytes // max(1, int(np.prod(self._row_shape))))
        while len(rows):
            if self._file is None:
                self._rows.append(0)
                self._file = (self._folder / f"{self._name}-{len(self._rows) - 1:05d}.npy").open("wb")
                self._write_header()
            part = rows[: room_of_one - self._rows[-1]]
            self._file.write(np.ascontiguousarray(part).data)
            self._rows[-1] += len(part)
            rows = rows[len(part) :]
            if self._rows[-1] == room_of_one:
                self._finish_shard()

    def close(self) -> dict[str, Any]:
        self._finish_shard()
        return {"shape": [sum(self._rows), *(self._row_shape or (0,))], "rows": self._rows}

    def abandon(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:  # the disk that is full already refused this
                logger.debug("an abandoned shard could not be closed", exc_info=True)
            self._file = None

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
        shape = (self._rows[-1], *(self._row_shape or ()))
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)  # type: ignore[arg-type]


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
