"""The root that photographs are read from: a folder, a zip archive or an object store."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
import time
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NamedTuple, NoReturn

import fsspec
from fsspec.utils import stringify_path
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from crack_pipeline.imaging.decoding import StorageLostError
from crack_pipeline.surroundings import in_time, without_password

logger = logging.getLogger(__name__)

SAMPLE = "data/01_raw/sample"
OUTSIDE = "outside the root"
NOT_A_FILE = "not a file"
UNREADABLE = "unreadable"

_SMALL = 2**26
_OTHERS = 5
"""Files that are tried where one cannot be read."""
_OF_A_FILE = (FileNotFoundError, PermissionError, IsADirectoryError)
"""Errors that trying again does not change."""
_looking = threading.Lock()
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")
"""What file systems call that which changes with the content of a file, the surest first."""


class Entry(NamedTuple):
    r"""A file under the root.

    Attributes
    ----------
    path
        Relative to the root, with ``/``; always valid UTF-8 (other bytes are written as ``\xNN``).
    size
        In bytes; 0 where it cannot be known.
    kind, reason
        Empty, or why the file must not be read: a short word to count by, and a sentence.
    version
        Changes when the content does, as far as the file system tells without the file being opened.
    """

    path: str
    size: int
    kind: str = ""
    reason: str = ""
    version: str = ""


class RawRoot(ABC):
    """A read-only tree of files. It can be pickled; nothing stays open across that.

    Attributes
    ----------
    name
        The last part of the root's own path.
    place
        Where it is, for people.
    """

    name: str
    place: str
    _pauses: ClassVar[tuple[float, ...]] = ()
    """Seconds before each time that a file is read again."""
    _others: tuple[str, ...] = ()
    _read_last = ""
    _lost = ""

    def list(self) -> Iterator[Entry]:
        """Every file under the root, sorted by path; a file that must not be read carries the reason.

        Raises
        ------
        StorageLostError
            If the files cannot be listed.
        """
        last = ""
        entries = self._listed()
        there = [entry.path for entry in entries if not entry.kind and entry.size]
        self._others = tuple(there[:: -(-len(there) // _OTHERS) or 1])
        for entry in entries:
            if entry.path == last and not entry.kind:
                yield Entry(entry.path, entry.size, UNREADABLE, "a second file of the same name", entry.version)
            else:
                yield entry
            last = entry.path

    def read(self, path: str) -> bytes:
        """Read one file.

        Where that fails, it is found out whether the file is at fault or the storage: whether other files can be read.
        If they can, an object store is asked again, since it may have had a bad moment.

        Raises
        ------
        OSError
            If it cannot be read, or lies outside the root.
        StorageLostError
            If the others cannot be read either.
        """
        if self._is_outside(path):
            raise PermissionError(f"{path} leads outside the root")
        try:
            content = self._content(path)
        except Exception as error:  # an object store raises anything
            content = self._read_again(path, error)
        if content:
            self._read_last = path
        return content

    @abstractmethod
    def _content(self, path: str) -> bytes:
        """Read one file, which does not lie outside; raises anything."""

    @abstractmethod
    def _touch(self, path: str) -> None:
        """Read the beginning of a file; raises anything."""

    @abstractmethod
    def _is_outside(self, path: str) -> bool:
        """Whether a file lies outside the root."""

    @abstractmethod
    def _entries(self) -> Iterator[Entry]:
        """Every file, in any order; raises anything."""

    def _listed(self) -> Sequence[Entry]:
        try:
            return sorted(self._entries())
        except Exception as error:
            raise StorageLostError(f"the files of {self.place} cannot be listed: {_said(error)}") from error

    def _read_again(self, path: str, error: Exception) -> bytes:
        self._blame(path, error)
        for pause in () if isinstance(error, _OF_A_FILE) else self._pauses:
            time.sleep(pause)
            try:
                return self._content(path)
            except Exception as failed:
                error = failed
        raise error if isinstance(error, OSError) else OSError(_said(error)) from error

    def _blame(self, path: str, error: Exception) -> None:
        """Raise StorageLostError unless the file is at fault; of threads that fail at the same time one finds out."""
        with _looking:
            if not self._lost and self._at_fault(path, error):
                return
            self._lost = self._lost or (
                f"{self.place} cannot be read any more, neither {path} nor the photographs beside it: {_said(error)}. "
                "What is finished stays: start the same command again when it can be read"
            )
        raise StorageLostError(self._lost) from error

    def _at_fault(self, path: str, error: Exception) -> bool:
        """Whether it says nothing of other files that this one cannot be read."""
        # A store that does not answer lets each of them wait; the one that was read last is the surest
        known = (self._read_last, *self._others[len(self._others) // 2 :][:1]) if self._read_last else self._others
        others = [other for other in known if other != path]
        return any(map(self._answers, others)) if others else self._alone(error)

    def _alone(self, error: Exception) -> bool:
        """Whether a file is at fault, where there is no other one."""
        return True

    def _answers(self, path: str) -> bool:
        try:
            in_time(lambda: self._touch(path))
        except Exception:
            return False
        return True

    def any_file(self) -> str | None:
        """Give the path of a small file, the first that is found; None where there is none that may be read."""
        return next((entry.path for entry in self._entries() if not entry.kind and entry.size < _SMALL), None)


class LocalRoot(RawRoot):
    """A folder of this machine. Links are followed to files inside it only."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.realpath(folder))
        self.name = folder.name or self._folder.name
        self.place = str(folder)

    def _is_outside(self, path: str) -> bool:
        return not self._inside(os.path.realpath(self._folder / path))

    def _content(self, path: str) -> bytes:
        return (self._folder / path).read_bytes()

    def _touch(self, path: str) -> None:
        with (self._folder / path).open("rb") as file:
            file.read(1)

    def _entries(self) -> Iterator[Entry]:
        folders = [str(self._folder)]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as found:
                    for item in found:
                        if item.is_dir(follow_symlinks=False):
                            folders.append(item.path)
                        else:
                            yield self._entry(item)
            except OSError as error:
                yield Entry(self._relative(folder), 0, UNREADABLE, f"the folder cannot be listed: {error.strerror}")

    def _entry(self, item: os.DirEntry[str]) -> Entry:
        path = self._relative(item.path)
        try:
            if item.is_symlink():
                # realpath gives a loop back unresolved; stat is what finds it out
                target = os.path.realpath(item.path)
                if not self._inside(target):
                    return Entry(path, 0, OUTSIDE, "a link that leads outside the root is not followed")
                if Path(target).is_dir():
                    return Entry(path, 0, NOT_A_FILE, "a link to a folder is not followed")
            status = item.stat()
        except OSError as error:
            what = "a link that leads nowhere" if item.is_symlink() else f"cannot be examined: {error.strerror}"
            return Entry(path, 0, NOT_A_FILE, what)
        if not stat.S_ISREG(status.st_mode):
            return Entry(path, 0, NOT_A_FILE, "a pipe, socket or device, not a file")
        if not item.path.endswith(path):
            return Entry(path, status.st_size, UNREADABLE, "its name is not valid UTF-8: rename it")
        return Entry(path, status.st_size, version=str(status.st_mtime_ns))

    def _relative(self, full: str) -> str:
        path = full[len(str(self._folder)) :].replace(os.sep, "/").lstrip("/")
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

    def _inside(self, real: str) -> bool:
        return Path(real).is_relative_to(self._folder)


