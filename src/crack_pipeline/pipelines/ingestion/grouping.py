"""Near-duplicate groups found by the workers of a cluster: the same as `imaging.near_duplicates.find_groups` finds.

The coarse maps of all photographs, 256 bytes each, lie on shared storage in parts. A worker compares a band of the
photographs with all of them and keeps the best partners of each; another lays the textures of pairs over each other.
Workers need nothing of each other, so each band can be done anywhere, and again. What is connected is found at last
where the run was started.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crack_pipeline.engines import cluster
from crack_pipeline.engines.blocks import Block, Blocks, Item, Store, tables
from crack_pipeline.engines.compute import Compute
from crack_pipeline.engines.on_ray import RayEngine
from crack_pipeline.imaging import duplicate_verification, near_duplicates
from crack_pipeline.imaging.duplicate_candidates import (
    COARSE_SIZE,
    SMALL,
    Pairs,
    ScoredPairs,
    choose_pairs,
    find_partners,
)
from crack_pipeline.imaging.near_duplicates import Distinct
from crack_pipeline.pipelines.ingestion.parameters import Duplicates
from crack_pipeline.pipelines.ingestion.spreading import plan_there

logger = logging.getLogger(__name__)

_PART = 65_536
"""Coarse maps in a part of the table: 16 MiB."""
_LARGEST_BAND, _LEAST_BAND, _PER_WORKER = 16_384, 512, 4
_PAIRS = 4096


def find_groups_there(
    fingerprints: Any,
    duplicates: Duplicates,
    store: Store,
    compute: Compute,
    *,
    part: int = _PART,
    band: int | None = None,
    pairs_at_once: int = _PAIRS,
) -> NDArray[np.int64]:
    """Let a cluster do what `near_duplicates.find_groups` does; the groups are the same.

    Parameters
    ----------
    fingerprints
        As for `near_duplicates.find_groups`; all workers read the texture maps from where they lie.
    duplicates
        Options of the search.
    store
        Where all workers write: what is there of an earlier run that was killed is not done again. Empty afterwards.
    compute
        Says which cluster, and what a worker is.
    part, band, pairs_at_once
        Photographs in a part of the table, photographs that a worker compares with all, and pairs that it lays over
        each other, at a time; ``band`` by default: some for every worker.

    Returns
    -------
    ndarray
        (N,) int64: the smallest row of the group that each is in.

    Raises
    ------
    Exception
        As `engines.cluster.resolve_there`, `engines.blocks.tables` and `near_duplicates.find_groups`.
    """
    plan = plan_there(compute)
    engine = RayEngine(plan)
    found = near_duplicates.distinguish(fingerprints)
    count = len(found.rows)
    content = hashlib.blake2b(found.digests.tobytes(), digest_size=16).hexdigest()
    settings = {"code": cluster.about_here().code, "content": content, "part": part}
    table = _Section(store, "table")
    _write_table(found, table, part, content)

    options = duplicates.model_dump()
    search = _Search(
        table,
        [f"{content}-{start}" for start in range(0, count, part)],
        part,
        options["candidate_similarity"],
        options["shortlist"],
        options["candidates_per_image"],
    )
    if band is None:  # a power of two, so that it seldom changes with the number of workers
        band = 1 << max(1, count // (_PER_WORKER * engine.workers())).bit_length() - 1
        band = min(_LARGEST_BAND, max(_LEAST_BAND, band))
    bands = Blocks([(start, min(start + band, count)) for start in range(0, count, band)], 1, settings | options)
    proposed = (_pairs_in(result) for result in tables(engine, search, bands, _Section(store, "pairs")))
    pairs = choose_pairs(proposed, options["candidates_per_image"])
    logger.info(
        "%s images, %s of them distinct: %s pairs to compare",
        f"{len(found.member):,}",
        f"{count:,}",
        f"{len(pairs.first):,}",
    )

    verify = _Verify(fingerprints, options["minimum_similarity"])
    pieces = Blocks(_Pieces(pairs, found, pairs_at_once), 1, settings | options, lambda item: item[:2])
    verified = _Section(store, "same")
    judged = [result["same"].to_numpy() for result in tables(engine, verify, pieces, verified)]
    same = np.concatenate([np.empty(0, bool), *judged])
    for section in (verified, _Section(store, "pairs"), table):
        section.keep(set())
    return near_duplicates.connect(found, pairs.first[same], pairs.second[same])


class _Section:
    """Some of what a store holds, by how the names begin; see `engines.blocks.Store`."""

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._prefix = store, f"{name}-"

    def names(self) -> set[str]:
        found = self._store.names()
        return {name.removeprefix(self._prefix) for name in found if name.startswith(self._prefix)}

    def read(self, name: str) -> Any:
        return self._store.read(self._prefix + name)

    def write(self, name: str, table: Any) -> None:
        self._store.write(self._prefix + name, table)

    def keep(self, names: set[str]) -> None:
        for name in self.names() - names:
            self.remove(name)

    def remove(self, name: str) -> None:
        self._store.remove(self._prefix + name)


@dataclass(frozen=True)
class _Search:
    """From a band of photographs to their best partners among all; see `engines.Job`."""

    table: Store
    parts: list[str]
    part: int
    minimum: float
    shortlist: int
    per_image: int

    def begin(self) -> Callable[[Block], Any]:
        """Nothing is to be made ready."""

        def search(block: Block) -> Any:
            ((start, stop),) = block.items
            pairs = find_partners(
                self._some(start, stop),
                start,
                self._everything,
                minimum=self.minimum,
                shortlist=self.shortlist,
                per_image=self.per_image,
            )
            columns = (pa.array(column.astype(small)) for column, small in zip(pairs, SMALL, strict=True))
            return pa.table(dict(zip(ScoredPairs._fields, columns, strict=True)))

        return search

    def _everything(self) -> Iterator[tuple[int, NDArray[np.int8]]]:
        for number, name in enumerate(self.parts):
            yield number * self.part, _maps(self.table.read(name))

    def _some(self, start: int, stop: int) -> NDArray[np.int8]:
        numbers = range(start // self.part, (stop - 1) // self.part + 1)
        maps = [_maps(self.table.read(self.parts[number])) for number in numbers]
        first = numbers[0] * self.part
        return np.concatenate(maps)[start - first : stop - first]


@dataclass(frozen=True)
class _Verify:
    """From pairs of photographs to whether they show the same place; see `engines.Job`."""

    fingerprints: Any
    minimum: float

    def begin(self) -> Callable[[Block], Any]:
        """Nothing is to be made ready."""

        def verify(block: Block) -> Any:
            ((_, _, *columns),) = block.items
            first, second, orientation = (np.frombuffer(column, np.int64) for column in columns)
            same = duplicate_verification.verify(
                Pairs(first, second, orientation),
                lambda rows: near_duplicates.textures(self.fingerprints, rows),
                minimum=self.minimum,
                workers=1,
            )
            return pa.table({"same": same})

        return verify


def _write_table(found: Distinct, table: Store, part: int, content: str) -> None:
    """Write the coarse maps of those that differ, part by part, where they are not there yet."""
    names = {start: f"{content}-{start}" for start in range(0, len(found.rows), part)}
    table.keep(set(names.values()))
    there = table.names()
    for start, name in names.items():
        if name not in there:
            maps = np.ascontiguousarray(found.coarse_of(slice(start, start + part)))
            column = pa.FixedSizeBinaryArray.from_buffers(
                pa.binary(COARSE_SIZE**2), len(maps), [None, pa.py_buffer(maps.tobytes())]
            )
            table.write(name, pa.table({"coarse": column}))


def _maps(table: Any) -> NDArray[np.int8]:
    column = table["coarse"].combine_chunks()
    values = np.frombuffer(column.buffers()[1], np.int8)[column.offset * COARSE_SIZE**2 :]
    return values[: len(column) * COARSE_SIZE**2].reshape(-1, COARSE_SIZE, COARSE_SIZE)


def _pairs_in(table: Any) -> ScoredPairs:
    return ScoredPairs(*(table[name].to_numpy() for name in ScoredPairs._fields))


class _Pieces(Sequence[Item]):
    """Pairs cut into pieces that name rows, each made when it is asked for: number, hash, and columns as bytes."""

    def __init__(self, pairs: Pairs, found: Distinct, size: int) -> None:
        self._pairs, self._found, self._size = pairs, found, size

    def __len__(self) -> int:
        return -(-len(self._pairs.first) // self._size)

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, slice):
            return [self[number] for number in range(*which.indices(len(self)))]
        if not 0 <= which < len(self):
            raise IndexError(f"piece {which} of {len(self)}")
        rows, start = self._found.rows, which * self._size
        some = slice(start, start + self._size)
        columns = (rows[self._pairs.first[some]], rows[self._pairs.second[some]], self._pairs.orientation[some])
        content = [column.tobytes() for column in columns]
        return start, hashlib.blake2b(b"".join(content), digest_size=16).hexdigest(), *content
