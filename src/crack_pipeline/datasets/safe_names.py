"""Names of files that may be written for photographs of any name."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable

PART = ".part"
"""Ending of a file that is being written."""

_LONGEST_NAME = 200
_UNSAFE = frozenset('<>:"\\|?*%~')


class SafeNames:
    """Names of files for photographs: inside the folder, taken by every file system, and never the same twice.

    Parameters
    ----------
    taken
        Names that are in use.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._given: set[str] = set()
        self._taken = {_plainest(name) for name in taken}

    def of(self, path: str) -> str:
        """Give the name for a photograph.

        Parameters
        ----------
        path
            Relative to the root, with ``/``.

        Returns
        -------
        str
            Relative to the folder, with ``/``; what could lead out of it, or what a file system does not take, is
            written as ``%`` and its code.

        Raises
        ------
        ValueError
            If the same path has been given before.
        """
        *folders, last = path.split("/")
        name = "/".join([*(_safe(folder, folder=True) for folder in folders), _safe(last)])
        if name in self._given:
            raise ValueError(f"the photograph {path} came twice in one run")
        self._given.add(name)
        # Some file systems know no case and only one form of accents.
        if _plainest(name) in self._taken:
            name += f"~{_hash(path)}"
        self._taken.add(_plainest(name))
        return name


def _safe(part: str, *, folder: bool = False) -> str:
    """Write a part of a path so that any file system takes it; different parts stay different."""
    wrong = {at for at, character in enumerate(part) if character in _UNSAFE or not character.isprintable()}
    if part.endswith((".", " ")):
        wrong.add(len(part) - 1)
    if part == "..":
        wrong.add(0)
    if folder and part.lower().endswith((".png", ".jpg", PART)):
        # A file beside the folder may have that name.
        wrong.add(part.rindex("."))
    safe = "".join(_code(character) if at in wrong else character for at, character in enumerate(part)) or "%"
    if len(safe.encode()) > _LONGEST_NAME:
        return f"{safe.encode()[: _LONGEST_NAME // 2].decode(errors='ignore')}~{_hash(part)}"
    return safe


def _code(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _plainest(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
