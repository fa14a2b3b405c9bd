"""Files from the internet: fetched once, resumed where a connection broke, checked, put in place whole."""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

from kedro.io.core import DatasetError

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_MESSAGES = 5.0
_BLOCK = 2**18
_LATER = {408, 425, 429, 500, 502, 503, 504}
_SHA256 = re.compile(r"[0-9a-f]{64}")


class DownloadError(DatasetError):
    """A file that could not be fetched: the message says from where, why, and where to put it by hand."""


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    timeout: float = 30.0,
    attempts: int = 5,
    pause: float = 1.0,
) -> Path:
    """Fetch a file, unless it is there already.

    What has been fetched lies in ``<target>.part`` until it is complete and checked, and a later call goes on from
    there. The size is that which the server names; the checksum is ``sha256`` or, where that is not given, the one in
    the server's header ``X-Linked-ETag``, by which the Hugging Face hub names it.

    Parameters
    ----------
    url
        ``http://`` or ``https://``; redirections are followed. Proxies are those of the environment
        (``HTTPS_PROXY``).
    target
        Where the file is to lie; folders are made.
    sha256
        Hexadecimal, if it is known.
    timeout
        Seconds without an answer after which a connection counts as broken.
    attempts
        Broken connections in a row, none of which brought anything, after which it is given up.
    pause
        Seconds before the second attempt; they double from one attempt to the next.

    Returns
    -------
    pathlib.Path
        ``target``.

    Raises
    ------
    DownloadError
        If the server cannot be reached or has no such file, the checksum is another (what was fetched is deleted
        then), or the file cannot be written.
    """
    if target.is_file():
        return target
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url} is no address that begins with http:// or https://")
    part = _Part(url, target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.parent):
            if not target.is_file():  # another run may have fetched it meanwhile
                _fetch(part, timeout, attempts, pause)
                _check(part, sha256)
                part.finish()
    except OSError as error:  # of files; those of connections are dealt with where they arise
        reason = error.strerror or error
        raise DownloadError(f"{target} cannot be written: {reason}; make room or choose another folder") from error
    return target


class _Remote(NamedTuple):
    """What a server says of a file."""

    size: int | None
    sha256: str | None
    version: str
    """Another one means another content."""


class _Part:
    """What has been fetched of a file, and of which version of which address it is."""

    def __init__(self, url: str, target: Path) -> None:
        self.url, self.target = url, target
        self.path = target.with_name(f"{target.name}.part")
        self._note = target.with_name(f"{target.name}.part.json")
        self.remote: _Remote | None = None

    @property
    def size(self) -> int:
        """Bytes fetched so far."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def version(self) -> str | None:
        """Give the version of what was fetched earlier; None if that is unknown."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            return note["version"] if note["url"] == self.url else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def start(self, remote: _Remote, offset: int) -> None:
        """Be ready for what comes from this offset on."""
        self.remote = remote
        if offset == 0:
            self.path.write_bytes(b"")
            self._note.write_text(json.dumps({"url": self.url, "version": remote.version}), encoding="utf-8")
        left = (remote.size or 0) - offset
        free = shutil.disk_usage(self.path.parent).free
        if left > free:
            raise DownloadError(
                f"{self.url} needs {_mb(left)} more in {self.path.parent}, where {_mb(free)} are free; make room or "
                "choose another folder"
            )

    def delete(self) -> None:
        """Forget what was fetched."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Put the file in place."""
        self.path.replace(self.target)
        self._note.unlink(missing_ok=True)


class _BrokenError(Exception):
    """A connection that may be tried again."""


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Keeps the headers of every answer on the way, since the checksum is only in the first."""

    def __init__(self) -> None:
        self.headers: list[Message] = []

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        self.headers.append(headers)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other run fetches into this folder. Without locks of folders (Windows), do not wait."""
    if sys.platform == "win32":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("another run fetches into %s; waiting for it", folder)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            logger.debug("%s cannot be locked: %s", folder, error)
        yield
    finally:
        os.close(handle)


def _fetch(part: _Part, timeout: float, attempts: int, pause: float) -> None:
    """Fetch until the file is complete."""
    failures = 0
    while True:
        before = part.size
        try:
            _fetch_once(part, timeout)
            return
        except _BrokenError as error:
            failures = 1 if part.size > before else failures + 1
            if failures >= attempts:
                raise DownloadError(
                    f"{part.url} cannot be fetched: {error}, {attempts} times in a row; run it again where there is "
                    f"a connection ({_mb(part.size)} are kept), or fetch it by other means and put it at {part.target}"
                ) from error
            wait = pause * 2 ** (failures - 1)
            logger.warning("%s: %s; it is tried again in %.0f s", part.target.name, error, wait)
            time.sleep(wait)


