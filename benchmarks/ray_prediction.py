"""Predictions on one and on two nodes of Ray, and what a block costs beside the work itself.

    python benchmarks/ray_prediction.py [--number 96] [--side 1024] [--block 4] [--empty 400]

As root on Linux: the nodes are on two hosts with networks of their own on this machine, each of which has one of its
cores, for the command, too; the local engine has one as well. Nothing else should run. Prints photographs per second of
the local engine, of one node and of two; the efficiency of two (their rate over twice that of one); and the time of a
block in which nothing is done. A rate is that of the blocks written between the first quarter and the last one, so that
neither the start of workers nor the end, when some wait for others, counts; the time of the whole run is printed beside
it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from crack_pipeline.engines import engine_of
from crack_pipeline.engines.cluster import resolve_there
from crack_pipeline.engines.compute import Compute
from ray_hosts import Hosts, two_hosts, why_not
from small_prediction import predict, write_photographs


class Nothing:
    """A job that does nothing."""

    def begin(self) -> Callable[[Any], int]:
        """Nothing to get ready."""
        return lambda piece: 0


def empty_blocks(number: int, compute: Compute) -> float:
    """Give the seconds of a block without work, once workers are there."""
    times = [time.perf_counter() for _ in engine_of(resolve_there(compute)).map(Nothing(), range(number))]
    return (times[-1] - times[0]) / (number - 1)


def rate(blocks: Path, block: float) -> float:
    """Give photographs per second in the middle half of a run, from when its blocks were written."""
    written = np.sort([path.stat().st_mtime for path in blocks.glob("*.parquet")])
    first, last = len(written) // 4, len(written) * 3 // 4
    return float((last - first) * block / (written[last] - written[first]))


def on_cluster(hosts: Hosts, root: Path, output: Path, options: argparse.Namespace) -> float:
    """Predict there; gives the seconds of the whole run."""
    began = time.perf_counter()
    done = hosts.run(
        "head", sys.executable, *sys.argv[:1], "--inside", str(root), str(output), _compute(hosts, options)
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return time.perf_counter() - began


def _compute(hosts: Hosts, options: argparse.Namespace) -> str:
    compute = Compute(
        accelerator="cpu", precision="32-true", engine="ray", address=hosts.address, block=options.block, patience=120
    )
    return compute.model_dump_json()


def main() -> None:
    """Measure, or, inside of a host, work."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--number", type=int, default=96)
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--block", type=int, default=4)
    parser.add_argument("--empty", type=int, default=400)
    parser.add_argument("--inside", nargs=3, metavar=("ROOT", "OUTPUT", "COMPUTE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        root, output, compute = options.inside
        asked = Compute.model_validate_json(compute)
        if root:
            predict(Path(root), Path(output), asked)
        else:
            print(json.dumps({"seconds": empty_blocks(options.empty, asked)}))
        return
    if why_not():
        raise SystemExit(why_not())
    folder = Path(tempfile.mkdtemp(prefix="ray_prediction"))
    try:
        _measure(folder, options)
    finally:
        shutil.rmtree(folder)


def _measure(folder: Path, options: argparse.Namespace) -> None:
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
            whole[name] = on_cluster(hosts, root, folder / name, options)
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
