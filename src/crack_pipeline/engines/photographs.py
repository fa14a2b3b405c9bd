"""The one loop over photographs: it counts them, says how far it is, and lets no odd one cost the others."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import pyarrow as pa

from crack_pipeline.engines.blocks import Block, Blocks, Item, Store, in_order, read_block
from crack_pipeline.engines.compute import Plan
from crack_pipeline.engines.engine import Job, Lost, engine_of
from crack_pipeline.engines.misread import Misread
from crack_pipeline.imaging.decoding import StorageLostError, Undecodable, Unreadable
from crack_pipeline.imaging.records import Record

logger = logging.getLogger(__name__)

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

MEMORY, ERROR, COPY, LOST, UNREADABLE = "memory", "error", "copy", "lost", "unreadable"
EARLIER = "found_earlier"
"""Fact of a record that stands for one of an earlier run, which is elsewhere."""

_SECONDS_BETWEEN_LINES = 10.0
_FORGIVEN = 32
"""Photographs that are looked at here, since a worker could not read what can be read here, before the run ends."""
_ENDED = (
    "every worker that looked at it ended, as when memory runs out: lower reading.max_pixels, or give a worker more of "
    "its machine with compute.cores"
)
_SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "key": pa.string(),
        "kind": pa.string(),
        "reason": pa.string(),
        "facts": pa.string(),
        "files": pa.map_(pa.string(), pa.large_binary()),
        "place": pa.string(),
        "of_machine": pa.bool_(),
    }
)


class Outcome(NamedTuple, Generic[R]):
    """What came of one photograph."""

    path: str
    found: R | None
    """None where nothing can be found."""
    kind: str = ""
    """Why not: a short word to count by."""
    reason: str = ""
    """Why not: a sentence."""
    of_machine: bool = False
    """Whether another machine might have found something: this one could not read the file."""


class Work(Protocol[R_co]):
    """What is done with photographs; it can be pickled."""

    def prepare(self) -> Callable[[Item], R_co]:
        """Get ready, once in each worker: build networks, check that the parameters go together.

        Returns
        -------
        callable
            From an item, which begins with the path of a photograph, to what is found of it. Raises Undecodable where
            nothing can be.
        """


class KeptWork(Protocol):
    """What is done with photographs whose records are kept; it can be pickled."""

    def prepare(self) -> Look:
        """As :meth:`Work.prepare`."""

    def settings(self) -> dict[str, Any]:
        """Give all that decides what is found, beside the photographs: fingerprints of models, parameters."""


class Look(Protocol):
    """Looks at photographs."""

    def __call__(self, item: Item) -> Record:
        """Find out all about a photograph; raises Undecodable where nothing can be found."""

    def key(self, item: Item) -> str | None:
        """Give the key that its record would have, from the bytes of the file alone; None if it cannot be read."""


class Keeper(Protocol):
    """Puts what is found of photographs where it is to stay, from whatever worker; it can be pickled."""

    def names(self, paths: Sequence[str]) -> list[str]:
        """Give the name under which each photograph's files are to be written."""

    def put(self, record: Record, name: str) -> Record:
        """Write the files of a record, each whole or not at all.

        Returns
        -------
        Record
            What `Record.written` gives.

        Raises
        ------
        Undecodable
            If nothing can be written under the name.
        OSError
            If nothing can be written at all.
        """

    def drop(self, record: Record) -> None:
        """Remove what was written of a record."""


class NotKeptError(OSError):
    """What was found cannot be written, which is no fault of the photograph."""


def each(work: Work[R], items: Sequence[Item], plan: Plan, *, done: str, size: int = 1) -> Iterator[Outcome[R]]:
    """Do some work with every photograph.

    Parameters
    ----------
    work
        What is done.
    items
        The photographs; each begins with a path, and no path comes twice.
    plan
        Says which engine.
    done
        What was done with a photograph afterwards, such as ``repaired``; for the log.
    size
        Photographs in a block, where the plan does not say how many.

    Yields
    ------
    Outcome
        Of each photograph, in their order.

    Raises
    ------
    Exception
        What :meth:`Work.prepare` raises.
    StorageLostError
        If no photograph can be read any more, also where the command runs; what is finished stays.
    RuntimeError
        If a photograph comes twice or is left out, which an engine must not do; or if workers cannot read many
        photographs that can be read here.
    """
    blocks = Blocks(items, plan.block or size, {})
    progress = Progress(len(items), done)
    spread = plan.engine == "ray"
    job = _Looking(work, done, spread=spread)
    doubted = _Doubted(work.prepare)
    for number, found in enumerate(in_order(engine_of(plan), job, blocks)):
        _check(blocks[number], found)
        outcomes = doubted.settled(found, blocks[number]) if spread else found
        progress.step(outcomes)
        yield from outcomes


