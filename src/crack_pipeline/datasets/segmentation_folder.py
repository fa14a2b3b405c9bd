"""Masks, pictures and a table of segmented photographs, written as they come."""

from __future__ import annotations

import errno
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Protocol

import numpy as np
import pandas as pd
from filelock import BaseFileLock, FileLock, Timeout
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from crack_pipeline.datasets.places import LOCK, SharedFolder
from crack_pipeline.datasets.safe_names import PART, SafeNames
from crack_pipeline.datasets.swapping import beside, finish_swap, swap
from crack_pipeline.imaging.camera import check_quality, encode_jpeg, encode_png
from crack_pipeline.imaging.records import Record
from crack_pipeline.imaging.segmented import OVERLAY_QUALITY, Segmentation, SegmentedPhotograph, shrink_to

logger = logging.getLogger(__name__)

PHOTOGRAPHS, REJECTED = "photographs.jsonl", "rejected.jsonl"
MASKS, OVERLAYS, PROBABILITIES = "masks", "overlays", "probabilities"
PARTS = ".parts"
"""Where the workers of a cluster write files that are not whole yet; see `unfinished_segmentation`."""

PLACES = {
    "mask": f"{MASKS}/{{name}}.png",
    "overlay": f"{OVERLAYS}/{{name}}.jpg",
    "probability": f"{PROBABILITIES}/{{name}}.png",
}

_LINES = 50_000

Contents = dict[str, tuple[str, bytes]]
"""Name and bytes of a file, by what it is."""


class Chunk(Protocol):
    """Some photographs on their way to the disk; see `imaging.segmented.SegmentedChunk`."""

    @property
    def photographs(self) -> Sequence[Any]:
        """With a ``path`` and ``facts`` each."""

    @property
    def rejected(self) -> Sequence[tuple[str, str, str]]:
        """Path, kind and reason."""

    @property
    def number(self) -> int:
        """From 0."""

    @property
    def last(self) -> bool:
        """Whether there are no more."""


