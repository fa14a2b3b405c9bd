"""From the bytes of a photograph, and of its mask, to what the image stack stores.

Plain functions without Kedro, so that threads, processes or another engine can call them.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.imaging import near_duplicates, tiling
from crack_pipeline.imaging.decoding import (
    Mode,
    StorageLostError,
    Undecodable,
    Unreadable,
    decode,
    header_size,
    is_turned,
    prepare,
)
from crack_pipeline.imaging.photograph_stack import BACKGROUND, CRACK, IGNORED, PhotographChunk
from crack_pipeline.imaging.stack import ImageChunk
from crack_pipeline.pipelines.ingestion.listing import MASK, NO_MASK, REJECTED, UNMARKED, Source
from crack_pipeline.pipelines.ingestion.masks import MASK_VALUES, check_mask, clear_tiles, read_mask
from crack_pipeline.pipelines.ingestion.ordered import Hold, in_order
from crack_pipeline.pipelines.ingestion.parameters import Image, Preset, Reading, Tiling

logger = logging.getLogger(__name__)

INDEX = ("image_id", "photo_id", "photo", "label", "width", "height", "crack_pixels")
PHOTOS = ("photo_id", "path", "label", "mask_path", "source", "width", "height")
DOUBTFUL = "doubtful"
UNREADABLE = "unreadable"
"""Kind of a file whose bytes the storage does not give, which may be so for a moment only."""
UNCERTAIN, UNUSABLE, OF_MACHINE = "uncertain", "unusable", "of the machine"

# Pillow's copy and the array, which both exist for a moment; a picture that is turned upright needs no more
_BYTES_PER_PIXEL = 8
_SECONDS_BETWEEN_REPORTS = 5.0
R = TypeVar("R")


@dataclass(frozen=True)
class Developed:
    """One photograph, ready to be stored.

    Attributes
    ----------
    photo_id
        Hash of the file's bytes: BLAKE2b of 16 bytes, in hexadecimal.
    images
        n arrays (H, W) or (H, W, 3) uint8: the photograph, or its tiles.
    masks
        Their masks, n arrays (H, W) uint8 of `BACKGROUND`, `CRACK` and `IGNORED`; None if they are not stored.
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
    images: list[NDArray[np.uint8]]
    masks: list[NDArray[np.uint8]] | None
    thumbnail: NDArray[np.uint8]
    width: int
    height: int
    label: str | None
    index: list[tuple[str, str | None, int, int, int | None]]
    uncertain: bool = False
    """Whether nothing shows if the mask was drawn on the photograph as its EXIF orientation turns it."""
    unusable: bool = False
    """Whether there is a mask that was passed over, since it cannot be read or contradicts the folder's label."""

    @property
    def nbytes(self) -> int:
        """Bytes of the images and masks."""
        return sum(array.nbytes for array in (*self.images, *(self.masks or ())))


def open_photograph(source: Source, path: str, *, mode: Mode, reading: Reading) -> tuple[str, NDArray[np.uint8]]:
    """Read and decode one photograph, in its own size.

    Parameters
    ----------
    source
        Where the file is read from.
    path
        Of the file, as ``source`` lists it.
    mode
        ``grey`` or ``rgb``.
    reading
        The limits.

    Returns
    -------
    photo_id : str
        Hash of the file's bytes: BLAKE2b of 16 bytes, in hexadecimal.
    pixels : ndarray of uint8
        (H, W) if grey, (H, W, 3) otherwise.

    Raises
    ------
    Undecodable
        If the file cannot be read or decoded, or the photograph is too large or too small; its kind and reason
        are those of the quarantine.
    StorageLostError
        If no file can be read any more.
    """
    result = _attempt(lambda: _opened(_read(source, path), mode, reading))
    if isinstance(result, Undecodable):
        raise result
    return result