def each_kept(
    work: KeptWork,
    items: Sequence[Item],
    plan: Plan,
    store: Store | None,
    *,
    done: str,
    size: int,
    identify: Callable[[Item], Any] = lambda item: item,
    once: bool = False,
    keeper: Keeper | None = None,
) -> Iterator[Outcome[Record]]:
    """Do some work with every photograph, and keep what is found, block by block.

    A block that is there already is done again only for those of its photographs whose files have changed since, and
    those of which nothing was found.

    Parameters
    ----------
    work, items, plan, done, size
        As for :func:`each`.
    store
        Where blocks are kept; None: nowhere.
    identify
        Gives the part of an item that decides what is found, beside the photograph.
    once
        Whether blocks are removed as soon as their photographs were taken, because the caller keeps what is found.
    keeper
        Writes the files of the records where they are found, so that they need not pass this process; the last part of
        an item is then the name that it gave.

    Yields
    ------
    Outcome
        Of each photograph, in their order.

    Raises
    ------
    Exception
        As :func:`each` does.
    NotKeptError
        If the keeper cannot write.
    """
    settings = {"format": 1, "work": type(work).__name__, **work.settings()}
    blocks = Blocks(items, plan.block or size, settings, identify)
    progress = Progress(len(items), done)
    spread = plan.engine == "ray"
    job = _Keeping(work, done, store, keeper, spread=spread)
    doubted = _Doubted(job.put_here)
    for number, table in enumerate(in_order(engine_of(plan), job, blocks)):
        name = blocks.names[number]
        outcomes = _outcomes(read_block(store, name) if table is None and store is not None else table)
        _check(blocks[number], outcomes)
        if spread:
            outcomes = doubted.settled(outcomes, blocks[number])
        progress.step(outcomes)
        yield from outcomes
        if once and store is not None:
            store.remove(name)
    if store is not None:
        store.keep(set(blocks.names))


def without_copies(outcomes: Iterable[Outcome[Record]], keeper: Keeper | None = None) -> Iterator[Outcome[Record]]:
    """Reject photographs with the bytes of an earlier one, by the fact ``image_id`` of their records.

    What a keeper has written of them is removed.
    """
    seen: dict[str, str] = {}
    for outcome in outcomes:
        image_id = None if outcome.found is None else outcome.found.facts["image_id"]
        if image_id in seen:
            if keeper is not None and outcome.found is not None and outcome.found.place is not None:
                keeper.drop(outcome.found)
            yield Outcome(outcome.path, None, COPY, f"same bytes as {seen[image_id]}")
            continue
        if image_id is not None:
            seen[image_id] = outcome.path
        yield outcome


def some_at_a_time(outcomes: Iterator[Outcome[R]], size: int) -> Iterator[list[Outcome[R]]]:
    """Give outcomes in lists of a size; the last one may be shorter."""
    while some := list(islice(outcomes, size)):
        yield some


class Progress:
    """Logs how far some work with photographs is, every few seconds.

    Parameters
    ----------
    total
        Photographs in all.
    done
        What was done with one, such as ``segmented``.
    of
        What they are all of; empty where that is clear.
    things
        What they are.
    """

    def __init__(self, total: int, done: str, of: str = "", things: str = "photographs") -> None:
        self._total, self._what, self._of, self._things = total, done, of, things
        self._done = self._failed = self._earlier = 0
        self._began = self._said = time.monotonic()

    def step(self, outcomes: Sequence[Outcome[Any]]) -> None:
        """Count some, and say so from time to time, and at the end."""
        self._done += len(outcomes)
        self._failed += sum(outcome.found is None for outcome in outcomes)
        records = [outcome.found for outcome in outcomes if isinstance(outcome.found, Record)]
        self._earlier += sum(EARLIER in record.facts for record in records)
        now = time.monotonic()
        if now - self._said <= _SECONDS_BETWEEN_LINES and (self._of or self._done != self._total):
            return
        self._said = now
        seconds, new = max(now - self._began, 1e-3), self._done - self._earlier
        logger.info(
            "%s %s of %s %s%s%s%s, %s/s; about %s s left",
            self._what,
            f"{self._done:,}",
            f"{self._total:,}",
            self._things,
            self._of,
            f", {self._earlier:,} of them in an earlier run" if self._earlier else "",
            f" ({self._failed:,} left out)" if self._failed else "",
            f"{new / seconds:,.0f}" if new > 99 * seconds else f"{new / seconds:.3g}",
            f"{seconds / new * (self._total - self._done) if new else 0:,.0f}",
        )


