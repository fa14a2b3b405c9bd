"""Photographs per second of every stage of the ingestion, and its peak memory at two sizes.

CRACK_PIPELINE_DATA=/folder/with/metu python benchmarks/ingestion.py [--counts 2500 10000]

Each size runs in a process of its own, on a copy of that many photographs. Without CRACK_PIPELINE_DATA
photographs of the same size are made up.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))


class Stopwatch:
    """Notes when each node begins; registered as Kedro hooks."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, float, float, float]] = []

    def note(self, name: str) -> None:
        """Note the time, the processor time used and the peak memory so far."""
        self.begun.append((name, time.perf_counter(), time.process_time(), _peak()))


def _peak() -> float:
    """Peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(root: str, dataset: str) -> dict[str, Any]:
    """Ingest a root in this process."""
    from kedro.framework.hooks import hook_impl
    from kedro.framework.hooks.manager import _create_hook_manager
    from kedro.runner import SequentialRunner

    from crack_pipeline.pipelines.ingestion import create_pipeline
    from ingesting import Workspace

    watch = Stopwatch()

    class Hooks:
        @hook_impl
        def before_node_run(self, node: Any) -> None:
            watch.note(node.short_name)

    manager = _create_hook_manager()
    manager.register(Hooks())
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(Path(scratch))
        pipeline = create_pipeline("ingestion")
        catalog = workspace.prepared(pipeline, root, dataset, {})
        for name in pipeline.datasets():  # imports what the catalog names: start-up, not ingestion
            catalog.get(name)
        before = _peak()
        start = time.perf_counter()
        SequentialRunner().run(pipeline, catalog, hook_manager=manager)
        watch.note("end")
        seconds = time.perf_counter() - start
        photographs = len(workspace.images.photos) + len(workspace.images.rejected)
    pairs = zip(watch.begun, watch.begun[1:], strict=False)
    return {
        "photographs": photographs,
        "seconds": seconds,
        "stages": {name: (then - now, used - spent, peak) for (name, now, spent, _), (_, then, used, peak) in pairs},
        "peak": _peak(),
        "before": before,
    }


def copy(source: Path | None, count: int, root: Path) -> None:
    """Copy photographs spread evenly over the source, or make some up."""
    if source is not None:
        paths = sorted(path for path in source.rglob("*") if path.is_file())
        picked = paths if count >= len(paths) else [paths[i * len(paths) // count] for i in range(count)]
        for path in picked:
            target = root / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        return
    import numpy as np
    from PIL import Image, ImageFilter

    for number in range(count):
        noise = np.random.default_rng(number).integers(60, 200, (227, 227, 3), np.uint8)
        folder = root / ("Positive" if number % 2 else "Negative")
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(noise).filter(ImageFilter.GaussianBlur(2))
        picture.save(folder / f"{number:06d}.jpg", quality=90)


def main() -> None:
    """Measure each size in a process of its own and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[2500, 10_014])
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print("RESULT " + json.dumps(measure(arguments.measure, "folders")))
        return
    place = os.environ.get("CRACK_PIPELINE_DATA")
    source = Path(place) / "metu" if place else None
    results = []
    for count in arguments.counts:
        with tempfile.TemporaryDirectory() as scratch:
            copy(source, count, Path(scratch))
            command = [sys.executable, __file__, "--measure", scratch]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
        if line is None:
            sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
        results.append(json.loads(line.removeprefix("RESULT ")))
    print(f"photographs: {'METU' if source else 'made up'}; {os.cpu_count()} cores")
    for result in results:
        n = result["photographs"]
        print(f"\n{n:,} photographs: {result['seconds']:.1f} s, {n / result['seconds']:,.0f}/s in all")
        for name, (seconds, used, peak) in result["stages"].items():
            rate = n / max(seconds, 1e-9)
            print(f"  {name:24} {seconds:7.2f} s {used:7.2f} s of CPU {rate:9,.0f}/s, peak {peak:4.0f} MiB")
        print(f"  peak memory {result['peak']:.0f} MiB ({result['before']:.0f} MiB once everything is imported)")
    if len(results) > 1:
        first, last = results[0], results[-1]
        more = last["photographs"] / first["photographs"]
        stages = {name: last["stages"][name][2] / peak for name, (_, _, peak) in first["stages"].items()}
        growth = ", ".join(f"{name} {ratio:.2f}" for name, ratio in stages.items())
        print(f"\n{more:.2f} times as many photographs; growth of the peak memory after {growth}")


if __name__ == "__main__":
    main()
