"""Files and folders of results on the disk of this machine or in an object store, one way for all datasets."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import fsspec
from filelock import FileLock
from kedro.io import AbstractVersionedDataset, DatasetError, Version
from kedro.io.core import get_protocol_and_path
from kedro.utils import find_kedro_project
from pydantic import BaseModel, ConfigDict, ValidationError

from crack_pipeline.datasets.lease import DiskLease, Lease, StoreLease
from crack_pipeline.datasets.safe_names import PART
from crack_pipeline.datasets.swapping import finish_swap, swap

DISK = "CRACK_PIPELINE_DISK"
"""Environment variable: folder for the copies that this machine keeps of folders in an object store."""

CURRENT = "current.json"
LOCK = ".lock"
_STAMP = "%Y-%m-%dT%H.%M.%S"
_ABANDONED = timedelta(days=1)

I = TypeVar("I")  # noqa: E741
O = TypeVar("O")  # noqa: E741


class FileDataset(AbstractVersionedDataset[I, O]):
    """One file of any file system that fsspec opens, which its subclasses read and write as a local one.

    Credentials and addresses of an object store come from the environment variables that its client knows.

    Parameters
    ----------
    filepath
        Where it lies: a path, or a URL such as ``s3://bucket/folder/name``.
    version
        Set by Kedro for versioned datasets.
    metadata
        For other tools; ignored here.
    """

    def __init__(self, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None) -> None:
        self._protocol, path = get_protocol_and_path(filepath, version)
        self._fs = fsspec.filesystem(self._protocol)
        self.metadata = metadata
        super().__init__(PurePosixPath(path), version, exists_function=self._fs.exists, glob_function=self._fs.glob)

    def _url(self, path: PurePosixPath) -> str:
        return str(path) if self._protocol == "file" else f"{self._protocol}://{path}"

    @contextmanager
    def _reading(self, path: PurePosixPath) -> Iterator[Path]:
        """Give the file as a local one: itself, or a copy for as long as the context lasts."""
        if self._protocol == "file":
            yield Path(path)
            return
        with TemporaryDirectory() as scratch:
            copy = Path(scratch) / path.name
            self._fs.get_file(str(path), str(copy))
            yield copy

    @contextmanager
    def _writing(self, path: PurePosixPath) -> Iterator[Path]:
        """Give a local file to write; it takes its place when the context ends well, whole or not at all."""
        if self._protocol == "file":
            part = Path(path).with_name(f"{path.name}{PART}")
            part.parent.mkdir(parents=True, exist_ok=True)
            try:
                yield part
                part.replace(path)
            finally:
                part.unlink(missing_ok=True)
            return
        with TemporaryDirectory() as scratch:
            copy = Path(scratch) / path.name
            yield copy
            self._fs.put_file(str(copy), str(path))
            self._fs.invalidate_cache(str(path))

    def _release(self) -> None:
        super()._release()
        self._fs.invalidate_cache(str(self._filepath))

    def _exists(self) -> bool:
        try:
            path = str(self._get_load_path())
            # What this machine has listed before another one wrote says nothing, and isfile() would call a file missing
            # for any reason why it cannot be asked for.
            self._fs.invalidate_cache(path)
            return bool(self._fs.info(path)["type"] == "file")
        except (DatasetError, FileNotFoundError, NotADirectoryError):
            return False

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._url(self._filepath), "version": self._version}


class SharedFolder:
    """A folder to work in on this machine's disk and, where it is one of an object store, its way there and back.

    In the store every state of the folder has a folder of its own, and ``current.json``, written last, names the one
    that counts: a machine that is killed while it shares leaves the earlier state, and nobody sees half a folder. The
    state before is deleted then. The folder on the disk is a copy of it below the folder that the environment variable
    ``CRACK_PIPELINE_DISK`` names, ``data/mirrored`` of the project by default; it is brought anew only where
    ``current.json`` names another state, and may be deleted at any time.

    Parameters
    ----------
    filepath
        A path, which is the folder itself, or a URL such as ``s3://bucket/folder``.

    Attributes
    ----------
    folder
        Where to work.
    url
        What it was opened with.
    """

    def __init__(self, filepath: str) -> None:
        protocol, path = get_protocol_and_path(filepath)
        self._protocol, self._path = protocol, path.rstrip("/")
        self._remote = protocol != "file"
        self.url = f"{protocol}://{self._path}" if self._remote else path
        if self._remote:
            self._fs = fsspec.filesystem(protocol)
            self.folder = _disk() / protocol / self._path.lstrip("/")
        else:
            self.folder = Path(path)

    @property
    def is_remote(self) -> bool:
        """Whether it is one of an object store, and its ``folder`` is this machine's alone."""
        return self._remote

    @property
    def place(self) -> str:
        """Say where its files lie."""
        if not self._remote:
            return str(self.folder)
        current = self._current()
        return f"{self.url}/{current.state}" if current else self.url

    def lease(self) -> Lease:
        """Give the right to write to it, which is not taken yet."""
        return StoreLease(self._fs, self._path) if self._remote else DiskLease(self.folder)

    def exists(self, here: bool) -> bool:
        """Whether there is something in it: in the store, where it is one of a store, or else on the disk, ``here``."""
        return self._current() is not None if self._remote else here

    def bring(self) -> None:
        """Bring what is in the store to the disk, where that is older; DatasetError where that cannot be done."""
        if self._remote:
            with self._explained(f"cannot be brought to {self.folder}"):
                self._bring(self._current())

    def share(self) -> None:
        """Put what is on the disk in the store; DatasetError where that cannot be done: it stays on the disk."""
        if self._remote:
            with self._explained(f"cannot be written; what was to be there lies in {self.folder}"):
                self._share()

    def _bring(self, current: _Current | None, again: bool = True) -> None:
        if current is None or self._is_here(current):
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._beside("lock")):
            if self._is_here(current):
                return
            finish_swap(self.folder)
            new = self._beside("brought")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            for parent in {(new / name).parent for name in current.files}:
                parent.mkdir(parents=True, exist_ok=True)
            names = list(current.files)
            try:
                self._fs.get([self._stored(current.state, name) for name in names], [str(new / name) for name in names])
            except FileNotFoundError:
                newer = self._current()
                if not again or newer is None or newer.state == current.state:
                    raise
            else:
                for name, size in current.files.items():
                    if (new / name).stat().st_size != size:
                        raise OSError(f"{name} came with {(new / name).stat().st_size:,} of {size:,} bytes")
                swap(new, self.folder)
                self._beside("state").write_text(current.state, "utf-8")
                return
        self._bring(newer, again=False)  # another machine has shared a newer one meanwhile

    def _share(self) -> None:
        before = self._current()
        state = f"{datetime.now(UTC):{_STAMP}}.{secrets.token_hex(4)}"
        files = {
            path.relative_to(self.folder).as_posix(): path.stat().st_size
            for path in sorted(self.folder.rglob("*"))
            if path.is_file() and path.name != LOCK and path.suffix != PART
        }
        self._fs.put([str(self.folder / name) for name in files], [self._stored(state, name) for name in files])
        current = _Current(state=state, files=files)
        self._fs.pipe_file(f"{self._path}/{CURRENT}", current.model_dump_json().encode())
        self._beside("state").write_text(state, "utf-8")
        self._fs.invalidate_cache()
        self._tidy(state, before)

    def _tidy(self, state: str, before: _Current | None) -> None:
        """Delete the state before, and those that machines left that were killed while they shared."""
        for path in self._fs.ls(self._path, detail=False):
            name = PurePosixPath(path).name
            if name not in (state, CURRENT) and ((before and name == before.state) or _is_abandoned(name)):
                try:
                    self._fs.rm(path, recursive=True)
                except FileNotFoundError:  # another machine was quicker
                    continue

    def _current(self) -> _Current | None:
        try:
            return _Current.model_validate_json(self._fs.cat_file(f"{self._path}/{CURRENT}"))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise DatasetError(f"{self.url}/{CURRENT} was not written here: {error}") from error

    def _is_here(self, current: _Current) -> bool:
        try:
            return self.folder.is_dir() and self._beside("state").read_text("utf-8") == current.state
        except FileNotFoundError:
            return False

    def _stored(self, state: str, name: str) -> str:
        return f"{self._path}/{state}/{name}"

    def _beside(self, what: str) -> Path:
        return self.folder.with_name(f".{self.folder.name}.{what}")

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except DatasetError:
            raise
        except Exception as error:  # clients of object stores raise anything
            text = " ".join(str(error).split()) or type(error).__name__
            raise DatasetError(f"{self.url} {what}: {text}") from error