class _Looking(Generic[R]):
    """The job of `each`: from a block to the outcomes of its photographs."""

    def __init__(self, work: Work[R], done: str, *, spread: bool = False) -> None:
        self._work, self._done, self._spread = work, done, spread

    def begin(self) -> Callable[[Block], list[Outcome[R]]]:
        look = self._work.prepare()

        def look_at(block: Block) -> list[Outcome[R]]:
            return _look_at(look, block.items, self._done, spread=self._spread)

        return look_at

    def parts(self, block: Block) -> list[Block]:
        return _one_by_one(block)

    def alone(self) -> Job[Block, list[Outcome[R]]]:
        return self

    def joined(self, block: Block, results: Sequence[list[Outcome[R]] | Lost]) -> list[Outcome[R]]:
        return [
            outcome
            for item, result in zip(block.items, results, strict=True)
            for outcome in ([_lost(item)] if isinstance(result, Lost) else result)
        ]


class _Keeping:
    """The job of `each_kept`: from a block to a table of records; None where that is in the store.

    With a keeper, what is kept in the store has the files, so that a later run need not look again, and what comes back
    has not. ``spread`` says that other machines do it.
    """

    def __init__(
        self, work: KeptWork, done: str, store: Store | None, keeper: Keeper | None, *, spread: bool = False
    ) -> None:
        self._work, self._done, self._store, self._keeper, self._spread = work, done, store, keeper, spread

    def begin(self) -> Callable[[Block], Any]:
        look = self._work.prepare()

        def look_at(block: Block) -> Any:
            if self._store is None:
                put = self._putting(look)
                return _table(_look_at(put, block.items, self._done, spread=self._spread))
            earlier = self._earlier(block.name)

            def once(item: Item) -> Record:
                record = earlier.get(item[0])
                return record if record is not None and record.key == look.key(item) else look(item)

            outcomes = _look_at(once, block.items, self._done, spread=self._spread)
            known = [outcome.found is not None and outcome.found is earlier.get(outcome.path) for outcome in outcomes]
            if not known or not all(known):
                self._store.write(block.name, _table(outcomes))
            if self._keeper is None:
                return None
            return _table([self._kept(outcome, item) for outcome, item in zip(outcomes, block.items, strict=True)])

        return look_at

    def parts(self, block: Block) -> list[Block]:
        return _one_by_one(block)

    def alone(self) -> Job[Block, Any]:
        return _Keeping(self._work, self._done, None, self._keeper, spread=self._spread)

    def joined(self, block: Block, results: Sequence[Any]) -> Any:
        found = [
            outcome
            for item, result in zip(block.items, results, strict=True)
            for outcome in ([_lost(item)] if isinstance(result, Lost) else _outcomes(result))
        ]
        if self._store is None or self._keeper is not None:
            return _table(found)
        self._store.write(block.name, _table(found))
        return None

    def put_here(self) -> Callable[[Item], Record]:
        """Get ready to look at single photographs, and to put what is found of them where it is to stay."""
        return self._putting(self._work.prepare())

    def _putting(self, look: Look) -> Callable[[Item], Record]:
        return lambda item: self._put(look(item), item)

    def _kept(self, outcome: Outcome[Record], item: Item) -> Outcome[Record]:
        found = outcome.found
        return outcome if found is None else _attempt(lambda item: self._put(found, item), item)

    def _put(self, record: Record, item: Item) -> Record:
        if self._keeper is None or EARLIER in record.facts:
            return record
        try:
            return self._keeper.put(record, str(item[-1]))
        except OSError as error:
            raise NotKeptError(f"what was found of {record.path} cannot be written: {error}") from error

    def _earlier(self, name: str) -> dict[str, Record]:
        if self._store is None:
            return {}
        try:
            outcomes = _outcomes(self._store.read(name))
        except (OSError, ValueError, KeyError):  # it is not there, or damaged
            return {}
        return {outcome.path: outcome.found for outcome in outcomes if outcome.found is not None}