class SegmentationFolderDataset(AbstractDataset[Chunk, Segmentation]):
    """A folder of what a segmentation found.

    ``masks/<path>.png``
        8 bit grey, of the size of the photograph: 255 where there is a crack, 0 elsewhere.
    ``overlays/<path>.jpg``
        RGB, shrunk to bounded size.
    ``probabilities/<path>.png``
        8 bit grey, where the chunks bring them: the probability in 256 levels.
    ``photographs.jsonl``, ``rejected.jsonl``
        A JSON object per line and photograph; the first names the files above.

    ``<path>`` is that of the photograph with its ending, so that ``a.jpg`` and ``a.png`` do not meet. What could lead
    out of the folder, or what a file system does not take, is written as ``%`` and its code.

    A generator node gives one `SegmentedChunk` after another. They go into ``<folder>.unfinished``, which takes the
    folder's place when the last one is written: a finished folder is all of one run. After a kill, or on a full disk,
    the earlier folder is as it was, and every photograph that was finished lies in ``<folder>.unfinished``, whole and
    with its line in the table, until the next run begins anew there.

    One run at a time writes to a folder. Records whose files are written already, under the names of
    `unfinished_segmentation.SegmentationKeeper`, are put into the table alone.

    Parameters
    ----------
    filepath
        The folder: a path, or the URL of one in an object store, which is written on this machine's disk and shared
        when it is complete; see `SharedFolder`. One that holds other files is never replaced.
    overlay_side
        Most px along the longer side of an overlay that is not encoded yet.
    jpeg_quality
        Of such overlays, 1 to 100.
    metadata
        For other tools; ignored here.
    """

    _what: ClassVar[str] = "segmentation"
    _files: ClassVar[tuple[str, ...]] = ("mask", "overlay", "probability")
    _folders: ClassVar[tuple[str, ...]] = (MASKS, OVERLAYS, PROBABILITIES)

    def __init__(
        self,
        *,
        filepath: str,
        overlay_side: int = 2048,
        jpeg_quality: int = OVERLAY_QUALITY,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        if not 1 <= overlay_side <= 65_500:
            raise DatasetError(f"overlay_side must lie between 1 and 65,500 px, as JPEG has it, not {overlay_side}")
        try:
            check_quality(jpeg_quality)
        except ValueError as error:
            raise DatasetError(str(error)) from error
        self._shared = SharedFolder(filepath)
        self._folder = self._shared.folder
        self._overlay_side, self._jpeg_quality = overlay_side, jpeg_quality
        self._writer: _Writer | None = None
        self._lock: BaseFileLock | None = None
        self.metadata = metadata

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_writer": None, "_lock": None}

    def load(self) -> Segmentation:
        """Read the tables.

        Raises
        ------
        DatasetError
            If there is no finished segmentation; the message says where an unfinished one lies.
        """
        self._shared.bring()
        finish_swap(self._folder)
        if not self._exists():
            place = f"; what a run did before it ended is in {self._unfinished}" if self._unfinished.exists() else ""
            raise DatasetError(f"there is no finished {self._what} in {self._folder}{place}")
        photographs = _read_table(self._folder / PHOTOGRAPHS)
        columns = list(dict.fromkeys(["path", *photographs.columns, *self._files]))
        rejected = pd.DataFrame(_read_lines(self._folder / REJECTED), columns=["path", "kind", "reason"])
        return Segmentation(photographs.reindex(columns=columns), rejected)

    def save(self, data: Chunk) -> None:
        """Write a chunk; the last one puts the new folder in the place of the earlier one.

        Raises
        ------
        DatasetError
            If a chunk is missing, a photograph comes twice or has a mask that is none, or the disk is full or cannot
            be written. What was finished before stays, and so does the earlier folder.
        """
        try:
            if data.number == 0:
                self._begin()
            if self._writer is None or self._writer.chunks != data.number:
                raise DatasetError(f"chunk {data.number} of a {self._what} came out of turn: run the pipeline again")
            self._writer.append(data)
            if data.last:
                done = self._writer.photographs
                self._writer.close()
                self._writer = None
                shutil.rmtree(self._unfinished / PARTS)
                self._release()
                swap(self._unfinished, self._folder)
                self._shared.share()
                logger.info("%s of %s photographs is in %s", self._what, f"{done:,}", self._shared.place)
        except OSError as error:
            raise DatasetError(self._explain(error)) from error

    @property
    def _unfinished(self) -> Path:
        return self._folder.with_name(f"{self._folder.name}.unfinished")

    def _begin(self) -> None:
        finish_swap(self._folder)
        for folder in (self._folder, self._unfinished):
            foreign = _foreign(folder, {PHOTOGRAPHS, REJECTED, LOCK, PARTS, *self._folders})
            if foreign is not None:
                raise DatasetError(
                    f"{folder} holds files that are no {self._what} ({foreign}, …) and is not replaced; "
                    "move them away or write to another folder"
                )
        if self._writer is not None:
            self._writer.close()
        if self._unfinished.exists():
            self._acquire()  # of a run that goes on, or of one that is over
            shutil.rmtree(self._unfinished)
            self._release()
        (self._unfinished / PARTS).mkdir(parents=True)
        self._acquire()
        self._writer = _Writer(self._unfinished, self._contents, self._files)

    def _acquire(self) -> None:
        if self._lock is not None:
            return
        lock = FileLock(self._unfinished / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            raise DatasetError(
                f"another run is writing to {self._unfinished}: wait for its end, or choose another folder"
            ) from None
        self._lock = lock

    def _release(self) -> None:
        if self._lock is not None:
            (self._unfinished / LOCK).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def _explain(self, error: OSError) -> str:
        done = self._writer.photographs if self._writer is not None else 0
        kept = f"{done:,} photographs are finished, in {self._unfinished}"
        if self._exists():
            kept += f"; the earlier {self._what} in {self._folder} is untouched"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(self._folder.parent).free // 2**20
            return f"the disk of {self._folder.parent} is full ({free:,} MiB free): {kept}"
        return f"the {self._what} cannot be written to {self._unfinished}: {error}; {kept}"

    def _contents(self, photograph: Any, name: str) -> Contents:
        """Give the files of one photograph; DatasetError if it is none of this kind."""
        files = photograph.files if isinstance(photograph, Record) else self._encoded(photograph)
        return {kind: (PLACES[kind].format(name=name), content) for kind, content in files.items()}

    def _encoded(self, found: SegmentedPhotograph) -> dict[str, bytes]:
        _check(found)
        files = {"mask": encode_png(found.mask == 1)}
        if found.probability is not None:
            files["probability"] = encode_png(found.probability)
        if found.overlay is not None:
            files["overlay"] = encode_jpeg(shrink_to(found.overlay, self._overlay_side), self._jpeg_quality)
        return files

    def _exists(self) -> bool:
        here = any((folder / PHOTOGRAPHS).is_file() for folder in (self._folder, beside(self._folder)))
        return self._shared.exists(here)

    def _describe(self) -> dict[str, Any]:
        return {
            "filepath": self._shared.url,
            "overlay_side": self._overlay_side,
            "jpeg_quality": self._jpeg_quality,
        }


class _Writer:
    """A folder being written."""

    def __init__(self, folder: Path, contents: Callable[[Any, str], Contents], kinds: Sequence[str]) -> None:
        self.chunks = self.photographs = 0
        self._folder, self._contents, self._kinds = folder, contents, kinds
        self._names = SafeNames()
        self._table, self._rejected = _Lines(folder / PHOTOGRAPHS), _Lines(folder / REJECTED)

    def append(self, chunk: Chunk) -> None:
        for photograph in chunk.photographs:
            self._write(photograph)
            self.photographs += 1
        self._rejected.append(
            [dict(zip(("path", "kind", "reason"), row, strict=True)) for row in chunk.rejected],
        )
        self.chunks += 1

    def close(self) -> None:
        self._table.close()
        self._rejected.close()

    def _write(self, photograph: Any) -> None:
        taken = {"path", *self._kinds}.intersection(photograph.facts)
        if taken:
            raise DatasetError(f"the facts about {photograph.path} must not have the names {', '.join(sorted(taken))}")
        if isinstance(photograph, Record) and photograph.place is not None:
            there = {kind: PLACES[kind].format(name=photograph.place) for kind in photograph.files}
            self._table.append([_row(photograph, {kind: there.get(kind) for kind in self._kinds})])
            return
        try:
            name = self._names.of(photograph.path)
        except ValueError as error:
            raise DatasetError(str(error)) from error
        contents = self._contents(photograph, name)
        files = {kind: contents[kind][0] if kind in contents else None for kind in self._kinds}
        try:
            for file, content in contents.values():
                self._put(file, content)
            self._table.append([_row(photograph, files)])
        except BaseException:
            for file, _ in contents.values():
                (self._folder / file).unlink(missing_ok=True)
            raise

    def _put(self, file: str, content: bytes) -> None:
        """Write one file whole or not at all."""
        path = self._folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}{PART}")
        try:
            part.write_bytes(content)
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


class _Lines:
    """A table of JSON lines that grows by whole lines only."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb", buffering=0)

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        lines = memoryview("".join(json.dumps(dict(row), default=_plain) + "\n" for row in rows).encode())
        end = self._file.tell()
        try:
            while lines:
                lines = lines[self._file.write(lines) :]
        except BaseException:
            self._file.seek(end)
            self._file.truncate()
            raise

    def close(self) -> None:
        self._file.close()


def _row(photograph: Any, files: Mapping[str, str | None]) -> dict[str, Any]:
    return {"path": photograph.path, **photograph.facts, **files}


def _check(photograph: SegmentedPhotograph) -> None:
    maps = {"mask": photograph.mask, "probability": photograph.probability}
    for name, values in maps.items():
        if values is not None and (values.dtype != np.uint8 or values.ndim != 2 or not values.size):
            raise DatasetError(f"the {name} of {photograph.path} is {values.dtype} {values.shape}, not uint8 (H, W)")
    if photograph.mask.max() > 1:
        raise DatasetError(f"the mask of {photograph.path} has the value {photograph.mask.max()}; it takes 0 and 1")


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r} cannot be written to a table of JSON lines")


def _read_table(path: Path) -> pd.DataFrame:
    """Read JSON lines, some at a time: as objects, each takes ten times as much memory as in a table."""
    parts = []
    with path.open(encoding="utf-8") as file:
        while rows := [json.loads(line) for line in islice(file, _LINES)]:
            parts.append(pd.DataFrame(rows))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _read_lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _foreign(folder: Path, ours: set[str]) -> str | None:
    """Name something in a folder that was not written here; None where there is nothing of the kind."""
    if not folder.exists():
        return None
    if not folder.is_dir():
        return folder.name
    names = {entry.name for entry in folder.iterdir()} - {".gitkeep"}
    own = ours if PHOTOGRAPHS in names else set()
    return min(names - own, default=None)
