"""Photographs of their own sizes, with their masks, that lie in files and are cut from there."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.imaging.stack import IMAGES, PHOTOGRAPHS, Chunk, ImageStack, Shards, Stack, read_description

BACKGROUND, CRACK, IGNORED = 0, 1, 2
"""Values of a mask: no crack, crack, and nothing known."""

_OF_MASKS = ("crack_pixels", "mask_path")


@dataclass(frozen=True, kw_only=True)
class PhotographChunk(Chunk):
    """A part of a stack of photographs of their own sizes; ``width`` and ``height`` of the index are these.

    Attributes
    ----------
    photographs
        n arrays (H, W) or (H, W, 3) uint8.
    masks
        n arrays (H, W) uint8 of `BACKGROUND`, `CRACK` and `IGNORED`; None if no masks are stored.
    channels
        1 or 3.
    """

    photographs: list[NDArray[np.uint8]]
    masks: list[NDArray[np.uint8]] | None
    channels: Literal[1, 3]


class PhotographStack(Stack):
    """Read-only photographs, each of its own size, in ``.npy`` shards that are memory-mapped when first used.

    It holds file names, not pictures: pickling it for a worker costs nothing, and workers share the pages.

    Parameters
    ----------
    folder
        A complete stack, as the catalog writes it.

    Attributes
    ----------
    channels
        1 (grey) or 3 (red, green, blue).
    has_masks
        Whether every photograph has a mask.
    fingerprints
        (P, F): the near-duplicate fingerprint of every photograph, read by ``fingerprints.take(rows)``.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If another version wrote it, or it holds images of one size.
    """

    def __init__(self, folder: Path | str) -> None:
        super().__init__(folder, PHOTOGRAPHS)
        self.channels: Literal[1, 3] = self._about["channels"]
        self.has_masks: bool = self._about["masks"] is not None
        self._pixels = _flat(self.folder, "pixels", self._about["pixels"])
        self._masks = _flat(self.folder, "masks", self._about["masks"]) if self.has_masks else None
        self._hidden: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("sizes", "_starts")}

    def __len__(self) -> int:
        return int(self._about["count"])

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self.photograph(row) for row in range(len(self)))

    def __repr__(self) -> str:
        what = f"{len(self)} photographs of {self.channels} channel{'s' if self.channels > 1 else ''}"
        return f"PhotographStack({self.folder.name!r}, {what}{' with masks' if self.has_masks else ''})"

    @cached_property
    def sizes(self) -> NDArray[np.int64]:
        """(N, 2): height and width of every photograph, in px."""
        return self._table("index", ["height", "width"])[["height", "width"]].to_numpy(np.int64)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Pixels before each photograph, and in all."""
        starts = np.concatenate([[0], np.cumsum(self.sizes.prod(axis=1))])
        if starts[-1] * self.channels != len(self._pixels):
            raise ValueError(f"the tables of the image stack in {self.folder} are not of its pixels: ingest again")
        return starts

    def photograph(self, row: int) -> NDArray[np.uint8]:
        """Give one photograph.

        Parameters
        ----------
        row
            0 to N - 1.

        Returns
        -------
        ndarray of uint8
            (H, W) or (H, W, 3), a read-only view of the file: only what is looked at is read.

        Raises
        ------
        IndexError
            If the row is not in the stack.
        """
        start, stop, (height, width) = self._place(row)
        pixels = self._pixels.span(start * self.channels, stop * self.channels)
        return pixels.reshape((height, width) if self.channels == 1 else (height, width, self.channels))

    def mask(self, row: int) -> NDArray[np.uint8]:
        """Give the mask of one photograph.

        Parameters
        ----------
        row
            0 to N - 1.

        Returns
        -------
        ndarray of uint8
            (H, W) of `BACKGROUND`, `CRACK` and `IGNORED`, a read-only view of the file.

        Raises
        ------
        IndexError
            If the row is not in the stack.
        ValueError
            If no masks are stored.
        """
        if self._masks is None:
            raise ValueError(f"the image stack in {self.folder} holds no masks: ingest again with image.masks: true")
        start, stop, (height, width) = self._place(row)
        return self._masks.span(start, stop).reshape(height, width)

    def without_masks(self) -> PhotographStack:
        """Give the same photographs as a stack without masks, whose tables do not say what is in them, either."""
        stack = copy.copy(self)
        stack.has_masks, stack._masks, stack._hidden = False, None, _OF_MASKS
        return stack

    def _table(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        table = super()._table(name, columns)
        return table.drop(columns=[name for name in self._hidden if name in table])

    def cut(self, rows: NDArray[np.int64], corners: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
        """Cut squares out of photographs, as `crops` does, without their masks.

        Returns
        -------
        ndarray of uint8
            (n, size, size) or (n, size, size, 3), a copy.

        Raises
        ------
        IndexError
            If a row is not in the stack.
        ValueError
            If the arguments do not fit each other.
        """
        rows, corners = np.asarray(rows), np.asarray(corners)
        if size < 1 or rows.ndim != 1 or corners.shape != (len(rows), 2):
            raise ValueError(
                f"crops need n rows, corners of (n, 2) and a size of at least 1 px, not rows of {rows.shape}, "
                f"corners of {corners.shape} and {size} px"
            )
        images = np.empty((len(rows), size, size, *((self.channels,) if self.channels > 1 else ())), np.uint8)
        for image, row, (y, x) in zip(images, rows.tolist(), corners.tolist(), strict=True):
            _cut(self.photograph(row), y, x, image)
        return images

    def crops(
        self, rows: NDArray[np.int64], corners: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Cut squares out of photographs and their masks; only what lies under them is read.

        Parameters
        ----------
        rows
            (n,): which photograph, 0 to N - 1, in any order, also repeated.
        corners
            (n, 2): y and x of the upper left corner in px; a square may reach beyond the photograph.
        size
            Side of the squares, in px.

        Returns
        -------
        images : ndarray of uint8
            (n, size, size) or (n, size, size, 3), a copy. Beyond its border a photograph is reflected, as
            often as needed; the outermost pixels are not repeated.
        masks : ndarray of uint8
            (n, size, size), a copy; `IGNORED` beyond the border.

        Raises
        ------
        IndexError
            If a row is not in the stack.
        ValueError
            If no masks are stored, or the arguments do not fit each other.
        """
        images = self.cut(rows, corners, size)
        masks = np.empty((len(images), size, size), np.uint8)
        for mask, row, (y, x) in zip(masks, np.asarray(rows).tolist(), np.asarray(corners).tolist(), strict=True):
            cut_mask(self.mask(row), y, x, mask)
        return images, masks

    def _place(self, row: int) -> tuple[int, int, tuple[int, int]]:
        """First pixel, the one after the last, and height and width."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a stack of {len(self)} photographs")
        height, width = self.sizes[row].tolist()
        return int(self._starts[row]), int(self._starts[row + 1]), (height, width)


def open_stack(folder: Path | str) -> ImageStack | PhotographStack:
    """Open a stack of either kind; raises as they do."""
    return ImageStack(folder) if IMAGES in read_description(Path(folder)) else PhotographStack(folder)


def _flat(folder: Path, name: str, sizes: list[int]) -> Shards:
    """Bytes in several files, of these sizes."""
    return Shards(folder, name, (sum(sizes),), sizes)


def _cut(photograph: NDArray[np.uint8], y: int, x: int, into: NDArray[np.uint8]) -> None:
    size = len(into)
    height, width = photograph.shape[:2]
    if y >= 0 and x >= 0 and y + size <= height and x + size <= width:
        into[...] = photograph[y : y + size, x : x + size]
        return
    rows, columns = _reflected(y, size, height), _reflected(x, size, width)
    top, bottom = min(run.start for run in rows), max(run.stop for run in rows)
    across = np.empty((bottom - top, *into.shape[1:]), np.uint8)
    for run in columns:
        columns_of_run = photograph[top:bottom, run.start : run.stop]
        # numpy turns columns round pixel by pixel, which takes a hundred times as long as copying them
        across[:, run.to] = columns_of_run if run.step > 0 else cv2.flip(columns_of_run, 1)
    for run in rows:
        into[run.to] = across[run.start - top : run.stop - top][:: run.step]


def cut_mask(mask: NDArray[np.uint8], y: int, x: int, into: NDArray[np.uint8]) -> None:
    """Cut a square out of a mask (H, W), into an array (S, S): `IGNORED` beyond the border."""
    size = len(into)
    top, left = max(y, 0), max(x, 0)
    inside = mask[top : max(y + size, 0), left : max(x + size, 0)]
    if inside.shape != into.shape:
        into[...] = IGNORED
    into[top - y : top - y + inside.shape[0], left - x : left - x + inside.shape[1]] = inside


class _Run(NamedTuple):
    """Where a stretch of a crop comes from: a stretch of the photograph, forwards or backwards."""

    to: slice
    start: int
    stop: int
    step: Literal[1, -1]


def _reflected(start: int, size: int, length: int) -> list[_Run]:
    """Positions ``start`` to ``start + size - 1`` of a line that is reflected at its ends, as stretches of it."""
    if length == 1:
        return [_Run(slice(0, size), 0, 1, 1)]  # one value, everywhere
    runs, done, period = [], 0, 2 * (length - 1)
    while done < size:
        at = (start + done) % period
        if at < length:
            n = min(size - done, length - at)
            runs.append(_Run(slice(done, done + n), at, at + n, 1))
        else:
            n = min(size - done, period - at)
            runs.append(_Run(slice(done, done + n), period - at - n + 1, period - at + 1, -1))
        done += n
    return runs
