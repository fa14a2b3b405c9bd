"""What is known of photographs one by one, on its way to the disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Record:
    """All that was found of one photograph.

    Attributes
    ----------
    path
        Of the photograph, relative to the root, with ``/``.
    key
        Of all that decides what is found: where it is the same, so is the record.
    facts
        JSON-like.
    files
        Contents by name; where the files are written already, nothing but the names.
    place
        Name of the photograph under which its files are written already; None: they are not.
    """

    path: str
    key: str
    facts: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    place: str | None = None

    def written(self, place: str, facts: Mapping[str, Any]) -> Record:
        """Give the record as it is once its files are written under a name, and what is still to be told of it."""
        return Record(self.path, self.key, facts, dict.fromkeys(self.files, b""), place)


@dataclass(frozen=True)
class RecordChunk:
    """Some records of a run.

    Attributes
    ----------
    records
        New ones; each path comes once in all chunks.
    kept
        Paths whose records of earlier runs are as good.
    failed
        (path, kind, reason) of photographs of which nothing can be found.
    number
        0 for the first chunk of a run.
    last
        Whether the run is complete with it.
    root
        Where the photographs are: with the last chunk, records go of photographs that are there no more.
    """

    records: Sequence[Record]
    kept: Sequence[str]
    failed: Sequence[tuple[str, str, str]]
    number: int
    last: bool
    root: str = ""