class RemoteRoot(RawRoot):
    """A folder of any other file system that fsspec opens."""

    _pauses = (0.0, 1.0, 3.0)

    def __init__(self, filesystem: fsspec.AbstractFileSystem, folder: str) -> None:
        self._filesystem = filesystem
        self._folder = folder.rstrip("/")
        self.name = PurePosixPath(self._folder).name
        self.place = str(filesystem.unstrip_protocol(self._folder))

    def _is_outside(self, path: str) -> bool:
        return _escapes(path)

    def _content(self, path: str) -> bytes:
        return bytes(self._filesystem.cat_file(f"{self._folder}/{path}"))

    def _touch(self, path: str) -> None:
        self._filesystem.cat_file(f"{self._folder}/{path}", start=0, end=1)

    def _alone(self, error: Exception) -> bool:
        return isinstance(error, _OF_A_FILE)

    def any_file(self) -> str | None:
        """See `RawRoot.any_file`: folder by folder, since to list a large bucket takes long."""
        for _, _, files in self._filesystem.walk(self._folder, detail=True):
            for entry in self._described({about["name"]: about for about in files.values()}):
                if not entry.kind and entry.size < _SMALL:
                    return entry.path
        return None

    def _entries(self) -> Iterator[Entry]:
        return self._described(self._filesystem.find(self._folder, detail=True))

    def _described(self, found: Mapping[str, Mapping[str, Any]]) -> Iterator[Entry]:
        for full, about in found.items():
            path = full[len(self._folder) :].lstrip("/") if full.startswith(self._folder) else full
            if not path or full.endswith("/"):  # the marker of an empty folder in an object store
                continue
            if not full.startswith(self._folder + "/") or _escapes(path):
                yield Entry(path, 0, OUTSIDE, "its name leads outside the root")
            elif about.get("islink"):
                yield Entry(path, 0, OUTSIDE, "a link is not followed")
            elif about.get("type", "file") != "file":
                yield Entry(path, 0, NOT_A_FILE, f"a {about['type']}, not a file")
            else:
                version = next((about[name] for name in _VERSIONS if about.get(name)), "")
                yield Entry(path, int(about.get("size") or 0), version=str(version))


