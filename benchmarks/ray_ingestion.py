"""Ingestions on one and on two nodes of Ray, what a block costs, how much memory workers take, and how a search grows.

    python benchmarks/ray_ingestion.py rate [--number 3000] [--side 2048] [--block 32]
    python benchmarks/ray_ingestion.py block [--number 200]
    python benchmarks/ray_ingestion.py memory [--number 2500 40000] [--side 64]
    python benchmarks/ray_ingestion.py tables [--number 200000]
    python benchmarks/ray_ingestion.py search [--number 10000 100000 1000000] [--band 1024]

``rate`` and ``memory`` need root on Linux: the nodes are on two hosts with networks of their own on this machine. For
``rate`` each host has one of its cores, for the command, too, as the local engine has, and nothing else should run. A
rate is that of the blocks written between the first quarter and the last one; the time of the whole run, with the start
of workers and the search for near-duplicates, is printed beside it. ``memory`` prints the most that any process had, of
the workers and of the one that runs the pipeline. ``search`` takes made-up coarse maps, looks for the partners of some
bands among all, and prints processor time, which other processes disturb less than the time of day.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
from numpy.typing import NDArray
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from crack_pipeline.datasets.part_folder import PartFolder
from crack_pipeline.datasets.stack_joining import StackJoiner
from crack_pipeline.engines.blocks import Blocks
from crack_pipeline.imaging import duplicate_candidates, near_duplicates
from crack_pipeline.imaging.stack import StackPart
from crack_pipeline.pipelines.ingestion.developing import develop_all
from crack_pipeline.pipelines.ingestion.listing import list_files
from crack_pipeline.pipelines.ingestion.parameters import Image, Preset, Reading
from crack_pipeline.pipelines.ingestion.spreading import _Rows
from hostile import encoded
from ingesting import Workspace
from ray_hosts import Hosts, two_hosts, why_not
from small_ingestion import ingest, write_walls


def rate(options: argparse.Namespace, folder: Path) -> None:
    """Print photographs per second of the local engine, of one node and of two."""
    number = options.number[0]
    _write_alike(folder / "root", number, options.side)
    os.sched_setaffinity(0, {0})
    rates, whole = {}, {}
    for name in ("local engine", "1 node", "2 nodes"):
        if name == "local engine":
            parameters = {"reading": {"threads": 1, "chunk": options.block}}
            began = time.perf_counter()
            frames = develop_all(*_to_develop(folder / "root"), **_form(Reading(**parameters["reading"])))
            first = len(next(frames).photos)
            started = time.perf_counter()
            for _ in frames:
                ended = time.perf_counter()
            rates[name] = (number - first) / (ended - started)
            whole[name] = ended - began
            continue
        with two_hosts(nodes=("head", "other")[: int(name[0])], pinned=True) as hosts:
            done = _on_cluster(hosts, folder / "root", folder / name, options.block)
        whole[name] = done["seconds"]
        images = folder / name / "data/03_primary/ingestion/images"
        written = np.sort([path.stat().st_mtime for path in images.glob("fingerprints-*.npy")])
        start, stop = len(written) // 4, len(written) * 3 // 4
        rates[name] = (stop - start) * number / len(written) / (written[stop] - written[start])
    for name, found in rates.items():
        ratio = found / rates["local engine"]
        print(f"{name:<14}{found:8.0f} photographs/s{ratio:8.2f} × local engine{whole[name]:8.1f} s in all")
    print(f"efficiency of 2 nodes: {rates['2 nodes'] / (2 * rates['1 node']):.2f}")


def block(options: argparse.Namespace, folder: Path) -> None:
    """Print what the files of a part cost, where it is written and where it is taken over, beside decoding."""
    number = options.number[0]
    write_walls(folder / "root", 256, options.side)
    source, table = _to_develop(folder / "root")
    parts = PartFolder(folder / "parts", 2**28)
    seconds = {}
    for size in (1, 128, 256):
        rows = table.head(size)
        began = time.perf_counter()
        repeats = number if size == 1 else 4
        for at in range(repeats):
            parts.write(f"{size}-{at}", develop_all(source, rows, **_form(Reading(threads=1))))
        seconds[size] = (time.perf_counter() - began) / repeats
    each = (seconds[256] - seconds[128]) / 128
    (folder / "joined").mkdir()
    joiner = StackJoiner(folder / "joined")
    began = time.perf_counter()
    for at in range(number):
        joiner.append(StackPart(parts.read(f"1-{at}"), at, last=False))
    joined = (time.perf_counter() - began) / number
    joiner.close()
    began = time.perf_counter()
    content = [np.load(path) for path in sorted(folder.glob("parts/256-*/images-*.npy"))]
    with (folder / "copy").open("wb") as file:
        for array in content:
            file.write(array.data)
    copied = (time.perf_counter() - began) / sum(map(len, content))
    print(f"a photograph: {each * 1e3:.2f} ms; the files of a part: {(seconds[1] - each) * 1e3:.1f} ms")
    print(f"a part taken over where the command runs: {joined * 1e3:.1f} ms, of {number}")
    print(f"were its pictures copied there instead: {copied * 1e6:.1f} µs a picture of 128 px")


def memory(options: argparse.Namespace, folder: Path) -> None:
    """Print the peak memory of workers and of the process that runs the pipeline."""
    for number in options.number:
        root = folder / f"root {number}"
        _write_noise(root, number, options.side)
        with two_hosts() as hosts, _Peaks() as peaks:
            done = _on_cluster(hosts, root, folder / f"{number}", None)
        print(
            f"{number:>9,} photographs: {peaks.workers:6.0f} MiB of a worker, {done['peak']:6.0f} MiB where the "
            f"command runs; {done['seconds']:.0f} s in all",
            flush=True,
        )


def tables(options: argparse.Namespace, folder: Path) -> None:
    """Print what one process needs for the tables of photographs, which nobody shares: listing, blocks, hashes.

    Memory is what is left of each; the most that there was is printed at last.
    """
    number = options.number[0]
    files = [(f"district {at % 97}/Positive/{at:012d}.jpg", 20_000, "", "", str(at)) for at in range(number)]
    classes: dict[Any, list[str]] = {"crack": ["positive"], "normal": ["negative"]}
    preset = Preset(label_from="folder", classes=classes)

    def say(what: str, work: Any) -> Any:
        before, began = psutil.Process().memory_info().rss, time.process_time()
        result = work()
        spent, grown = time.process_time() - began, psutil.Process().memory_info().rss - before
        print(f"{what:<46}{spent / number * 1e6:8.1f} µs and {grown / number:8.0f} bytes a photograph", flush=True)
        return result

    photographs, _ = say("listing", lambda: list_files(files, preset, labelled=True, max_bytes=2**29))
    blocks = say("blocks", lambda: Blocks(_Rows(photographs), 1024, {}))
    print(f"{len(blocks):,} blocks")
    prints = np.zeros((number, near_duplicates.FINGERPRINT_SIZE), np.uint8)
    prints[:, 8:16] = np.arange(number, dtype=np.uint64)[:, None].view(np.uint8)
    found = say("table of hashes", lambda: near_duplicates.distinguish(prints))
    assert len(found.rows) == number
    kept = sum(column.nbytes for column in found)
    print(f"of these {kept / number:.0f} bytes are kept; a fingerprint in the stack has {prints.shape[1]:,}")
    some = np.arange(0, number - 1, 5)
    say("connected components", lambda: near_duplicates.connect(found, some, some + 1))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - prints.nbytes
    print(f"peak beside the fingerprints: {peak / 2**20:.0f} MiB, imports and what is listed included")


def search(options: argparse.Namespace, folder: Path) -> None:
    """Print what the search for partners costs among more and more photographs."""
    for number in options.number:
        maps = _coarse_maps(number)

        def everything(maps: NDArray[np.int8] = maps) -> Any:
            return ((start, maps[start : start + 65_536]) for start in range(0, len(maps), 65_536))

        band = min(options.band, number)
        wanted = {"minimum": 0.72, "shortlist": 64, "per_image": 8}
        began = time.process_time()
        pairs = duplicate_candidates.find_partners(maps[:band], 0, everything, **wanted)
        spent = time.process_time() - began
        whole = spent * number / band
        print(
            f"{number:>9,}: {spent / band * 1e3:8.2f} ms a photograph, {len(pairs.first) / band:5.2f} pairs to verify "
            f"each; {whole / 3600:8.2f} core hours in all ({band / number:.1%} of it measured)",
            flush=True,
        )
    maps = _coarse_maps(24_000)
    wanted = {"minimum": 0.72, "shortlist": 64, "per_image": 8}
    began = time.process_time()
    here = duplicate_candidates.find_candidates(maps, workers=1, **wanted)
    alone = time.process_time() - began
    bands = [
        duplicate_candidates.find_partners(maps[start : start + 4096], start, lambda: [(0, maps)], **wanted)
        for start in range(0, len(maps), 4096)
    ]
    there = duplicate_candidates.choose_pairs(bands, 8)
    spent = time.process_time() - began - alone
    assert all(np.array_equal(*columns) for columns in zip(here, there, strict=True))
    print(f"24,000 in bands: {spent / alone:.2f} × the time of the local engine, and the same pairs")
    prints = near_duplicates.fingerprint(np.random.default_rng(0).integers(0, 256, (4096, 64, 64), np.uint8))
    began = time.process_time()
    near_duplicates.distinguish(prints)
    print(f"reading and hashing a fingerprint: {(time.process_time() - began) / len(prints) * 1e6:.1f} µs")
    pairs = duplicate_candidates.Pairs(np.arange(2048), np.arange(2048) + 2048, np.zeros(2048, np.int64))
    began = time.process_time()
    near_duplicates.duplicate_verification.verify(
        pairs, lambda rows: near_duplicates.textures(prints, rows), minimum=0.55, workers=1
    )
    print(f"verifying a pair of different places: {(time.process_time() - began) / 2048 * 1e6:.0f} µs")


def _coarse_maps(number: int) -> NDArray[np.int8]:
    """Smooth noise, as coarse maps are; one in five is like another."""
    rng = np.random.default_rng(0)
    maps = np.empty((number, 16, 16), np.int8)
    for start in range(0, number, 10_000):
        noise = rng.normal(size=(min(10_000, number - start), 16, 16)).astype(np.float32)
        smooth = ndimage.gaussian_filter(noise, (0, 1, 1))
        maps[start : start + len(noise)] = np.clip(smooth * 300, -127, 127)
        alike = np.arange(start + 4, start + len(noise), 5)
        maps[alike] = np.rot90(maps[alike - 3], axes=(1, 2))
    return maps


def _write_alike(root: Path, number: int, side: int) -> None:
    """Write a few pictures many times, each time with other bytes behind its end."""
    write_walls(root, 20, side)
    for at, path in enumerate(sorted(root.rglob("*.jpg"))):
        content = path.read_bytes()
        path.unlink()
        for copy in range(number // 20):
            path.with_name(f"{at}-{copy:06d}.jpg").write_bytes(content + copy.to_bytes(4))


def _write_noise(root: Path, number: int, side: int) -> None:
    from PIL import Image as Picture

    for label in ("Negative", "Positive"):
        (root / label).mkdir(parents=True)
    for at in range(number):
        pixels = np.random.default_rng(at).integers(60, 200, (side, side), np.uint8)
        place = root / ("Positive" if at % 2 else "Negative") / f"{at:06d}.jpg"
        place.write_bytes(encoded(Picture.fromarray(pixels), "JPEG"))


def _to_develop(root: Path) -> tuple[Any, pd.DataFrame]:
    from crack_pipeline.datasets import RawRootDataset

    source = RawRootDataset(filepath=str(root)).load()
    entries = [entry for entry in source.list() if not entry.kind]
    table = pd.DataFrame({"path": [entry.path for entry in entries], "size": [entry.size for entry in entries]})
    return source, table.assign(label="normal", mask_path=None, source="", version="")


def _form(reading: Reading) -> dict[str, Any]:
    return {"preset": Preset(label_from="none"), "image": Image(), "reading": reading}


def _on_cluster(hosts: Hosts, root: Path, folder: Path, block: int | None) -> dict[str, float]:
    compute = {"engine": "ray", "address": hosts.address, "patience": 120} | ({"block": block} if block else {})
    command = [sys.executable, __file__, "inside", str(root), str(folder), json.dumps(compute)]
    done = hosts.run("head", *command, seconds=1500)
    assert done.returncode == 0, done.stdout[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def _inside(root: str, folder: str, compute: str) -> None:
    import crack_pipeline.engines.on_ray  # noqa: F401 - not part of the time

    began = time.perf_counter()
    workspace: Workspace = ingest(root, Path(folder), "folders", {"compute": json.loads(compute)}, partitioned=True)
    seconds = time.perf_counter() - began
    assert workspace.manifest["image_id"].is_unique
    print(json.dumps({"seconds": seconds, "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


class _Peaks:
    """The most memory that any worker has, in MiB, looked at four times a second."""

    def __enter__(self) -> _Peaks:
        self.workers = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.25):
            for process in psutil.process_iter(["cmdline", "memory_info"]):
                line = " ".join(process.info["cmdline"] or [])
                if line.startswith("ray::") and "Map" in line:
                    self.workers = max(self.workers, process.info["memory_info"].rss / 2**20)


def main() -> None:
    """Measure, or, inside of a host, work."""
    logging.disable(logging.INFO)
    if sys.argv[1:2] == ["inside"]:
        _inside(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = {"rate": rate, "block": block, "memory": memory, "tables": tables, "search": search}
    parser.add_argument("what", choices=what)
    parser.add_argument("--number", type=int, nargs="+")
    parser.add_argument("--side", type=int, help="px of a photograph")
    parser.add_argument("--block", type=int, default=32)
    parser.add_argument("--band", type=int, default=1024)
    options = parser.parse_args()
    usual: dict[str, list[int]] = {"rate": [3000], "block": [200], "tables": [200_000], "memory": [2500, 40_000]}
    options.number = options.number or usual.get(options.what, [10_000, 100_000, 1_000_000])
    options.side = options.side or {"memory": 64, "rate": 2048}.get(options.what, 227)
    if options.what in ("rate", "memory") and why_not():
        raise SystemExit(why_not())
    folder = Path(tempfile.mkdtemp(prefix="ray_ingestion"))
    try:
        what[options.what](options, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