class _Doubted(Generic[R]):
    """Looks here at what workers could not read: a machine that has lost the root would leave out all it is handed.

    Parameters
    ----------
    prepare
        Gets ready to look at photographs, once there is one.
    """

    def __init__(self, prepare: Callable[[], Callable[[Item], R]]) -> None:
        self._prepare = prepare
        self._look: Callable[[Item], R] | None = None
        self._misread = Misread(_FORGIVEN, "it is looked at here")

    def settled(self, outcomes: Sequence[Outcome[R]], block: Block) -> list[Outcome[R]]:
        """Give the outcomes of a block, in place of those in doubt what is found here; raises RuntimeError."""
        both = zip(outcomes, block.items, strict=True)
        return [self._again(outcome, item) if outcome.of_machine else outcome for outcome, item in both]

    def _again(self, outcome: Outcome[R], item: Item) -> Outcome[R]:
        self._look = self._look or self._prepare()
        again = _attempt(self._look, item)
        if not again.of_machine:
            self._misread.note(outcome.path, outcome.reason)
        return again


def _look_at(look: Callable[[Item], R], items: Sequence[Item], done: str, *, spread: bool) -> list[Outcome[R]]:
    outcomes: list[Outcome[R]] = []
    progress = Progress(len(items), done, " of a block")
    for item in items:
        outcomes.append(_attempt(look, item, spread=spread))
        progress.step(outcomes[-1:])
    return outcomes


def _attempt(look: Callable[[Item], R], item: Item, *, spread: bool = False) -> Outcome[R]:
    """Look at a photograph; where the work is ``spread``, this machine alone may have lost them all."""
    path, of_machine = str(item[0]), False
    try:
        return Outcome(path, look(item))
    except Undecodable as why:
        kind, reason, of_machine = why.kind, why.reason, isinstance(why, Unreadable)
    except NotKeptError:
        raise
    except StorageLostError as error:
        if not spread:
            raise
        kind, reason, of_machine = UNREADABLE, f"cannot be read: {error}", True
    except MemoryError:
        kind, reason = MEMORY, "it does not fit in memory: lower reading.max_pixels, or tiles.size"
    except Exception as error:  # one odd photograph must not cost the others
        logger.debug("%s", path, exc_info=True)
        name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        kind, reason, of_machine = ERROR, f"{name}{error}", isinstance(error, OSError)
    logger.debug("%s is left out: %s", path, reason)
    return Outcome(path, None, kind, reason, of_machine)


def _one_by_one(block: Block) -> list[Block]:
    return [Block(f"{block.name}.{at}", [item]) for at, item in enumerate(block.items)]


def _lost(item: Item) -> Outcome[Any]:
    return Outcome(str(item[0]), None, LOST, _ENDED)


def _check(block: Block, outcomes: Sequence[Outcome[Any]]) -> None:
    """Refuse what is not of the photographs of a block, each once and in their order; raises RuntimeError."""
    wanted, got = [item[0] for item in block.items], [outcome.path for outcome in outcomes]
    if wanted != got:
        missing = sorted(set(wanted) - set(got))
        what = f"{missing[0]} is missing" if missing else "one came twice, or in another order"
        raise RuntimeError(f"what was found of {len(wanted):,} photographs is not of these: {what}")


def _table(outcomes: Sequence[Outcome[Record]]) -> Any:
    rows = [
        {"path": path, "kind": kind, "reason": reason, "of_machine": of_machine}
        if found is None
        else {
            "path": path,
            "key": found.key,
            "facts": json.dumps(dict(found.facts)),
            "files": list(found.files.items()),
            "place": found.place,
        }
        for path, found, kind, reason, of_machine in outcomes
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _outcomes(table: Any) -> list[Outcome[Record]]:
    return [
        Outcome(row["path"], None, row["kind"], row["reason"], bool(row.get("of_machine")))
        if row["key"] is None
        else Outcome(
            row["path"],
            Record(row["path"], row["key"], json.loads(row["facts"]), dict(row["files"]), row.get("place")),
        )
        for row in table.to_pylist()
    ]