class ZipRoot(RawRoot):
    """A zip archive, or a folder inside one, wherever fsspec finds the archive."""

    def __init__(self, url: str, folder: str, options: dict[str, Any]) -> None:
        self._url = url
        self._folder = folder.strip("/")
        self._options = options
        self.name = PurePosixPath(self._folder).name or PurePosixPath(url).stem
        self.place = without_password(url)
        self._lock = threading.Lock()
        self._open: zipfile.ZipFile | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_open": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def _is_outside(self, path: str) -> bool:
        return _escapes(path)

    def _touch(self, path: str) -> None:
        # Not a file in it, which may be in memory still
        filesystem, archive = fsspec.core.url_to_fs(self._url, **self._options)
        filesystem.cat_file(archive, start=0, end=1)

    def _at_fault(self, path: str, error: Exception) -> bool:
        return self._answers(path)

    def _content(self, path: str) -> bytes:
        try:
            archive = self._archive()
        except zipfile.BadZipFile as error:
            raise OSError(f"the archive is damaged: {error}") from error
        try:
            return archive.read(f"{self._folder}/{path}".lstrip("/"))
        except (KeyError, RuntimeError, zipfile.BadZipFile, EOFError, ValueError) as error:
            raise OSError(f"the archive does not give it: {error}") from error
        except Exception as error:  # zlib, bz2 and lzma have an error of their own each
            raise OSError(f"damaged in the archive: {error}") from error

    def _entries(self) -> Iterator[Entry]:
        for info in self._archive().infolist():
            name = info.filename
            if info.is_dir():
                continue
            if _escapes(name):
                yield Entry(name, info.file_size, OUTSIDE, "its name leads outside the root")
                continue
            if self._folder and not name.startswith(self._folder + "/"):
                continue
            path = name[len(self._folder) :].lstrip("/")
            if stat.S_ISLNK(info.external_attr >> 16):
                yield Entry(path, info.file_size, OUTSIDE, "a link in an archive is not followed")
            elif info.flag_bits & 1:
                yield Entry(path, info.file_size, UNREADABLE, "encrypted in the archive")
            else:
                yield Entry(path, info.file_size, version=str(info.CRC))

    def _archive(self) -> zipfile.ZipFile:
        with self._lock:
            if self._open is None:
                self._open = zipfile.ZipFile(fsspec.open(self._url, "rb", **self._options).open())
            return self._open


