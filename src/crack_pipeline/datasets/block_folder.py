"""Tables that came of blocks of work, a file each, kept from run to run."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from kedro.io import AbstractDataset
from kedro.io.core import DatasetError

from crack_pipeline.datasets.safe_names import PART

_ENDING = ".parquet"


class BlockFolder:
    """A folder of tables by name; it can be pickled, and every machine that reaches the folder may write to it.

    Parameters
    ----------
    filesystem
        On which it lies.
    folder
        Its path there.
    """

    def __init__(self, filesystem: fsspec.AbstractFileSystem, folder: str) -> None:
        self._filesystem, self._folder = filesystem, folder.rstrip("/")

    @property
    def place(self) -> str:
        """Where it is, for people."""
        return str(self._filesystem.unstrip_protocol(self._folder)).removeprefix("file://")

    def names(self) -> set[str]:
        """Name the blocks that are there, each whole."""
        try:
            found = self._filesystem.ls(self._folder, detail=False, refresh=True)
        except FileNotFoundError:
            return set()
        last = (str(path).rpartition("/")[2] for path in found)
        return {name.removesuffix(_ENDING) for name in last if name.endswith(_ENDING)}

    def read(self, name: str) -> Any:
        """Read one; raises OSError if it is not there or damaged."""
        content = self._filesystem.cat_file(self._path(name))
        try:
            return pq.read_table(pa.BufferReader(content))
        except pa.ArrowException as error:
            raise OSError(f"{self._path(name)} is damaged: {error}") from error

    def write(self, name: str, table: Any) -> None:
        """Write one, whole or not at all; what is there under the name is replaced."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        self._put(self._path(name), sink.getvalue().to_pybytes())

    def keep(self, names: set[str]) -> None:
        """Remove all others."""
        for name in self.names() - names:
            self.remove(name)

    def remove(self, name: str) -> None:
        """Remove one, if it is there."""
        with suppress(FileNotFoundError):
            self._filesystem.rm_file(self._path(name))

    def ticket(self) -> FolderTicket:
        """Give what tries on any machine whether it reaches the folder."""
        return FolderTicket(self._filesystem, self._folder, self.place)

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}{_ENDING}"

    def _put(self, path: str, content: bytes) -> None:
        if not isinstance(self._filesystem, fsspec.implementations.local.LocalFileSystem):
            self._filesystem.pipe_file(path, content)  # an object is there whole or not at all
            return
        part = f"{path}.{uuid.uuid4().hex}{PART}"  # the same block may be written twice at the same time
        self._filesystem.makedirs(self._folder, exist_ok=True)
        try:
            self._filesystem.pipe_file(part, content)
            self._filesystem.mv(part, path)
        except BaseException:
            if self._filesystem.exists(part):
                self._filesystem.rm_file(part)
            raise


class FolderTicket:
    """Tries whether machines read and write in one and the same folder; see `engines.cluster.Ticket`.

    Parameters
    ----------
    filesystem, folder
        The folder.
    name
        What it is called for people.
    """

    def __init__(self, filesystem: fsspec.AbstractFileSystem, folder: str, name: str) -> None:
        self._filesystem, self._folder, self.name = filesystem, folder, name
        self._token = uuid.uuid4().hex

    def open(self) -> None:
        """Write a file into the folder."""
        self._filesystem.makedirs(self._folder, exist_ok=True)
        self._filesystem.pipe_file(self._path(), self._token.encode())

    def use(self, node: str) -> None:
        """Read that file, and write one beside it; raises OSError."""
        self._filesystem.invalidate_cache()
        try:
            found = self._filesystem.cat_file(self._path())
        except FileNotFoundError:
            raise FileNotFoundError("it is another folder there, or none") from None
        if found != self._token.encode():
            raise OSError("it gives other files there")
        self._filesystem.pipe_file(self._path(node), b"")

    def close(self, nodes: Sequence[str]) -> list[str]:
        """Remove the files; gives the nodes whose file is not there."""
        self._filesystem.invalidate_cache()
        there = [node for node in nodes if self._filesystem.exists(self._path(node))]
        for path in [self._path(), *map(self._path, there)]:
            if self._filesystem.exists(path):
                self._filesystem.rm_file(path)
        return sorted(set(nodes) - set(there))

    def _path(self, node: str = "") -> str:
        return f"{self._folder}/.ticket-{self._token}{node}"


class BlockFolderDataset(AbstractDataset[None, BlockFolder]):
    """A folder in which work is kept block by block, so that a run that is started again goes on.

    Parameters
    ----------
    filepath
        The folder, on any file system that fsspec knows. Where several machines work, all must reach it.
    credentials
        Options of the file system that must stay out of version control.
    fs_args
        Further options of the file system.
    metadata
        For other tools; ignored here.
    """

    def __init__(
        self,
        *,
        filepath: str,
        credentials: dict[str, Any] | None = None,
        fs_args: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._filepath = filepath
        self._options = {**(fs_args or {}), **(credentials or {})}
        self.metadata = metadata

    def load(self) -> BlockFolder:
        """Open the folder, which need not be there yet; raises DatasetError."""
        try:
            filesystem, folder = fsspec.core.url_to_fs(self._filepath, **self._options)
        except (ImportError, ValueError) as error:
            raise DatasetError(f"{self._filepath} cannot be opened: {error}") from error
        return BlockFolder(filesystem, folder)

    def ticket(self) -> FolderTicket:
        """Give what tries on any machine whether it reaches the folder."""
        return self.load().ticket()

    def save(self, data: None) -> NoReturn:
        """Refuse: workers write the blocks."""
        raise DatasetError(f"blocks are written by those who do them, not to {self._filepath} as a whole")

    def _exists(self) -> bool:
        return bool(self.load().names())

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