def _fetch_once(part: _Part, timeout: float) -> None:
    """Fetch what is lacking over one connection; raise _BrokenError if that ends early."""
    version = part.version()
    offset = part.size if version is not None else 0
    redirections = _Redirections()
    headers = {"User-Agent": "crack-pipeline", "Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    opener = urllib.request.build_opener(redirections)
    try:
        response = opener.open(urllib.request.Request(part.url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            _refused(part, error, offset, _remote(error.code, error.headers, redirections.headers))
            return
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _BrokenError(_why(error)) from error
    with response:
        remote = _remote(response.status, response.headers, redirections.headers)
        if response.status != 206:
            offset = 0
        elif remote.version != version or _first_byte(response) != offset:
            part.delete()
            raise _BrokenError("the file has changed since its first part was fetched")
        part.start(remote, offset)
        _receive(response, part, offset)


def _refused(part: _Part, error: urllib.error.HTTPError, offset: int, remote: _Remote) -> None:
    """Do what follows from an answer that is not the file."""
    if error.code == 416:  # there is nothing from that byte on
        if remote.size == offset:
            part.remote = remote
            return
        part.delete()
        raise _BrokenError("more was fetched than there is")
    reason = f"the server answers {error.code} {error.reason}"
    if error.code in _LATER:
        raise _BrokenError(reason)
    hint = "; there is no such file" if error.code in (404, 410) else ""
    raise DownloadError(
        f"{part.url} cannot be fetched: {reason}{hint}; fetch it by other means and put it at {part.target}"
    )


def _receive(response: http.client.HTTPResponse, part: _Part, offset: int) -> None:
    """Write what comes, and say now and then how much it is."""
    size = part.remote.size if part.remote else None
    of = f" of {_mb(size)}" if size else ""
    started = told = time.monotonic()
    first = offset
    logger.info("fetching %s from %s", part.target.name, part.url)
    with part.path.open("ab") as file:
        while True:
            try:
                block = response.read(_BLOCK)
            except (http.client.HTTPException, OSError) as error:
                raise _BrokenError(_why(error)) from error
            if not block:
                break
            file.write(block)
            offset += len(block)
            now = time.monotonic()
            if now - told >= SECONDS_BETWEEN_MESSAGES:
                told = now
                rate = (offset - first) / (now - started)
                logger.info("%s: %s%s, %s/s", part.target.name, _mb(offset), of, _mb(rate))
    if size is not None and offset < size:
        raise _BrokenError(f"the connection ended after {_mb(offset)}{of}")
    logger.info("fetched %s: %s in %.1f s", part.target.name, _mb(offset), time.monotonic() - started)


def _check(part: _Part, sha256: str | None) -> None:
    """Raise DownloadError, and delete what was fetched, if it is not the file."""
    remote = part.remote or _Remote(None, None, "")
    problem = ""
    if remote.size is not None and part.size != remote.size:
        problem = f"it has {part.size:,} bytes instead of {remote.size:,}"
    expected = sha256 or remote.sha256
    if not problem and expected is not None:
        with part.path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected.lower():
            problem = f"its SHA-256 is {found} instead of {expected.lower()}"
    if problem:
        part.delete()
        raise DownloadError(f"what {part.url} sent is damaged: {problem}; it was deleted, run it again")


def _remote(status: int, headers: Message, redirections: list[Message]) -> _Remote:
    """Read what the answers say of the file."""
    linked = next((tag for answer in [*redirections, headers] if (tag := _tag(answer, "X-Linked-ETag"))), "")
    whole = headers.get("Content-Length") or ""
    if status in (206, 416):
        whole = (headers.get("Content-Range") or "").rpartition("/")[2]
    return _Remote(
        int(whole) if whole.isdigit() else None,
        linked if _SHA256.fullmatch(linked) else None,
        linked or _tag(headers, "ETag") or headers.get("Last-Modified") or "",
    )


def _tag(headers: Message, name: str) -> str:
    return (headers.get(name) or "").removeprefix("W/").strip('"')


def _first_byte(response: http.client.HTTPResponse) -> int:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range") or "")
    return int(found[1]) if found else -1


def _why(error: Exception) -> str:
    """Say in words what happened to a connection."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "there is no answer"
    if isinstance(cause, socket.gaierror):
        return f"the address cannot be looked up ({cause.strerror})"
    return str(getattr(cause, "strerror", None) or cause or type(cause).__name__).lower()


def _mb(size: float) -> str:
    return f"{size / 1e6:.1f} MB"
