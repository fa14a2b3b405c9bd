"""A stack of pictures of one size that lies in files and is read as one array; what every stack has."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

FORMAT = 1
DESCRIPTION = "stack.json"
IMAGES, PHOTOGRAPHS = "images", "photographs"

_NEEDS = {
    IMAGES: "photographs of their own sizes, and images of one size are needed: give image.size a number of px",
    PHOTOGRAPHS: "images of one size, and photographs of their own sizes are needed: set image.size to null",
}


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A part of a stack on its way to the disk; what its pictures are, the kinds of chunks say.

    Attributes
    ----------
    fingerprints
        (p, F) uint8, a row per photograph.
    index
        A row per image: ``image_id``, ``photo_id``, ``photo`` (its row among all photographs), ``label``,
        ``width``, ``height`` (px, before scaling), ``crack_pixels``.
    photos
        A row per photograph: ``photo_id``, ``path``, ``label``, ``mask_path``, ``source``, ``width``,
        ``height``.
    rejected
        A row per photograph that gave no image: ``path``, ``kind``, ``reason``.
    number
        0 for the first chunk, which begins a new stack.
    last
        Whether the stack is complete with it.
    remarks
        How many of its photographs there is something to say of, by a word each.
    """

    fingerprints: NDArray[np.uint8]
    index: pd.DataFrame
    photos: pd.DataFrame
    rejected: pd.DataFrame
    number: int
    last: bool
    remarks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class StackPart:
    """A part of a stack that is written already, as a stack of its own.

    Attributes
    ----------
    folder
        Where it lies, on the file system of the whole stack.
    number
        0 for the first part, which begins a new stack.
    last
        Whether the stack is complete with it.
    """

    folder: Path
    number: int
    last: bool


@dataclass(frozen=True, kw_only=True)
class ImageChunk(Chunk):
    """A part of a stack of images of one size.

    Attributes
    ----------
    images
        (n, H, W) or (n, H, W, C) uint8.
    """

    images: NDArray[np.uint8]


class Stack(ABC):
    """What every stack has: tables, and the fingerprints of its photographs.

    Parameters
    ----------
    folder
        A complete stack, as the catalog writes it.
    kind
        What it must hold, ``images`` or ``photographs``.

    Attributes
    ----------
    fingerprints
        (P, F): the near-duplicate fingerprint of every photograph, read by ``fingerprints.take(rows)``.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If another version wrote it, or it holds the other kind of pictures.
    """

    def __init__(self, folder: Path | str, kind: str) -> None:
        self.folder = Path(folder)
        about = read_description(self.folder)
        if kind not in about:
            raise ValueError(f"the stack in {self.folder} holds {_NEEDS[kind]} and ingest again")
        self._about: dict[str, Any] = about[kind]
        shape, rows = tuple(about["fingerprints"]["shape"]), about["fingerprints"]["rows"]
        self.fingerprints = Shards(self.folder, "fingerprints", shape, rows, keep_mapped=False)

    @property
    def index(self) -> pd.DataFrame:
        """A row per image; the columns are those of `Chunk.index`, in the order of the stack."""
        return self._table("index")

    @property
    def photos(self) -> pd.DataFrame:
        """A row per photograph; the columns are those of `Chunk.photos`."""
        return self._table("photos")

    @property
    def rejected(self) -> pd.DataFrame:
        """A row per photograph that gave no image: ``path``, ``kind``, ``reason``."""
        return self._table("rejected")

    @abstractmethod
    def __len__(self) -> int:
        """Count the images."""

    def _table(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        table = pd.read_parquet(self.folder / f"{name}.parquet", columns=columns)
        return table.astype({"crack_pixels": "Int64"}) if "crack_pixels" in table else table


def read_description(folder: Path) -> dict[str, Any]:
    """Read what a stack is; raises as `Stack`."""
    try:
        about: dict[str, Any] = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"no image stack in {folder}: run the ingestion first") from None
    if about["format"] != FORMAT:
        raise ValueError(f"the image stack in {folder} is of format {about['format']}, not {FORMAT}: ingest again")
    return about


class ImageStack(Stack):
    """Read-only pictures of one size, in ``.npy`` shards that are memory-mapped when they are first used.

    It holds file names, not pictures: pickling it for a worker costs nothing, and workers share the pages.

    Parameters
    ----------
    folder
        A complete stack, as the catalog writes it.

    Attributes
    ----------
    shape
        (N, H, W) or (N, H, W, C).
    fingerprints
        (P, F): the near-duplicate fingerprint of every photograph, read by ``fingerprints.take(rows)``.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If another version wrote it, or it holds photographs of their own sizes.
    """

    def __init__(self, folder: Path | str) -> None:
        super().__init__(folder, IMAGES)
        self.shape: tuple[int, ...] = tuple(self._about["shape"])
        self._images = Shards(self.folder, "images", self.shape, self._about["rows"])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a stack of {len(self)} images")
        return self.take(np.array([row]))[0]

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        return f"ImageStack({self.folder.name!r}, shape={self.shape})"

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read some of the images.

        Parameters
        ----------
        rows
            (n,) integers from 0 to N - 1, in any order, also repeated.

        Returns
        -------
        ndarray of uint8
            (n, H, W) or (n, H, W, C), a copy in the order of ``rows``.

        Raises
        ------
        IndexError
            If a row is not in the stack.
        """
        return self._images.take(np.asarray(rows))


class Shards:
    """Rows of one uint8 array in several ``.npy`` files.

    Parameters
    ----------
    folder, name
        The files are ``<folder>/<name>-00000.npy`` and so on.
    shape
        Of the whole array.
    rows
        Number of rows in each file.
    keep_mapped
        Whether a file stays mapped into memory once it was used, which is faster; otherwise what was read of
        it does not stay with the process, however large the file.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, folder: Path, name: str, shape: tuple[int, ...], rows: list[int], *, keep_mapped: bool = True
    ) -> None:
        self.shape = shape
        self._keep_mapped = keep_mapped
        self._paths = [folder / f"{name}-{number:05d}.npy" for number in range(len(rows))]
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])[:-1] if rows else np.zeros(0, np.int64)
        self._maps: dict[int, NDArray[np.uint8]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}}

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read some rows, in the order asked for; raises IndexError as `ImageStack.take`."""
        if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
            raise IndexError(f"rows must be a list of integers, not {rows.dtype} of {rows.shape}")
        if rows.size and (rows.min() < 0 or rows.max() >= self.shape[0]):
            wrong = rows.min() if rows.min() < 0 else rows.max()
            raise IndexError(f"row {wrong} of a stack of {self.shape[0]} images")
        taken = np.empty((len(rows), *self.shape[1:]), np.uint8)
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        for shard in np.unique(shards):
            where = np.flatnonzero(shards == shard)
            taken[where] = self._map(int(shard))[rows[where] - self._starts[shard]]
        return taken

    def span(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows ``start`` to ``stop`` - 1, which must lie in one file, as a read-only view of it."""
        shard = int(np.searchsorted(self._starts, start, side="right")) - 1
        first = int(self._starts[shard])
        return self._map(shard)[start - first : stop - first]

    def _map(self, shard: int) -> NDArray[np.uint8]:
        if shard in self._maps:
            return self._maps[shard]
        # as a plain array, since slicing a memmap costs more
        mapped = np.asarray(np.load(self._paths[shard], mmap_mode="r", allow_pickle=False))
        if self._keep_mapped:
            self._maps[shard] = mapped
        return mapped
