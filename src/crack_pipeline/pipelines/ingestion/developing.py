"""From the bytes of a photograph, and of its mask, to what the image stack stores.

Plain functions without Kedro, so that threads, processes or another engine can call them.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.imaging import near_duplicates, tiling
from crack_pipeline.imaging.decoding import Undecodable, decode, decode_mask, prepare
from crack_pipeline.imaging.stack import ImageChunk
from crack_pipeline.pipelines.ingestion.listing import REJECTED, Source
from crack_pipeline.pipelines.ingestion.parameters import Image, MaskValues, Preset, Reading, Tiling

logger = logging.getLogger(__name__)

INDEX = ("image_id", "photo_id", "photo", "label", "width", "height", "crack_pixels")
PHOTOS = ("photo_id", "path", "label", "mask_path", "source", "width", "height")
DOUBTFUL = "doubtful"

_SECONDS_BETWEEN_REPORTS = 5.0
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Developed:
    """One photograph, ready to be stored.

    Attributes
    ----------
    photo_id
        Hash of the file's bytes: BLAKE2b of 16 bytes, in hexadecimal.
    images
        (n, size, size) or (n, size, size, 3) uint8: the photograph, or its tiles.
    thumbnail
        (T, T) uint8 grey, the whole photograph, for its fingerprint.
    width, height
        Of the photograph, in px.
    label
        normal, crack, or None.
    index
        A row per image: ``image_id``, ``label``, ``width``, ``height``, ``crack_pixels``.
    """

    photo_id: str
    images: NDArray[np.uint8]
    thumbnail: NDArray[np.uint8]
    width: int
    height: int
    label: str | None
    index: list[tuple[str, str | None, int, int, int | None]]


def develop(
    data: bytes, mask: bytes | None, label: str | None, *, preset: Preset, image: Image, reading: Reading
) -> Developed:
    """Decode one photograph to what is stored of it.

    Parameters
    ----------
    data
        The photograph's file.
    mask
        The file of its mask, or None.
    label
        normal or crack, or None if it is unknown or comes from the mask.
    preset
        Says what the mask's values mean, whether the mask gives the label, and how to cut tiles.
    image
        The form in which it is stored.
    reading
        The limits.

    Raises
    ------
    Undecodable
        If the photograph or its mask cannot be used.
    """
    photo_id = hashlib.blake2b(data, digest_size=16).hexdigest()
    pixels = decode(data, mode=image.mode, max_pixels=reading.max_pixels)
    height, width = pixels.shape[:2]
    if min(height, width) < reading.min_side:
        raise Undecodable("too small", f"{width} × {height} px; at least {reading.min_side} px each way are needed")
    crack, ignored = (
        _read_mask(mask, (height, width), preset.mask_values, reading) if mask is not None else (None, None)
    )
    crack_pixels = int(crack.sum()) if crack is not None else None
    if preset.label_from == "mask" and crack_pixels is not None:
        label = "crack" if crack_pixels else "normal"
    thumbnail = prepare(pixels, near_duplicates.THUMBNAIL_SIZE, "grey")
    if preset.tiling is None:
        images = _sized(pixels, image)[None]
        index = [(photo_id, label, width, height, crack_pixels)]
    else:
        images, index = _tile(pixels, crack, ignored, photo_id, preset.tiling, image)
    return Developed(photo_id, images, thumbnail, width, height, label, index)


def develop_all(
    source: Source, photographs: pd.DataFrame, *, preset: Preset, image: Image, reading: Reading
) -> Iterator[ImageChunk]:
    """Decode photographs chunk by chunk, in their order, several at a time.

    Parameters
    ----------
    source
        Where the files are read from.
    photographs
        As `listing.list_files` gives them.
    preset, image, reading
        As for `develop`.

    Yields
    ------
    ImageChunk
        At least one; the last says so. No more than a few chunks are in memory at a time.
    """
    rows = photographs[["path", "label", "mask_path", "source"]].astype(object)
    rows = rows.where(rows.notna(), None)
    work = partial(_develop_row, source=source, preset=preset, image=image, reading=reading)
    progress = _Progress(len(rows))
    chunk = _Collector(image)
    for row, result in _in_order(work, rows.itertuples(index=False, name=None), reading.workers):
        chunk.add(row, result)
        progress.step()
        if chunk.files >= reading.chunk or chunk.bytes >= reading.chunk_bytes:
            yield chunk.flush(last=False)
    yield chunk.flush(last=True)
    progress.end()


def _develop_row(
    row: tuple[Any, ...], *, source: Source, preset: Preset, image: Image, reading: Reading
) -> Developed | Undecodable:
    path, label, mask_path, _ = row
    try:
        data = source.read(path)
    except Exception as error:  # an object store raises anything
        return Undecodable("unreadable", f"cannot be read: {error}")
    try:
        mask = source.read(mask_path) if mask_path else None
    except Exception as error:
        return Undecodable("mask", f"its mask {mask_path} cannot be read: {error}")
    try:
        return develop(data, mask, label, preset=preset, image=image, reading=reading)
    except Undecodable as why:
        return Undecodable(why.kind, why.reason)  # without the traceback, which would keep the pixels alive
    except MemoryError:
        return Undecodable("too many pixels", "it does not fit in memory: lower reading.max_pixels")
    except Exception as error:  # one odd file must not end the run
        return Undecodable("damaged", f"cannot be decoded: {error}")


def _read_mask(
    data: bytes, shape: tuple[int, int], values: MaskValues, reading: Reading
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where the mask says crack, and where it says nothing; both (H, W)."""
    try:
        mask, lossy = decode_mask(data, max_pixels=reading.max_pixels)
    except Undecodable as why:
        raise Undecodable("mask", f"its mask: {why.reason}") from None
    if mask.shape != shape:
        raise Undecodable(
            "mask",
            f"its mask is {mask.shape[1]} × {mask.shape[0]} px, the photograph {shape[1]} × {shape[0]} px",
        )
    if values.crack is not None:
        crack = np.isin(mask, values.crack)
    elif not lossy and mask.max(initial=0) <= 1:
        crack = mask == 1
    else:
        crack = mask >= values.threshold
    ignored = np.isin(mask, values.ignored)
    return crack & ~ignored, ignored