class RootTicket:
    """Tries whether machines read the same photographs; see `engines.cluster.Ticket`.

    Parameters
    ----------
    root
        The root.
    name
        What it is called for people.
    """

    def __init__(self, root: RawRoot, name: str) -> None:
        self._root, self.name = root, name
        self._path: str | None = None
        self._hash = b""

    def open(self) -> None:
        """Read a file under the root; raises OSError."""
        self._path = self._root.any_file()
        if self._path is not None:
            self._hash = hashlib.blake2b(self._root.read(self._path)).digest()

    def use(self, node: str) -> None:
        """Read the same file; raises OSError if it is not there or another one."""
        if self._path is None:
            return
        try:
            content = self._root.read(self._path)
        except (OSError, StorageLostError) as error:
            why = (error.__cause__ or error) if isinstance(error, StorageLostError) else error
            raise OSError(f"{self._path} cannot be read there: {getattr(why, 'strerror', None) or why}") from None
        if hashlib.blake2b(content).digest() != self._hash:
            raise OSError(f"{self._path} is another file there")

    def close(self, nodes: Sequence[str]) -> list[str]:
        """Nothing was written."""
        return []


class RawRootDataset(AbstractDataset[None, RawRoot]):
    """Open the root that photographs are read from.

    Parameters
    ----------
    filepath
        A folder; a zip archive (``….zip``, ``zip://archive.zip``, or a folder inside one,
        ``zip://folder::archive.zip``); or a URL of any file system that fsspec knows and that is installed
        (``s3://bucket/folder``, ``memory://folder``, also before ``.zip``).
    credentials
        Options of the file system that must stay out of version control, from ``conf/local/credentials.yml``.
    fs_args
        Further options of the file system.
    metadata
        For other tools; not used.

    Raises
    ------
    DatasetError
        On loading, if there is nothing at that place or the file system cannot be opened.
    """

    def __init__(
        self,
        *,
        filepath: str,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = stringify_path(filepath)
        self._shown = without_password(self._filepath)
        self._options = {**(fs_args or {}), **(credentials or {})}
        self.metadata = metadata

    def load(self) -> RawRoot:
        """Open the root; the files are not listed or read yet."""
        root = self._opened()
        logger.info("photographs are read from %s", self._shown)
        return root

    def ticket(self) -> RootTicket:
        """Give what tries on any machine whether it reads the same photographs; raises DatasetError."""
        return RootTicket(self._opened(), f"raw_root {self._shown}")

    def save(self, data: None) -> NoReturn:
        """Refuse: raw data are never written."""
        raise DatasetError(f"raw data are only read, nothing is written to {self._shown}")

    def _opened(self) -> RawRoot:
        inner, url = "", self._filepath
        zipped = url.startswith("zip://")
        if zipped:
            inner, chained, url = url.removeprefix("zip://").partition("::")
            inner, url = (inner, url) if chained else ("", inner)
        try:
            filesystem, path = fsspec.core.url_to_fs(url, **self._options)
            if zipped or (path.lower().endswith(".zip") and filesystem.isfile(path)):
                if not filesystem.isfile(path):
                    raise self._missing()
                here = isinstance(filesystem, fsspec.implementations.local.LocalFileSystem)
                # Another process may have another working directory.
                root = ZipRoot(path if here else url, inner, self._options)
                root._archive()
                return root
            if not filesystem.isdir(path):
                raise self._missing(filesystem.exists(path))
        except DatasetError:
            raise
        except Exception as error:  # clients of object stores raise anything
            raise DatasetError(f"raw_root {self._shown} cannot be opened: {_said(error)}") from error
        if isinstance(filesystem, fsspec.implementations.local.LocalFileSystem):
            return LocalRoot(Path(path))
        return RemoteRoot(filesystem, path)

    def _missing(self, is_file: bool = False) -> DatasetError:
        if is_file:
            return DatasetError(f"raw_root {self._shown} is a file: give a folder or a .zip archive")
        if PurePosixPath(self._filepath).as_posix().endswith(SAMPLE):
            return DatasetError(
                f"there is no sample in {self._shown}: render it first: kedro run --pipeline sample "
                "(or name your own photographs: --params raw_root=/some/folder)"
            )
        return DatasetError(f"raw_root {self._shown} does not exist: give a folder, a .zip archive or a URL")

    def _exists(self) -> bool:
        try:
            self._opened()
        except DatasetError:
            return False
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._shown}


def _escapes(path: str) -> bool:
    """Whether a name could lead out of its root on any system."""
    parts = path.replace("\\", "/").split("/")
    return ".." in parts or not parts[0] or parts[0].endswith(":")


def _said(error: Exception) -> str:
    return without_password(" ".join(str(error).split()) or type(error).__name__)
