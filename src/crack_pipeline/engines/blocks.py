"""Work in blocks that are kept, so that a run that is started again does only what is missing."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from crack_pipeline.engines.engine import Engine, Job

logger = logging.getLogger(__name__)

R = TypeVar("R")
Item = tuple[Any, ...]


class Block(NamedTuple):
    """A piece of work."""

    name: str
    """Hash of all that decides what comes of it: the same name, the same result."""
    items: Sequence[Item]


class Store(Protocol):
    """Keeps what came of blocks, as tables of Arrow; it can be pickled, and all workers reach the same one."""

    def names(self) -> set[str]:
        """Name the blocks that are there, each whole."""

    def read(self, name: str) -> Any:
        """Read one; raises OSError if it is not there or damaged."""

    def write(self, name: str, table: Any) -> None:
        """Write one, whole or not at all; what is there under the name is replaced."""

    def keep(self, names: set[str]) -> None:
        """Remove all others."""

    def remove(self, name: str) -> None:
        """Remove one, if it is there."""


class Blocks(Sequence[Block]):
    """Items, cut into blocks.

    Where one ends is decided by what is in it, so that an item more or less changes one block or two, and not all that
    come after it (Muthitacharoen, Chen and Mazieres, "A low-bandwidth network file system", SOSP 2001).

    Parameters
    ----------
    items
        JSON-like values each; they are handed to the work.
    size
        Items in a block, on average: never fewer than half of it, save in the last one, or more than twice.
    settings
        Whatever else decides what comes of an item, JSON-like.
    identify
        Gives the part of an item that decides what comes of it; all of it without.
    """

    def __init__(
        self,
        items: Sequence[Item],
        size: int,
        settings: Mapping[str, Any],
        identify: Callable[[Item], Any] = lambda item: item,
    ) -> None:
        self._items = items
        self._bounds = [0]
        self._names: list[str] = []
        least = max(1, size // 2)
        everything = json.dumps(settings, sort_keys=True).encode()
        digest = hashlib.blake2b(everything, digest_size=16)
        for end, item in enumerate(items, start=1):
            mine = hashlib.blake2b(json.dumps(identify(item)).encode(), digest_size=16).digest()
            digest.update(mine)
            inside = end - self._bounds[-1]
            ends = inside >= least and int.from_bytes(mine[:8]) % max(1, size - least) == 0
            if ends or inside == 2 * size or end == len(items):
                self._bounds.append(end)
                self._names.append(digest.hexdigest())
                digest = hashlib.blake2b(everything, digest_size=16)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(f"block {number} of {len(self)}")
        return Block(self._names[number], self._items[self._bounds[number] : self._bounds[number + 1]])

    @property
    def names(self) -> list[str]:
        """Of the blocks, in their order."""
        return self._names


def in_order(engine: Engine, job: Job[Block, R], blocks: Sequence[Block]) -> Iterator[R]:
    """Do a job with blocks, and give the results in the order of the blocks.

    Raises
    ------
    RuntimeError
        If the engine leaves out a block, or gives one twice.
    """
    waiting: dict[int, R] = {}
    following = 0
    for number, result in engine.map(job, blocks):
        if number < following or number in waiting:
            raise RuntimeError(f"block {number} was done twice: this is an error of the engine")
        waiting[number] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1
    if following != len(blocks):
        raise RuntimeError(f"{len(blocks) - following:,} of {len(blocks):,} blocks are missing: run the pipeline again")


def tables(
    engine: Engine,
    job: Job[Block, Any],
    blocks: Blocks,
    store: Store | None,
) -> Iterator[Any]:
    """Do a job with blocks, and give a table of each, in the order of the blocks.

    Parameters
    ----------
    engine
        Does it.
    job
        From a block to a table of Arrow.
    blocks
        The blocks.
    store
        Workers write the tables into it, and they are read from there, so that no more than one is in memory; after
        the last one, what was kept of other runs is removed. None: the tables come back to this process.

    Raises
    ------
    RuntimeError
        As `in_order` does, or if a table is gone from the store.
    """
    if store is None:
        yield from in_order(engine, job, blocks)
        return
    there = store.names().intersection(blocks.names)
    missing = [number for number, name in enumerate(blocks.names) if name not in there]
    if there:
        logger.info("%s of %s blocks are there from an earlier run", f"{len(there):,}", f"{len(blocks):,}")
    following = 0
    done = in_order(engine, _Written(job, store), _Some(blocks, missing))
    for upto in [*missing, len(blocks)]:
        while following < upto:
            yield read_block(store, blocks.names[following])
            following += 1
        if upto < len(blocks):
            next(done)
    for _ in done:  # so that the engine comes to its end
        raise RuntimeError("there are more results than blocks: this is an error of the engine")
    store.keep(set(blocks.names))


class _Some(Sequence[Block]):
    """Some of the blocks; each is made when it is asked for."""

    def __init__(self, blocks: Blocks, numbers: Sequence[int]) -> None:
        self._blocks, self._numbers = blocks, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, number: Any) -> Any:
        return self._blocks[self._numbers[number]]


class _Written:
    """A job whose results are written where it is done."""

    def __init__(self, job: Job[Block, Any], store: Store) -> None:
        self._job, self._store = job, store

    def begin(self) -> Callable[[Block], None]:
        work = self._job.begin()

        def write(block: Block) -> None:
            self._store.write(block.name, work(block))

        return write


def read_block(store: Store, name: str) -> Any:
    """Read a table that must be there; raises RuntimeError."""
    try:
        return store.read(name)
    except OSError as error:
        raise RuntimeError(
            f"what was found of a block cannot be read again: {error}; does another run use the same folder?"
        ) from error
