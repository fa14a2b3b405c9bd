"""Photographs developed by the workers of a cluster, each of which writes its part of the stack."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from crack_pipeline.engines import cluster
from crack_pipeline.engines.blocks import Block, Blocks, Item, Store, tables
from crack_pipeline.engines.compute import Compute, Plan
from crack_pipeline.engines.misread import Misread
from crack_pipeline.engines.on_ray import RayEngine
from crack_pipeline.imaging.decoding import StorageLostError
from crack_pipeline.imaging.photograph_stack import PhotographChunk
from crack_pipeline.imaging.stack import ImageChunk, StackPart, read_description
from crack_pipeline.pipelines.ingestion.developing import OF_MACHINE, Progress, develop_all, in_rows, warn_of
from crack_pipeline.pipelines.ingestion.listing import Source
from crack_pipeline.pipelines.ingestion.parameters import Image, Preset, Reading

_COLUMNS = ("path", "label", "mask_path", "source", "size", "version")
_SIZES, _PER_WORKER = tuple(2**n for n in range(4, 11)), 8
"""Photographs in a block: at 1,024 its cost is a small part of the work (docs/ten_million.md); fewer where there are
few photographs, so that every worker gets some blocks."""
_FORGIVEN = 8
"""Blocks that are done again here, since a worker could not read what can be read here, before the run ends."""


def plan_there(compute: Compute) -> Plan:
    """Give the plan of workers that use no network, only cores.

    Raises
    ------
    Exception
        As `engines.cluster.resolve_there`.
    """
    plain = {"accelerator": "cpu", "precision": "32-true", "batch_size": 1, "workers": 0, "gpus": 0.0}
    return cluster.resolve_there(compute.model_copy(update=plain))


def develop_there(
    source: Source,
    photographs: pd.DataFrame,
    preset: Preset,
    image: Image,
    reading: Reading,
    parts: Store,
    compute: Compute,
) -> Iterator[ImageChunk | PhotographChunk | StackPart]:
    """Let a cluster do what `developing.develop_all` does: the same pictures, in the same order.

    Parameters
    ----------
    source
        Where all workers read the files from.
    photographs
        As `listing.list_files` gives them.
    preset, image, reading
        As for `developing.develop`.
    parts
        Where all workers write: those that are there from an earlier run that was killed, of files that have not
        changed since, are taken as they are. Empty afterwards.
    compute
        Says which cluster, and what a worker is.

    Yields
    ------
    StackPart
        In the order of the photographs. An empty chunk where there are none.

    Raises
    ------
    Exception
        As `engines.cluster.resolve_there` and `engines.blocks.tables`.
    StorageLostError
        If the root cannot be read here either.
    """
    if photographs.empty:
        yield from develop_all(source, photographs, preset=preset, image=image, reading=reading)
        return
    plan = plan_there(compute)
    engine = RayEngine(plan)
    settings = {
        "root": source.name,
        "preset": preset.model_dump(mode="json"),
        "image": image.model_dump(mode="json"),
        "limits": [reading.max_pixels, reading.min_side],
        "code": cluster.about_here().code,
    }
    blocks = _cut(_Rows(photographs), plan.block, engine.workers(), settings, parts.names())
    job = _Develop(source, preset, image, reading, plan.cores)
    progress, remarks = Progress(len(photographs)), Counter[str]()
    doubted = _Doubted(job, parts)
    for number, folder in enumerate(tables(engine, job, blocks, parts)):
        doubted.look_at(folder, blocks[number])
        about = read_description(folder)
        remarks.update(about.get("remarks", {}))
        yield StackPart(folder, number, number == len(blocks) - 1)
        progress.step(len(blocks[number].items))
    progress.end()
    parts.keep(set())
    warn_of(remarks)


def _cut(rows: Sequence[Item], asked: int | None, workers: int, settings: Mapping[str, Any], there: set[str]) -> Blocks:
    """Cut photographs into blocks: of the size asked for, or else of that of which an earlier run has left most.

    How many fit best depends on the workers, and an earlier run may have had others.
    """
    if asked:
        return Blocks(rows, asked, settings)
    fitting = [size for size in _SIZES if size * _PER_WORKER * workers <= len(rows)]
    chosen = Blocks(rows, fitting[-1] if fitting else _SIZES[0], settings)
    cuts = (Blocks(rows, size, settings) for size in (_SIZES if there else ()))
    return max((chosen, *cuts), key=lambda cut: len(there.intersection(cut.names)))


class _Doubted:
    """What workers could not read is tried here: a machine that has lost the root would quarantine all it is handed.

    Parameters
    ----------
    job
        What is done with a block.
    parts
        Where the parts are.
    """

    def __init__(self, job: _Develop, parts: Store) -> None:
        self._job, self._parts = job, parts
        self._misread = Misread(_FORGIVEN, "its block is done again")

    def look_at(self, folder: Path, block: Block) -> None:
        """Do a block again of which a worker could not read what can be read here; RuntimeError if there are many."""
        if not read_description(folder).get("remarks", {}).get(OF_MACHINE):
            return
        rejected = pd.read_parquet(folder / "rejected.parquet")
        said = dict(zip(rejected["path"], rejected["reason"], strict=True))
        wrong = next((path for path in said if self._is_readable(block, path)), None)
        if wrong is None:
            return
        try:
            self._misread.note(wrong, said[wrong])
        except RuntimeError:
            for name in self._parts.names():
                if read_description(self._parts.read(name)).get("remarks", {}).get(OF_MACHINE):
                    self._parts.remove(name)
            raise
        self._parts.remove(block.name)
        self._parts.write(block.name, self._job.begin()(block))

    def _is_readable(self, block: Block, path: str) -> bool:
        mask = next((item[2] for item in block.items if item[0] == path), None)
        try:
            for file in filter(None, (path, mask)):
                self._job.source.read(file)
        except StorageLostError:
            raise
        except Exception:  # an object store raises anything
            return False
        return True


@dataclass(frozen=True)
class _Develop:
    """From a block of photographs to the chunks of their part of the stack; see `engines.Job`."""

    source: Source
    preset: Preset
    image: Image
    reading: Reading
    cores: float

    def begin(self) -> Callable[[Block], Iterator[ImageChunk | PhotographChunk]]:
        """Find out how much of the machine is this worker's."""
        mine = min(1.0, self.cores / (psutil.cpu_count() or 1))
        reading = self.reading.model_copy(
            update={
                "threads": self.reading.threads or max(1, round(2 * self.cores)),
                "waiting_bytes": self.reading.waiting_bytes or int(self.reading.room * mine),
            }
        )

        source = _SeenFromHere(self.source)

        def develop(block: Block) -> Iterator[ImageChunk | PhotographChunk]:
            rows = pd.DataFrame(list(block.items), columns=list(_COLUMNS))
            return develop_all(source, rows, preset=self.preset, image=self.image, reading=reading)

        return develop


class _SeenFromHere:
    """A source of which a worker finds nothing lost, but files unreadable: another machine may still reach them."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.list = source.list
        self._read = source.read

    def read(self, path: str) -> bytes:
        """Read a file; raises OSError."""
        try:
            return self._read(path)
        except StorageLostError as error:
            raise OSError(str(error)) from error


class _Rows(Sequence[Item]):
    """The rows of a table of photographs, each made when it is asked for: ten million tuples take gigabytes."""

    def __init__(self, photographs: pd.DataFrame) -> None:
        self._table = photographs.assign(size=photographs.get("size", 0), version=photographs.get("version", ""))
        self._table = self._table[list(_COLUMNS)]

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, which: Any) -> Any:
        if not isinstance(which, slice):
            return self[which : which + 1][0]
        part = self._table.iloc[which]
        return list(in_rows(part).assign(version=part["version"]).itertuples(index=False, name=None))

    def __iter__(self) -> Iterator[Item]:
        for start in range(0, len(self), _SIZES[-1]):
            yield from self[start : start + _SIZES[-1]]