class _Current(BaseModel):
    """The state of a folder that counts, with the sizes of its files."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    state: str
    files: dict[str, int]


def place_of(dataset: Any) -> str | None:
    """Say where a dataset lies, of its latest version where it has versions; None where it lies nowhere."""
    shared = getattr(dataset, "_shared", None)
    if isinstance(shared, SharedFolder):
        return shared.place
    path = getattr(dataset, "_filepath", None) or getattr(dataset, "_folder", None)
    if path is None:
        return None
    if getattr(dataset, "_version", None):
        path = dataset._get_load_path()
    protocol = getattr(dataset, "_protocol", "file")
    return str(path) if protocol == "file" or "://" in str(path) else f"{protocol}://{path}"


def lease_of(dataset: Any) -> Lease | None:
    """Give the right to write to a dataset that is a `SharedFolder`; None where it is none."""
    shared = getattr(dataset, "_shared", None)
    return shared.lease() if isinstance(shared, SharedFolder) else None


@contextmanager
def local_copy(dataset: Any) -> Iterator[Path]:
    """Give the file of a dataset as one of this machine, for as long as the context lasts."""
    place = place_of(dataset)
    if place is None:
        raise DatasetError(f"{dataset} has no file")
    if "://" not in place:
        yield Path(place)
        return
    with TemporaryDirectory() as scratch:
        copy = Path(scratch) / PurePosixPath(place).name
        filesystem, path = fsspec.core.url_to_fs(place)
        filesystem.get_file(path, str(copy))
        yield copy


def _disk() -> Path:
    chosen = os.environ.get(DISK)
    return Path(chosen) if chosen else (find_kedro_project(Path.cwd()) or Path.cwd()) / "data/mirrored"


def _is_abandoned(name: str) -> bool:
    try:
        began = datetime.strptime(name.rpartition(".")[0], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return False
    return datetime.now(UTC) - began > _ABANDONED
