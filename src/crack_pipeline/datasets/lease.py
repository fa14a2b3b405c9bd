"""The right to write to a place, which one run has at a time, of this machine or of any that uses the same store."""

from __future__ import annotations

import errno
import logging
import os
import platform
import threading
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import fsspec
from filelock import FileLock, Timeout
from kedro.io import DatasetError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from crack_pipeline.surroundings import reason

logger = logging.getLogger(__name__)

RENEWED, DEAD = 30.0, 180.0
"""Seconds: how often a run says that it lives, and after which silence it is taken for dead."""

_JOINED = 10.0
_WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP)


class Holder(BaseModel):
    """Who has the right.

    Attributes
    ----------
    run
        Tells apart runs.
    host, process
        Where it runs.
    since
        When it got the right.
    ended
        Whether it has given it back.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    run: str = Field(default_factory=lambda: uuid4().hex)
    host: str = Field(default_factory=platform.node)
    process: int = Field(default_factory=os.getpid)
    since: datetime = Field(default_factory=lambda: datetime.now(UTC))
    ended: bool = False

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}, since {self.since:%Y-%m-%d %H:%M:%S} UTC"


class Lease(ABC):
    """The right to write to a place.

    Attributes
    ----------
    place
        What it is about, for people.
    """

    place: str

    @abstractmethod
    def take(self) -> None:
        """Take it, or raise DatasetError: who has it since when, and what to do."""

    @abstractmethod
    def check(self) -> None:
        """Raise DatasetError if somebody else has taken it meanwhile."""

    @abstractmethod
    def release(self) -> None:
        """Give it back."""


class DiskLease(Lease):
    """A lock on a file, which ends with its process, however that ends.

    Parameters
    ----------
    folder
        Of which it is about.
    """

    def __init__(self, folder: Path) -> None:
        self.place = str(folder)
        self._lock = FileLock(folder.with_name(f".{folder.name}.lease"))
        self._holder = folder.with_name(f".{folder.name}.holder")

    def take(self) -> None:
        """See `Lease.take`."""
        try:
            self._holder.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(blocking=False)
            self._holder.write_text(Holder().model_dump_json(), "utf-8")
        except Timeout:
            raise DatasetError(
                f"another run is writing to {self.place} ({self._who()}): start this one when that has ended"
            ) from None
        except OSError as error:
            if error.errno not in _WITHOUT_LOCKS:
                raise DatasetError(f"{self.place} cannot be written to: {error}") from error
            logger.warning("%s lies on a file system without locks: let no two runs write there", self.place)

    def check(self) -> None:
        """See `Lease.check`; nobody can."""

    def release(self) -> None:
        """See `Lease.release`."""
        if self._lock.is_locked:
            self._holder.unlink(missing_ok=True)
            self._lock.release()

    def _who(self) -> str:
        try:
            return str(Holder.model_validate_json(self._holder.read_text("utf-8")))
        except (OSError, ValidationError):
            return "it has just begun"


class StoreLease(Lease):
    """A row of numbered objects in a store, of which the last one says who has the right.

    Whoever wants it writes the next number, which a store lets one of those do who try at the same time, if it knows
    conditional writes (S3 does, with ``If-None-Match``), and looks then whether that is the last number, so that who
    looked long ago gets nothing. The object is written again as long as the run lives. Its age is told by the store,
    whose clock is the same for all.

    Parameters
    ----------
    filesystem
        The store.
    folder
        Of which it is about.
    """

    def __init__(self, filesystem: fsspec.AbstractFileSystem, folder: str) -> None:
        self.place = str(filesystem.unstrip_protocol(folder))
        parent, _, name = folder.rpartition("/")
        self._fs, self._path = filesystem, f"{parent}/.{name}.lease"
        self._own, self._number, self._lost, self._heard = Holder(), 0, "", 0.0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self) -> None:
        """See `Lease.take`."""
        try:
            self._take()
        except DatasetError:
            raise
        except Exception as error:  # clients of object stores raise anything
            raise DatasetError(
                f"nobody can tell whether another run is writing to {self.place}: {reason(error)}"
            ) from error
        self._heard = time.time()
        self._ended.clear()
        self._thread = threading.Thread(target=self._renew, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """See `Lease.check`."""
        if self._thread is not None and time.time() - self._heard > DEAD - RENEWED:
            try:  # this machine slept, or was cut off
                self._write(self._own)
            except Exception as error:
                raise DatasetError(
                    f"nobody can tell whether another run writes to {self.place}: {reason(error)}"
                ) from error
        if self._lost:
            raise DatasetError(self._lost)

    def release(self) -> None:
        """See `Lease.release`."""
        if self._thread is None:
            return
        self._ended.set()
        self._thread.join(_JOINED)
        self._thread = None
        with suppress(Exception):  # it is taken for dead then, after a while
            self._write(self._own.model_copy(update={"ended": True}))

    def _take(self) -> None:
        numbers = self._numbers()
        last = numbers[-1] if numbers else 0
        if last:
            self._refuse_unless_over(last)
        self._own, self._number, self._lost = Holder(), last + 1, ""
        content = self._own.model_dump_json().encode()
        try:
            self._fs.pipe_file(self._object(self._number), content, mode="create")
        except Exception:  # another one was quicker, or the store knows no conditions
            if self._number not in self._numbers():
                self._fs.pipe_file(self._object(self._number), content)
        self._refuse_unless_own()
        for number in numbers:
            with suppress(FileNotFoundError):
                self._fs.rm_file(self._object(number))

    def _renew(self) -> None:
        while not self._ended.wait(RENEWED):
            with suppress(Exception):  # the store may be away for a while
                self._write(self._own)

    def _write(self, holder: Holder) -> None:
        """Write again who has the right, unless somebody else has it by now."""
        last = max(self._numbers(), default=self._number)
        found = self._holder(last)
        if last == self._number and (found is None or found.run == self._own.run):
            self._fs.pipe_file(self._object(self._number), holder.model_dump_json().encode())
            self._heard = time.time()
        else:
            self._lost = (
                f"another run has begun to write to {self.place} ({found}), since this one was not heard of for "
                f"{DEAD:.0f} seconds: start this one again when that has ended"
            )

    def _refuse_unless_over(self, number: int) -> None:
        holder = self._holder(number)
        if holder is None or holder.ended:
            return
        silent = self._silence(number)
        if silent < DEAD:
            raise DatasetError(
                f"another run is writing to {self.place} ({holder}; it was heard of {silent:.0f} seconds ago): start "
                f"this one when that has ended. If it was killed, that is noticed after {DEAD:.0f} seconds"
            )
        logger.warning("%s was being written by %s, not heard of for %.0f seconds", self.place, holder, silent)

    def _refuse_unless_own(self) -> None:
        last = max(self._numbers(), default=0)
        holder = self._holder(last)
        if last != self._number or holder is None or holder.run != self._own.run:
            raise DatasetError(
                f"another run has begun to write to {self.place} at the same time ({holder}): start this one when that "
                "has ended"
            )

    def _silence(self, number: int) -> float:
        """Seconds since an object was written, by the clock of the store."""
        probe = f"{self._path}/now-{self._own.run}"
        self._fs.pipe_file(probe, b"")
        try:
            now, then = (self._fs.modified(path) for path in (probe, self._object(number)))
        except FileNotFoundError:  # it has just been replaced
            return 0.0
        finally:
            self._fs.rm_file(probe)
        return float((now - then).total_seconds())

    def _holder(self, number: int) -> Holder | None:
        """Read who wrote an object; None where it is gone."""
        try:
            return Holder.model_validate_json(self._fs.cat_file(self._object(number)))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise DatasetError(f"{self._object(number)} was not written here: {error}") from error

    def _numbers(self) -> list[int]:
        self._fs.invalidate_cache()
        try:
            found = self._fs.ls(self._path, detail=False)
        except FileNotFoundError:
            return []
        names = (str(path).rpartition("/")[2] for path in found)
        return sorted(int(name) for name in names if name.isdecimal())

    def _object(self, number: int) -> str:
        return f"{self._path}/{number:08d}"
