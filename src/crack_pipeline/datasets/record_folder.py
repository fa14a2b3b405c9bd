"""What was found of photographs, one by one, kept from run to run."""

from __future__ import annotations

import errno
import json
import logging
import shutil
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import BaseFileLock, FileLock, Timeout
from fsspec.implementations.local import LocalFileSystem
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from crack_pipeline.datasets.block_folder import FolderTicket
from crack_pipeline.datasets.places import LOCK, SharedFolder
from crack_pipeline.datasets.safe_names import PART, SafeNames
from crack_pipeline.imaging.decoding import Undecodable
from crack_pipeline.imaging.records import Record, RecordChunk

logger = logging.getLogger(__name__)

RUN, RECORD = "run.json", "record.json"

_UNKEPT = "what was found cannot be kept under its name"
_OF_ITS_NAME = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EINVAL)
"""Errors that say nothing of other photographs."""


class Records:
    """The records of a folder.

    Attributes
    ----------
    paths
        Of the photographs of the last run that was completed, in its order, without those that failed.
    failed
        A row per photograph of that run of which nothing was found: ``path``, ``kind``, ``reason``.
    """

    def __init__(
        self, folder: Path, entries: Mapping[str, Mapping[str, Any]], run: Mapping[str, Any], *, shared: bool = False
    ) -> None:
        self._folder, self._entries, self._shared = folder, entries, shared
        self.paths: list[str] = list(run.get("paths", ()))
        self.failed = pd.DataFrame(run.get("failed", []), columns=["path", "kind", "reason"]).astype("str")

    def key(self, path: str) -> str | None:
        """Give the key of a photograph's record, of whatever run; None where there is none."""
        return self._entries[path]["key"] if path in self._entries else None

    def facts(self, path: str) -> dict[str, Any]:
        """Read what is known of a photograph; raises DatasetError."""
        try:
            found: dict[str, Any] = json.loads((self._place(path) / RECORD).read_text("utf-8"))["facts"]
        except (OSError, ValueError) as error:
            raise DatasetError(f"the record of {path} cannot be read: {error}; run the pipeline again") from error
        return found

    def files(self, path: str) -> dict[str, str]:
        """Name the files of a photograph, relative to the folder, by their names in the record."""
        return {name: f"{self._entries[path]['place']}/{name}" for name in self._entries[path]["files"]}

    def read(self, path: str, name: str) -> bytes:
        """Read a file of a photograph; raises DatasetError."""
        try:
            return (self._place(path) / name).read_bytes()
        except OSError as error:
            raise DatasetError(f"{name} of {path} cannot be read: {error}; run the pipeline again") from error

    def keeper(self) -> RecordKeeper | None:
        """Give what writes records from the workers of a cluster; None where the folder is this machine's alone."""
        return RecordKeeper(self._folder, self._entries) if self._shared else None

    def _place(self, path: str) -> Path:
        if path not in self._entries:
            raise DatasetError(f"there is no record of {path} in {self._folder}: run the pipeline again")
        return self._folder / str(self._entries[path]["place"])


