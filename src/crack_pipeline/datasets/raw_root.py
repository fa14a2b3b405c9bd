"""The root that photographs are read from: a folder, a zip archive or an object store."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, NoReturn

import fsspec
from fsspec.utils import stringify_path
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

logger = logging.getLogger(__name__)

SAMPLE = "data/01_raw/sample"
OUTSIDE = "outside the root"
NOT_A_FILE = "not a file"
UNREADABLE = "unreadable"

_SMALL = 2**26
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
    """

    name: str

    def list(self) -> Iterator[Entry]:
        """Every file under the root, sorted by path; a file that must not be read carries the reason."""
        last = ""
        for entry in sorted(self._entries()):
            if entry.path == last and not entry.kind:
                yield Entry(entry.path, entry.size, UNREADABLE, "a second file of the same name", entry.version)
            else:
                yield entry
            last = entry.path

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Read one file.

        Raises
        ------
        OSError
            If it cannot be read, or lies outside the root.
        """

    @abstractmethod
    def _entries(self) -> Iterator[Entry]:
        """Every file, in any order."""

    def any_file(self) -> str | None:
        """Give the path of a small file, the first that is found; None where there is none that may be read."""
        return next((entry.path for entry in self._entries() if not entry.kind and entry.size < _SMALL), None)


class LocalRoot(RawRoot):
    """A folder of this machine. Links are followed to files inside it only."""

    def __init__(self, folder: Path) -> None:
        self._folder = Path(os.path.realpath(folder))
        self.name = folder.name or self._folder.name

    def read(self, path: str) -> bytes:
        """See `RawRoot.read`."""
        full = self._folder / path
        if not self._inside(os.path.realpath(full)):
            raise PermissionError(f"{path} leads outside the root")
        return full.read_bytes()

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

    def __init__(self, filesystem: fsspec.AbstractFileSystem, folder: str) -> None:
        self._filesystem = filesystem
        self._folder = folder.rstrip("/")
        self.name = PurePosixPath(self._folder).name

    def read(self, path: str) -> bytes:
        """See `RawRoot.read`."""
        if _escapes(path):
            raise PermissionError(f"{path} leads outside the root")
        return bytes(self._filesystem.cat_file(f"{self._folder}/{path}"))

    def _entries(self) -> Iterator[Entry]:
        for full, about in self._filesystem.find(self._folder, detail=True).items():
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
        self._lock = threading.Lock()
        self._open: zipfile.ZipFile | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_open": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def read(self, path: str) -> bytes:
        """See `RawRoot.read`."""
        if _escapes(path):
            raise PermissionError(f"{path} leads outside the root")
        try:
            return self._archive().read(f"{self._folder}/{path}".lstrip("/"))
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
        except OSError as error:
            raise OSError(f"{self._path} cannot be read there: {error.strerror or error}") from None
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
        self._options = {**(fs_args or {}), **(credentials or {})}
        self.metadata = metadata

    def load(self) -> RawRoot:
        """Open the root; the files are not listed or read yet."""
        root = self._opened()
        logger.info("photographs are read from %s", self._filepath)
        return root

    def ticket(self) -> RootTicket:
        """Give what tries on any machine whether it reads the same photographs; raises DatasetError."""
        return RootTicket(self._opened(), f"raw_root {self._filepath}")

    def save(self, data: None) -> NoReturn:
        """Refuse: raw data are never written."""
        raise DatasetError(f"raw data are only read, nothing is written to {self._filepath}")

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
                root = ZipRoot(url, inner, self._options)
                root._archive()
                return root
            if not filesystem.isdir(path):
                raise self._missing(filesystem.exists(path))
        except DatasetError:
            raise
        except Exception as error:  # clients of object stores raise anything
            raise DatasetError(f"raw_root {self._filepath} cannot be opened: {error}") from error
        if isinstance(filesystem, fsspec.implementations.local.LocalFileSystem):
            return LocalRoot(Path(path))
        return RemoteRoot(filesystem, path)

    def _missing(self, is_file: bool = False) -> DatasetError:
        if is_file:
            return DatasetError(f"raw_root {self._filepath} is a file: give a folder or a .zip archive")
        if PurePosixPath(self._filepath).as_posix().endswith(SAMPLE):
            return DatasetError(
                f"there is no sample in {self._filepath}: render it first: kedro run --pipeline sample "
                "(or name your own photographs: --params raw_root=/some/folder)"
            )
        return DatasetError(f"raw_root {self._filepath} does not exist: give a folder, a .zip archive or a URL")

    def _exists(self) -> bool:
        try:
            self._opened()
        except DatasetError:
            return False
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


def _escapes(path: str) -> bool:
    """Whether a name could lead out of its root on any system."""
    parts = path.replace("\\", "/").split("/")
    return ".." in parts or not parts[0] or parts[0].endswith(":")