def photo_id_of(source: Source, path: str) -> str | None:
    """Hash a file as `open_photograph` does; None where it cannot be read, which that one explains."""
    try:
        return hashlib.blake2b(source.read(path), digest_size=16).hexdigest()
    except Exception:  # an object store raises anything
        return None


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
    if not image.tiles:
        preset = preset.model_copy(update={"tiling": None})
    if image.masks and mask is None and label != "normal" and not (label and image.masks == "where_given"):
        if label is None:
            raise Undecodable(NO_MASK, "no mask, and no label either")
        raise Undecodable(UNMARKED, f"its folder says {label}, and no mask says where")
    photo_id, pixels = _opened(data, image.mode, reading)
    height, width = pixels.shape[:2]
    unusable = False
    try:
        meaning = _mask(mask, (height, width), label, preset=preset, image=image, reading=reading)
    except Undecodable:
        if label is None or image.masks != "where_given":
            raise
        # The label is what counts there, and no mask may decide whether it is learned from.
        meaning, unusable = np.full((height, width), IGNORED, np.uint8), True
    known = meaning is not None and not unusable and not (mask is None and label == "crack")
    crack_pixels = int(np.count_nonzero(meaning == CRACK)) if known else None
    if preset.label_from == "mask" and crack_pixels is not None:
        label = "crack" if crack_pixels else "normal"
    thumbnail = prepare(pixels, near_duplicates.THUMBNAIL_SIZE, "grey")
    if preset.tiling is None:
        images, masks = [_sized(pixels, image)], [meaning] if meaning is not None else []
        index = [(photo_id, label, width, height, crack_pixels)]
    else:
        images, masks, index = _tile(pixels, meaning, photo_id, preset.tiling, image)
    uncertain = mask is not None and header_size(data) in ((width, height), None) and is_turned(data) > is_turned(mask)
    stored = masks if image.masks else None
    return Developed(photo_id, images, stored, thumbnail, width, height, label, index, uncertain, unusable)


