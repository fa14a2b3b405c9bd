"""Predictions on one and on two nodes of Ray, what a block costs beside the work itself, and the memory of workers.

    python benchmarks/ray_prediction.py [rate] [--number 96] [--side 1024] [--block 4] [--empty 400]
    python benchmarks/ray_prediction.py memory [--number 2500 40000] [--side 32]
    python benchmarks/ray_prediction.py join [--number 2000] [--side 1024]
    python benchmarks/ray_prediction.py blocks [--number 2000 20000]

``rate`` and ``memory`` need root on Linux: the nodes are on two hosts with networks of their own on this machine. For
``rate`` each host has one of its cores, for the command, too, as the local engine has, and nothing else should run. It
prints photographs per second of the local engine, of one node and of two; the efficiency of two (their rate over twice
that of one); and the time of a block in which nothing is done. A rate is that of the blocks written between the first
quarter and the last one, so that neither the start of workers nor the end, when some wait for others, counts; the time
of the whole run is printed beside it.

``memory`` predicts tiny photographs and prints the most memory that any worker had, and the process where the command
runs. ``join`` prints the time that a photograph takes there once its block is done: where workers have written its
files, and where they come through the block. ``blocks`` prints the time and the memory there of blocks without work,
of more and more of them, on one node of this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from crack_pipeline.datasets import BlockFolderDataset, SegmentationFolderDataset, UnfinishedSegmentationDataset
from crack_pipeline.engines import engine_of
from crack_pipeline.engines.blocks import Blocks
from crack_pipeline.engines.cluster import resolve_there
from crack_pipeline.engines.compute import Compute
from crack_pipeline.engines.photographs import _Keeping, _outcomes, some_at_a_time, without_copies
from crack_pipeline.imaging.records import Record
from crack_pipeline.imaging.segmented import SegmentedChunk
from ray_hosts import Hosts, two_hosts, why_not
from ray_ingestion import _Peaks
from small_prediction import predict, write_photographs


class Nothing:
    """A job that does nothing."""

    def begin(self) -> Callable[[Any], int]:
        """Nothing to get ready."""
        return lambda piece: 0


def empty_blocks(number: int, compute: Compute) -> tuple[float, float]:
    """Give the seconds until the first result of blocks without work, and those of each of them from then on."""
    engine = engine_of(resolve_there(compute))
    times = [time.perf_counter()]
    for at, _ in enumerate(engine.map(Nothing(), range(number))):
        if at in (0, number - 1):
            times.append(time.perf_counter())
    began, first, last = times
    return first - began, (last - first) / (number - 1)


def rate(blocks: Path, block: float) -> float:
    """Give photographs per second in the middle half of a run, from when its blocks were written."""
    written = np.sort([path.stat().st_mtime for path in blocks.glob("*.parquet")])
    first, last = len(written) // 4, len(written) * 3 // 4
    return float((last - first) * block / (written[last] - written[first]))


def on_cluster(hosts: Hosts, root: Path, output: Path, options: argparse.Namespace) -> tuple[float, str]:
    """Predict there; gives the seconds of the whole run, and the last line that it printed."""
    began = time.perf_counter()
    done = hosts.run(
        "head", sys.executable, *sys.argv[:1], "--inside", str(root), str(output), _compute(hosts, options)
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return time.perf_counter() - began, done.stdout.strip().splitlines()[-1]


def _compute(hosts: Hosts, options: argparse.Namespace) -> str:
    compute = Compute(
        accelerator="cpu", precision="32-true", engine="ray", address=hosts.address, block=options.block, patience=120
    )
    return compute.model_dump_json()


def main() -> None:
    """Measure, or, inside of a host, work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = {"rate": _measure, "memory": memory, "join": join, "blocks": blocks}
    parser.add_argument("what", nargs="?", choices=what, default="rate")
    parser.add_argument("--number", type=int, nargs="+")
    parser.add_argument("--side", type=int)
    parser.add_argument("--block", type=int)
    parser.add_argument("--empty", type=int, default=400)
    parser.add_argument("--inside", nargs=3, metavar=("ROOT", "OUTPUT", "COMPUTE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        root, output, compute = options.inside
        asked = Compute.model_validate_json(compute)
        if root:
            predict(Path(root), Path(output), asked)
            print(json.dumps({"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
        else:
            print(json.dumps({"seconds": empty_blocks(options.empty, asked)[1]}))
        return
    if options.what in ("rate", "memory") and why_not():
        raise SystemExit(why_not())
    usual = {"memory": [2500, 40_000], "join": [2000], "blocks": [2000, 20_000], "rate": [96]}
    options.number = options.number or usual[options.what]
    options.side = options.side or (32 if options.what == "memory" else 1024)
    options.block = options.block or (16 if options.what == "memory" else 4)
    folder = Path(tempfile.mkdtemp(prefix="ray_prediction"))
    try:
        what[options.what](folder, options)
    finally:
        shutil.rmtree(folder)


def memory(folder: Path, options: argparse.Namespace) -> None:
    """Print the most memory that a worker had, and the process where the command runs, for more and more."""
    for number in options.number:
        root = folder / f"root {number}"
        write_photographs(root, number, options.side)
        with two_hosts() as hosts, _Peaks() as peaks:
            seconds, said = on_cluster(hosts, root, folder / f"{number}", options)
        print(
            f"{number:>9,} photographs: {peaks.workers:6.0f} MiB of a worker, {json.loads(said)['peak']:6.0f} MiB "
            f"where the command runs; {seconds:.0f} s in all",
            flush=True,
        )


class Found:
    """Work that is done: a mask and an overlay are there; see `engines.photographs.KeptWork`."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def prepare(self) -> Found:
        """Nothing to get ready."""
        return self

    def settings(self) -> dict[str, Any]:
        """Nothing decides."""
        return {}

    def key(self, item: Any) -> str:
        """Give a key."""
        return str(item[0])

    def __call__(self, item: Any) -> Record:
        """Give what was found."""
        facts = {"image_id": item[0], "width": 1024, "height": 1024, "crack_pixels": 1234, "score": 0.5}
        return Record(item[0], item[0], facts, self._files)


class Elsewhere:
    """Writes nothing, since somebody else does; see `engines.photographs.Keeper`."""

    def names(self, paths: Any) -> list[str]:
        """Give names."""
        return list(paths)

    def put(self, record: Record, name: str) -> Record:
        """Give what is left to tell."""
        return record.written(name, record.facts)

    def drop(self, record: Record) -> None:
        """Nothing is there."""


def join(folder: Path, options: argparse.Namespace) -> None:
    """Print what a photograph costs where the command runs, if workers have written its files, and if not."""
    (number,) = options.number
    rng = np.random.default_rng(0)
    work = Found({"mask": rng.bytes(options.side**2 // 100), "overlay": rng.bytes(options.side**2 // 5)})
    paths = [f"{at % 97}/{at:09d}.jpg" for at in range(number)]
    keeper = UnfinishedSegmentationDataset(filepath=str(folder / "spread")).load()
    assert keeper is not None
    began = time.perf_counter()
    names = keeper.names(paths)
    named = time.perf_counter() - began
    cut = Blocks(list(zip(paths, names, strict=True)), 16, {})
    store = BlockFolderDataset(filepath=str(folder / "blocks")).load()
    write, tell = _Keeping(work, "", store, None).begin(), _Keeping(work, "", None, Elsewhere()).begin()
    told = []
    for block in cut:
        write(block)
        told.append(tell(block))

    def save(name: str, tables: Any, size: int) -> float:
        results = SegmentationFolderDataset(filepath=str(folder / name))
        began, left = time.perf_counter(), number
        outcomes = without_copies(one for table in tables for one in _outcomes(table))
        for chunk, some in enumerate(some_at_a_time(outcomes, size)):
            left -= len(some)
            results.save(SegmentedChunk([one.found for one in some if one.found], [], chunk, last=not left))
        return time.perf_counter() - began

    spread = save("spread", told, 64) + named
    through = save("through", (store.read(name) for name in cut.names), 1)
    size = sum(map(len, work([""]).files.values())) / 1024
    print(f"files of {size:.0f} KiB that workers have written: {spread / number * 1e6:6.0f} µs a photograph")
    print(f"files of {size:.0f} KiB that come through blocks:  {through / number * 1e6:6.0f} µs a photograph")


def blocks(folder: Path, options: argparse.Namespace) -> None:
    """Print what a block without work costs where the command runs."""
    for number in options.number:
        before = psutil.Process().memory_info().rss
        began = time.perf_counter()
        first, each = empty_blocks(number, Compute(accelerator="cpu", precision="32-true", engine="ray"))
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before / 1024
        print(
            f"{number:>9,} blocks without work: the first after {first:.1f} s, then {each * 1e3:.2f} ms each; "
            f"{time.perf_counter() - began:.0f} s in all, and at most {grown / 1024:.0f} MiB",
            flush=True,
        )


def _measure(folder: Path, options: argparse.Namespace) -> None:
    (options.number,) = options.number
    root, rates = folder / "root", {}
    write_photographs(root, options.number, options.side)
    os.sched_setaffinity(0, {0})
    began = time.perf_counter()
    predict(root, folder / "local", Compute(accelerator="cpu", precision="32-true", block=options.block))
    whole = {"local engine": time.perf_counter() - began}
    mean = options.number / len(list((folder / "local/blocks").iterdir()))
    rates["local engine"] = rate(folder / "local/blocks", mean)
    for nodes in (("head",), ("head", "other")):
        name = f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}"
        with two_hosts(nodes=nodes, pinned=True) as hosts:
            whole[name], _ = on_cluster(hosts, root, folder / name, options)
            rates[name] = rate(folder / name / "blocks", mean)
            if len(nodes) == 1:
                inside = ["--empty", str(options.empty), "--inside", "", "", _compute(hosts, options)]
                done = hosts.run("head", sys.executable, sys.argv[0], *inside)
                assert done.returncode == 0, done.stdout[-4000:]
                empty = json.loads(done.stdout.strip().splitlines()[-1])["seconds"]
    for name, found in rates.items():
        ratio = found / rates["local engine"]
        print(f"{name:<14}{found:8.2f} photographs/s{ratio:8.2f} × local engine{whole[name]:8.0f} s in all")
    print(f"efficiency of 2 nodes: {rates['2 nodes'] / (2 * rates['1 node']):.2f}")
    print(f"a block without work: {empty * 1e3:.1f} ms, of {options.empty} on 1 node")


if __name__ == "__main__":
    main()
