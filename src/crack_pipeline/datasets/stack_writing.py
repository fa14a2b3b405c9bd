"""Write the files of a stack of pictures: shards of ``.npy``, three tables and what it is."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from crack_pipeline.imaging.photograph_stack import IGNORED, PhotographChunk
from crack_pipeline.imaging.stack import DESCRIPTION, FORMAT, IMAGES, PHOTOGRAPHS, ImageChunk

logger = logging.getLogger(__name__)

_TEXT, _NUMBER = pa.string(), pa.int64()
TABLES = {
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
"""Columns of the tables of a stack."""

_ROWS_AT_ONCE = 8192


def begin_stack(folder: Path, shard_bytes: int, first: ImageChunk | PhotographChunk) -> StackWriter:
    """Begin a stack in an empty folder, of the kind of its first chunk, which is not written yet.

    ``shard_bytes`` is the most that a shard holds; a larger picture has one of its own.
    """
    pictures = _Images if isinstance(first, ImageChunk) else _Photographs
    return StackWriter(folder, shard_bytes, pictures(folder, shard_bytes))


class _Pictures(Protocol):
    """The pictures of a stack being written."""

    def append(self, chunk: Any) -> None: ...

    def close(self) -> dict[str, Any]:
        """Give what the description of the stack says of them."""

    def abandon(self) -> None: ...


class StackWriter:
    """A stack being written, chunk by chunk; see `begin_stack`.

    Attributes
    ----------
    chunks
        Number of chunks so far.
    """

    def __init__(self, folder: Path, shard_bytes: int, pictures: _Pictures) -> None:
        self.chunks = 0
        self._folder = folder
        self._pictures = pictures
        self._remarks: Counter[str] = Counter()
        self._fingerprints = _RowWriter(folder, "fingerprints", shard_bytes)
        self._tables = {name: TableWriter(folder / f"{name}.parquet", schema) for name, schema in TABLES.items()}

    def append(self, chunk: ImageChunk | PhotographChunk) -> None:
        """Add a chunk; raises OSError, or ValueError if it does not fit those before it."""
        if len(chunk.fingerprints) != len(chunk.photos):
            raise ValueError(f"{len(chunk.fingerprints)} fingerprints with {len(chunk.photos)} photographs")
        self._pictures.append(chunk)
        self._fingerprints.append(chunk.fingerprints)
        for name, table in self._tables.items():
            table.append(getattr(chunk, name))
        self._remarks.update(chunk.remarks)
        self.chunks += 1

    def close(self) -> None:
        """Write what is left, and last what the stack is; raises OSError."""
        for table in self._tables.values():
            table.close()
        about = {"format": FORMAT, "dtype": "uint8", **self._pictures.close()}
        about["fingerprints"] = self._fingerprints.close()
        if self._remarks:
            about["remarks"] = dict(self._remarks)
        (self._folder / DESCRIPTION).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")

    def abandon(self) -> None:
        """Close the files, whatever is in them."""
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


class TableWriter:
    """A Parquet table, written in groups of rows.

    Parameters
    ----------
    path
        The file.
    columns
        Type of each column.
    """

    def __init__(self, path: Path, columns: dict[str, Any]) -> None:
        self._schema = pa.schema(list(columns.items()))
        self._file = pq.ParquetWriter(path, self._schema)
        self._waiting: list[Any] = []

    def append(self, rows: pd.DataFrame) -> None:
        """Add rows."""
        table = pa.Table.from_pandas(rows, schema=self._schema, preserve_index=False)
        self.append_table(table.replace_schema_metadata(None))

    def append_table(self, table: Any) -> None:
        """Add a table of Arrow with the same columns."""
        self._waiting.append(table)
        if sum(len(waiting) for waiting in self._waiting) >= _ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write what is left; raises OSError."""
        self._flush()
        self._file.close()

    def abandon(self) -> None:
        """Close the file, whatever is in it."""
        try:
            self._file.close()
        except OSError:
            logger.debug("an abandoned table could not be closed", exc_info=True)

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_table(pa.concat_tables(self._waiting))
            self._waiting = []