def develop_all(
    source: Source, photographs: pd.DataFrame, *, preset: Preset, image: Image, reading: Reading
) -> Iterator[ImageChunk | PhotographChunk]:
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
    ImageChunk or PhotographChunk
        At least one; the last says so. No more than a few chunks are in memory at a time, nor more than
        ``reading.room`` bytes of pictures on their way into one.
    """
    rows = in_rows(photographs)
    work = partial(_develop_row, source=source, preset=preset, image=image, reading=reading)
    progress = Progress(len(rows))
    chunk = _Collector(image)
    remarks: Counter[str] = Counter()
    items = rows.itertuples(index=False, name=None)
    for row, result in in_order(work, items, workers=reading.workers, room=reading.room):
        chunk.add(row, result)
        remarks.update(remarks_on(result))
        progress.step()
        if chunk.files >= reading.chunk or chunk.bytes >= reading.chunk_bytes:
            yield chunk.flush(last=False)
    yield chunk.flush(last=True)
    progress.end()
    warn_of(remarks)


def remarks_on(result: Developed | Undecodable) -> list[str]:
    """Name what there is to say of one photograph, for `warn_of` to count."""
    if isinstance(result, Undecodable):
        return [OF_MACHINE] if isinstance(result, Unreadable) else []
    return [name for name in (UNCERTAIN, UNUSABLE) if getattr(result, name)]


def warn_of(remarks: Mapping[str, int]) -> None:
    """Warn of what is odd about photographs, once for all of them."""
    unusable, uncertain = remarks.get(UNUSABLE, 0), remarks.get(UNCERTAIN, 0)
    if unusable:
        logger.warning(
            "%s masks cannot be read, or contradict the folders of their photographs: these are taken as photographs "
            "with a label and without a mask (a pipeline that learns from masks names each in its quarantine)",
            f"{unusable:,}",
        )
    if uncertain:
        logger.warning(
            "%s photographs are turned by their EXIF orientation, and their masks, of the same size, are not: they are "
            "taken as drawn on the photograph seen upright; look whether they lie on the cracks",
            f"{uncertain:,}",
        )


def in_rows(photographs: pd.DataFrame) -> pd.DataFrame:
    """Take what decides how photographs are developed, as plain values: path, label, mask, source and size."""
    rows = photographs.assign(size=photographs.get("size", 0))
    rows = rows[["path", "label", "mask_path", "source", "size"]].astype(object)
    return rows.where(rows.notna(), None)


def _develop_row(
    row: tuple[Any, ...], hold: Hold, *, source: Source, preset: Preset, image: Image, reading: Reading
) -> Developed | Undecodable:
    path, label, mask_path, _, size = row

    def work() -> Developed:
        hold(size)
        data = _read(source, path)
        mask = _read_mask_file(source, mask_path) if mask_path else None
        hold(len(data) + len(mask or b"") + _BYTES_PER_PIXEL * min(_pixels(data), reading.max_pixels))
        return develop(data, mask, label, preset=preset, image=image, reading=reading)

    result = _attempt(work)
    hold(result.nbytes if isinstance(result, Developed) else 0)
    return result


def _attempt(work: Callable[[], R]) -> R | Undecodable:
    """Give the result, or why there is none."""
    try:
        return work()
    except Undecodable as why:
        return type(why)(why.kind, why.reason)  # without the traceback, which would keep the pixels alive
    except MemoryError:
        return Undecodable("too many pixels", "it does not fit in memory: lower reading.max_pixels")
    except StorageLostError:
        raise
    except Exception as error:  # one odd file must not end the run
        return Undecodable("damaged", f"cannot be decoded: {error}")


def _read(source: Source, path: str) -> bytes:
    try:
        return source.read(path)
    except StorageLostError:
        raise
    except Exception as error:  # an object store raises anything
        raise Unreadable(UNREADABLE, f"cannot be read: {error}") from None


def _read_mask_file(source: Source, path: str) -> bytes:
    try:
        return source.read(path)
    except StorageLostError:
        raise
    except Exception as error:
        raise Unreadable(MASK, f"its mask {path} cannot be read: {error}") from None


def _pixels(data: bytes) -> int:
    width, height = header_size(data) or (0, 0)
    return width * height


def _opened(data: bytes, mode: Mode, reading: Reading) -> tuple[str, NDArray[np.uint8]]:
    photo_id = hashlib.blake2b(data, digest_size=16).hexdigest()
    pixels = decode(data, mode=mode, max_pixels=reading.max_pixels)
    height, width = pixels.shape[:2]
    if min(height, width) < reading.min_side:
        raise Undecodable("too small", f"{width} × {height} px; at least {reading.min_side} px each way are needed")
    return photo_id, pixels


def _mask(
    data: bytes | None,
    shape: tuple[int, int],
    label: str | None,
    *,
    preset: Preset,
    image: Image,
    reading: Reading,
) -> NDArray[np.uint8] | None:
    """Say what is known of every pixel; None if there is no mask and none is needed."""
    if data is None:
        return np.full(shape, IGNORED if label == "crack" else BACKGROUND, np.uint8) if image.masks else None
    try:
        mask = read_mask(data, shape, preset.mask_values, reading)
    except Undecodable as why:
        if why.kind == MASK_VALUES and preset.label_from == "folder" and not image.masks:
            return None  # the folder gives the label, so that nothing depends on what the values mean
        raise
    check_mask(mask, label, preset, stored=bool(image.masks))
    return mask


def _sized(pixels: NDArray[np.uint8], image: Image) -> NDArray[np.uint8]:
    height, width = pixels.shape[:2]
    if image.size is not None and not image.resize and (height, width) != (image.size, image.size):
        raise Undecodable(
            "too small" if min(height, width) < image.size else "size",
            f"{width} × {height} px, and resize is false: {image.size} × {image.size} px are wanted",
        )
    return prepare(pixels, image.size, image.mode)


def _tile(
    pixels: NDArray[np.uint8], mask: NDArray[np.uint8] | None, photo_id: str, cutting: Tiling, image: Image
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]], list[tuple[str, str | None, int, int, int | None]]]:
    """Cut tiles and leave the doubtful ones out; without a mask keep all, unlabelled."""
    size = cutting.size
    corners = tiling.grid(pixels.shape[0], pixels.shape[1], size, cutting.stride, cover=cutting.cover)
    if not len(corners):
        raise Undecodable("too small", f"{pixels.shape[1]} × {pixels.shape[0]} px; a tile is {size} × {size} px")
    labels: list[str | None] = [None] * len(corners)
    counts: list[int | None] = [None] * len(corners)
    if mask is not None:
        keep, inside = clear_tiles(mask, corners, cutting)
        if not keep.any():
            raise Undecodable(DOUBTFUL, "none of its tiles is clearly normal or clearly a crack")
        corners, inside = corners[keep], inside[keep]
        labels = ["crack" if n else "normal" for n in inside]
        counts = [int(n) for n in inside]
    images = [_sized(tile, image) for tile in tiling.cut(pixels, corners, size)]
    masks = list(tiling.cut(mask, corners, size)) if mask is not None and image.masks else []
    index = [
        (f"{photo_id}-{y}-{x}", label, size, size, n)
        for (y, x), label, n in zip(corners.tolist(), labels, counts, strict=True)
    ]
    return images, masks, index


class _Collector:
    """Gathers developed photographs into chunks."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._channels: Literal[1, 3] = 1 if image.mode == "grey" else 3
        self._number = 0
        self._photos_before = 0
        self._clear()

    def _clear(self) -> None:
        self.files = 0
        self.bytes = 0
        self._images: list[NDArray[np.uint8]] = []
        self._masks: list[NDArray[np.uint8]] = []
        self._thumbnails: list[NDArray[np.uint8]] = []
        self._index: list[tuple[Any, ...]] = []
        self._photos: list[tuple[Any, ...]] = []
        self._rejected: list[tuple[str, str, str]] = []
        self._remarks: Counter[str] = Counter()

    def add(self, row: tuple[Any, ...], result: Developed | Undecodable) -> None:
        path, _, mask_path, source, _ = row
        self.files += 1
        self._remarks.update(remarks_on(result))
        if isinstance(result, Undecodable):
            self._rejected.append((path, result.kind, result.reason))
            return
        photo = self._photos_before + len(self._photos)
        self._images += result.images
        self._masks += result.masks or []
        self._thumbnails.append(result.thumbnail)
        self.bytes += result.nbytes
        self._index += [(image_id, result.photo_id, photo, *rest) for image_id, *rest in result.index]
        self._photos.append((result.photo_id, path, result.label, mask_path, source, result.width, result.height))

    def flush(self, *, last: bool) -> ImageChunk | PhotographChunk:
        side = near_duplicates.THUMBNAIL_SIZE
        thumbnails = np.stack(self._thumbnails) if self._thumbnails else np.empty((0, side, side), np.uint8)
        common: dict[str, Any] = {
            "fingerprints": near_duplicates.fingerprint(thumbnails),
            "index": pd.DataFrame(self._index, columns=list(INDEX)).astype({"crack_pixels": "Int64"}),
            "photos": pd.DataFrame(self._photos, columns=list(PHOTOS)),
            "rejected": pd.DataFrame(self._rejected, columns=list(REJECTED)),
            "number": self._number,
            "last": last,
            "remarks": dict(self._remarks),
        }
        chunk: ImageChunk | PhotographChunk
        if self._image.size is None:
            masks = self._masks if self._image.masks else None
            chunk = PhotographChunk(photographs=self._images, masks=masks, channels=self._channels, **common)
        else:
            shape = (self._image.size, self._image.size, *((3,) if self._channels == 3 else ()))
            chunk = ImageChunk(
                images=np.stack(self._images) if self._images else np.empty((0, *shape), np.uint8), **common
            )
        self._number += 1
        self._photos_before += len(self._photos)
        self._clear()
        return chunk


class Progress:
    """Logs how far the decoding of so many photographs in all is, every few seconds."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._start = self._reported = time.monotonic()

    def step(self, number: int = 1) -> None:
        """Count some that are decoded."""
        self._done += number
        now = time.monotonic()
        if now - self._reported >= _SECONDS_BETWEEN_REPORTS:
            self._reported = now
            self._report(now)

    def end(self) -> None:
        """Say how far it is."""
        self._report(time.monotonic())

    def _report(self, now: float) -> None:
        rate = self._done / max(now - self._start, 1e-3)
        logger.info("decoded %s of %s photographs, %s/s", f"{self._done:,}", f"{self._total:,}", f"{rate:,.0f}")