def _sized(pixels: NDArray[np.uint8], image: Image) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if not image.resize and (height, width) != (image.size, image.size):
        raise Undecodable(
            "too small" if min(height, width) < image.size else "size",
            f"{width} × {height} px, and resize is false: {image.size} × {image.size} px are wanted",
        )
    return prepare(pixels, image.size, image.mode)


def _tile(
    pixels: NDArray[np.uint8],
    crack: NDArray[np.bool_] | None,
    ignored: NDArray[np.bool_] | None,
    photo_id: str,
    cutting: Tiling,
    image: Image,
) -> tuple[NDArray[np.uint8], list[tuple[str, str | None, int, int, int | None]]]:
    """Cut tiles and leave the doubtful ones out; without a mask keep all, unlabelled."""
    size = cutting.size
    corners = tiling.grid(pixels.shape[0], pixels.shape[1], size, cutting.stride, cover=cutting.cover)
    if not len(corners):
        raise Undecodable("too small", f"{pixels.shape[1]} × {pixels.shape[0]} px; a tile is {size} × {size} px")
    labels: list[str | None] = [None] * len(corners)
    counts: list[int | None] = [None] * len(corners)
    if crack is not None and ignored is not None:
        inside = tiling.count(crack, corners, size)
        around = tiling.count(crack, corners, size, cutting.margin)
        unknown = tiling.count(ignored, corners, size) > cutting.max_ignored_share * size**2
        keep = ~unknown & ((around == 0) | (inside >= cutting.min_crack_pixels))
        if not keep.any():
            raise Undecodable(DOUBTFUL, "none of its tiles is clearly normal or clearly a crack")
        corners, inside = corners[keep], inside[keep]
        labels = ["crack" if n else "normal" for n in inside]
        counts = [int(n) for n in inside]
    tiles = tiling.cut(pixels, corners, size)
    images = np.stack([_sized(tile, image) for tile in tiles])
    index = [
        (f"{photo_id}-{y}-{x}", label, size, size, n)
        for (y, x), label, n in zip(corners.tolist(), labels, counts, strict=True)
    ]
    return images, index


class _Collector:
    """Gathers developed photographs into chunks."""

    def __init__(self, image: Image) -> None:
        self._shape = (image.size, image.size) if image.mode == "grey" else (image.size, image.size, 3)
        self._number = 0
        self._photos_before = 0
        self._clear()

    def _clear(self) -> None:
        self.files = 0
        self.bytes = 0
        self._images: list[NDArray[np.uint8]] = []
        self._thumbnails: list[NDArray[np.uint8]] = []
        self._index: list[tuple[Any, ...]] = []
        self._photos: list[tuple[Any, ...]] = []
        self._rejected: list[tuple[str, str, str]] = []

    def add(self, row: tuple[Any, ...], result: Developed | Undecodable) -> None:
        path, _, mask_path, source = row
        self.files += 1
        if isinstance(result, Undecodable):
            self._rejected.append((path, result.kind, result.reason))
            return
        photo = self._photos_before + len(self._photos)
        self._images.append(result.images)
        self._thumbnails.append(result.thumbnail)
        self.bytes += result.images.nbytes
        self._index += [(image_id, result.photo_id, photo, *rest) for image_id, *rest in result.index]
        self._photos.append((result.photo_id, path, result.label, mask_path, source, result.width, result.height))

    def flush(self, *, last: bool) -> ImageChunk:
        side = near_duplicates.THUMBNAIL_SIZE
        thumbnails = np.stack(self._thumbnails) if self._thumbnails else np.empty((0, side, side), np.uint8)
        chunk = ImageChunk(
            images=np.concatenate(self._images) if self._images else np.empty((0, *self._shape), np.uint8),
            fingerprints=near_duplicates.fingerprint(thumbnails),
            index=pd.DataFrame(self._index, columns=list(INDEX)).astype({"crack_pixels": "Int64"}),
            photos=pd.DataFrame(self._photos, columns=list(PHOTOS)),
            rejected=pd.DataFrame(self._rejected, columns=list(REJECTED)),
            number=self._number,
            last=last,
        )
        self._number += 1
        self._photos_before += len(self._photos)
        self._clear()
        return chunk


class _Progress:
    """Logs how far the decoding is, every few seconds."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._start = self._reported = time.monotonic()

    def step(self) -> None:
        self._done += 1
        now = time.monotonic()
        if now - self._reported >= _SECONDS_BETWEEN_REPORTS:
            self._reported = now
            self._report(now)

    def end(self) -> None:
        self._report(time.monotonic())

    def _report(self, now: float) -> None:
        rate = self._done / max(now - self._start, 1e-3)
        logger.info("decoded %s of %s photographs, %s/s", f"{self._done:,}", f"{self._total:,}", f"{rate:,.0f}")


def _in_order(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[tuple[T, R]]:
    """Map over threads, in order, with only a few results waiting."""
    pool = ThreadPoolExecutor(workers)
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > 4 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