class RecordKeeper:
    """Writes records into the folder of a run, from whatever machine; see `engines.photographs.Keeper`.

    Parameters
    ----------
    folder
        The folder, in which the run has begun.
    entries
        What is there of earlier runs, by path.
    """

    def __init__(self, folder: Path, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self._folder, self._entries = folder, entries

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_entries": {}}

    def names(self, paths: Sequence[str]) -> list[str]:
        """Give each photograph the place of its record, or else a new one; raises ValueError if a path comes twice."""
        names = _names(self._entries)
        return [str(self._entries[path]["place"]) if path in self._entries else names.of(path) for path in paths]

    def put(self, record: Record, name: str) -> Record:
        """Write a record; what is left to be told of it is what the photograph is.

        Raises
        ------
        Undecodable
            If it cannot be kept under its name.
        OSError
            If nothing can be kept.
        """
        if not (self._folder / RUN).is_file():
            raise FileNotFoundError(f"the records in {self._folder} are gone")
        try:
            _write_record(self._folder / name, record, f".{uuid.uuid4().hex[:8]}")
        except OSError as error:
            if error.errno not in _OF_ITS_NAME:
                raise
            raise Undecodable("name", f"{_UNKEPT}: {error}") from error
        return record.written(name, {"image_id": record.facts.get("image_id")})

    def drop(self, record: Record) -> None:
        """Remove a record that was written."""
        _remove_record(self._folder, str(record.place), record.files)


class RecordFolderDataset(AbstractDataset[RecordChunk, Records]):
    """A folder with a sub-folder per photograph, whose files stay as long as nothing that decides them changes.

    ``<path of the photograph>/``
        The files of its record, and ``record.json``: its path, key, facts and the names of the files.
    ``run.json``
        The photographs of the last run that was completed, and those that failed.

    A generator node gives one :class:`RecordChunk` after another. A record is whole as soon as its ``record.json`` is
    there, so that a run that is killed, or whose disk is full, loses at most the photograph that was being written, and
    the next run goes on. With the last chunk the records go that belong to no photograph of the run, unless the run
    before seems to have been of another root, by its name or since nothing of it is there: what has become of its
    photographs is not known then. Those of photographs that failed this time stay. A folder that is not there yet is
    read as one without records. One run at a time writes to it.

    Parameters
    ----------
    filepath
        The folder: a path, or the URL of one in an object store, which is worked on on this machine's disk and shared
        when a run is completed; see `SharedFolder`. One that holds other files is never written to.
    metadata
        For other tools; ignored here.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._shared = SharedFolder(filepath)
        self._folder = self._shared.folder
        self._writer: _Writer | None = None
        self._lock: BaseFileLock | None = None
        self.metadata = metadata

    def load(self) -> Records:
        """Find the records, none where there is no folder; raises DatasetError if it holds other files."""
        self._shared.bring()
        self._refuse_other_files()
        shared = not self._shared.is_remote
        return Records(self._folder, _entries(self._folder), _read_run(self._folder), shared=shared)

    def ticket(self) -> FolderTicket | None:
        """Give what tries on any machine whether it reaches the folder, where workers write there."""
        if self._shared.is_remote:
            return None
        return FolderTicket(LocalFileSystem(), str(self._folder.parent.absolute()), str(self._folder))

    def save(self, data: RecordChunk) -> None:
        """Add a chunk; the last one completes the run.

        Raises
        ------
        DatasetError
            If a chunk comes out of turn, the folder holds other files, or it cannot be written, such as on a full
            disk; what was finished stays.
        """
        try:
            if data.number == 0:
                self._begin()
            if self._writer is None or self._writer.chunks != data.number:
                raise DatasetError(f"chunk {data.number} of the records came out of turn: run the pipeline again")
            self._writer.append(data)
            if data.last:
                self._writer.complete(data.root)
                self._shared.share()
                self._release()
        except OSError as error:
            raise DatasetError(self._explain(error)) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_writer": None, "_lock": None}

    def _begin(self) -> None:
        self._shared.bring()
        self._refuse_other_files()
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._lock is None:
            self._lock = FileLock(self._folder / LOCK)
            try:
                self._lock.acquire(blocking=False)
            except Timeout:
                self._lock = None
                raise DatasetError(
                    f"another run is writing to {self._folder}: wait for its end, or choose another folder"
                ) from None
        if not (self._folder / RUN).exists():
            _write(self._folder / RUN, json.dumps({}).encode())
        self._writer = _Writer(self._folder)

    def _release(self) -> None:
        self._writer = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _refuse_other_files(self) -> None:
        if not self._folder.exists() or (self._folder / RUN).exists() or _entries(self._folder):
            return
        strange = next((path.name for path in self._folder.iterdir() if path.name not in (".gitkeep", LOCK)), None)
        if strange is not None:
            raise DatasetError(
                f"{self._folder} holds files that are no records ({strange}, …) and is not written to; move them away "
                "or choose another folder"
            )

    def _explain(self, error: OSError) -> str:
        done = self._writer.written if self._writer is not None else 0
        kept = f"{done:,} photographs of this run are finished and stay; run the pipeline again to go on"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(self._folder).free // 2**20
            return f"the disk of {self._folder} is full ({free:,} MiB free): {kept}"
        return f"records cannot be written to {self._folder}: {error}; {kept}"

    def _exists(self) -> bool:
        return self._shared.exists(bool(_read_run(self._folder)))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._shared.url}


class _Writer:
    """A run being written."""

    def __init__(self, folder: Path) -> None:
        self.chunks = self.written = 0
        self._folder, self._entries = folder, _entries(folder)
        self._names = _names(self._entries)
        self._paths: list[str] = []
        self._failed: list[tuple[str, str, str]] = []

    def append(self, chunk: RecordChunk) -> None:
        for record in chunk.records:
            try:
                self._write(record)
            except OSError as error:
                if error.errno not in _OF_ITS_NAME:
                    raise
                logger.warning("%s is left out: %s: %s", record.path, _UNKEPT, error)
                self._failed.append((record.path, "name", f"{_UNKEPT}: {error}"))
            else:
                self._paths.append(record.path)
                self.written += 1
        self._paths += chunk.kept
        self._failed += chunk.failed
        self.chunks += 1

    def complete(self, root: str) -> None:
        before = _read_run(self._folder)
        there = {*self._paths, *(path for path, *_ in self._failed)}
        same = before.get("root", root) == root and not there.isdisjoint(before.get("paths", there))
        run = {"root": root, "paths": self._paths, "failed": self._failed}
        _write(self._folder / RUN, json.dumps(run, ensure_ascii=True).encode())
        gone = set(self._entries) - there
        for path in gone if same else ():
            self._remove(self._entries.pop(path))
        if gone:
            done = "are removed" if same else "are kept, since they are of another root"
            logger.info("the records of %s photographs that are not there %s", f"{len(gone):,}", done)

    def _write(self, record: Record) -> None:
        earlier = self._entries.get(record.path)
        place = record.place
        if place is None:
            place = str(earlier["place"]) if earlier else self._names.of(record.path)
            _write_record(self._folder / place, record)
        entry = {"path": record.path, "key": record.key, "files": sorted(record.files)}
        self._entries[record.path] = {**entry, "place": place}

    def _remove(self, entry: Mapping[str, Any]) -> None:
        _remove_record(self._folder, str(entry["place"]), entry["files"])


def _names(entries: Mapping[str, Mapping[str, Any]]) -> SafeNames:
    return SafeNames([RUN, LOCK, *(str(entry["place"]) for entry in entries.values())])


def _write_record(folder: Path, record: Record, token: str = "") -> None:
    """Write a record, which is whole as soon as it can be read; ``token`` tells those apart who write at once."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: folder / f"{name}{token}{PART}" for name in record.files}
    before = _files_of(folder)
    try:
        for name, content in record.files.items():
            parts[name].write_bytes(content)
    except BaseException:
        for part in parts.values():
            part.unlink(missing_ok=True)
        raise
    # From here on until the end there is no record.
    (folder / RECORD).unlink(missing_ok=True)
    for name, part in parts.items():
        part.replace(folder / name)
    for name in before - set(record.files):
        (folder / name).unlink(missing_ok=True)
    entry = {"path": record.path, "key": record.key, "files": sorted(record.files), "facts": dict(record.facts)}
    _write(folder / RECORD, json.dumps(entry, ensure_ascii=True).encode(), token)


def _remove_record(root: Path, place: str, files: Iterable[str]) -> None:
    folder = root / place
    for name in (RECORD, *files):
        (folder / name).unlink(missing_ok=True)
    while folder != root:
        try:
            folder.rmdir()
        except OSError:  # something else lies there
            return
        folder = folder.parent


def _files_of(folder: Path) -> set[str]:
    """Name the files of the record that is in a folder, if there is one."""
    try:
        return set(json.loads((folder / RECORD).read_text("utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Find the records that are whole: path, key, files and place by path."""
    found = {}
    for file in sorted(_files(folder)):
        try:
            record = json.loads(file.read_text("utf-8"))
            entry = {name: record[name] for name in ("path", "key", "files")}
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if all((file.parent / name).is_file() and (file.parent / name).stat().st_size for name in entry["files"]):
            found[str(entry["path"])] = {**entry, "place": file.parent.relative_to(folder).as_posix()}
    return found


def _files(folder: Path) -> Iterable[Path]:
    return folder.rglob(RECORD) if folder.is_dir() else ()


def _read_run(folder: Path) -> dict[str, Any]:
    try:
        run: dict[str, Any] = json.loads((folder / RUN).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return run


def _write(path: Path, content: bytes, token: str = "") -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f"{path.name}{token}{PART}")
    try:
        part.write_bytes(content)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
