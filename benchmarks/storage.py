"""What a store costs beside the disk, and how soon a server that cannot be used is given up.

    python benchmarks/storage.py

Puts a stack of 256 MiB and 2,000 masks into an S3-compatible store on this machine (moto), brings them to another
disk, and compares with a copy on the disk. Then asks servers that refuse or say nothing, reads photographs of a store
that goes away, and takes the right to write to a folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from crack_pipeline import surroundings
from crack_pipeline.datasets.places import DISK, SharedFolder
from crack_pipeline.datasets.raw_root import RemoteRoot
from crack_pipeline.imaging.decoding import StorageLostError
from servers import Way, free_port, served

BUCKET = "cracks"
REPEATS = 20


def main() -> None:
    """Run everything, and print a table of each."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as scratch, stored(Path(scratch)) as port:
        move_folders(Path(scratch))
        give_up(port)
        take_leases()


@contextmanager
def stored(folder: Path) -> Iterator[int]:
    """Run a store on this machine, whose client finds it; gives its port."""
    port = free_port()
    about = {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= about | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    with served(["moto.server", "-H", "127.0.0.1", "-p", str(port)], port, os.environ, folder / "moto"):
        fsspec.filesystem("s3").mkdir(BUCKET)
        yield port


def move_folders(scratch: Path) -> None:
    """Put folders into the store, bring them to another disk, and ask for them again there."""
    random = np.random.default_rng(0)
    print(f"\n{'seconds':<34}{'copied':>9}{'put':>9}{'brought':>9}{'again':>9}   put and brought, times the copy")
    folders = {"a stack of 256 MiB in 8 shards": (8, 2**25), "2,000 masks of 20 kB": (2000, 20_000)}
    for number, (name, (files, size)) in enumerate(folders.items()):
        os.environ[DISK] = str(scratch / "first")
        first = SharedFolder(f"s3://{BUCKET}/folder_{number}")
        first.folder.mkdir(parents=True)
        for file in range(files):
            (first.folder / f"{file:05d}").write_bytes(random.bytes(size))
        copied = seconds(lambda folder=first.folder: shutil.copytree(folder, scratch / "copy"))
        put = seconds(first.share)
        os.environ[DISK] = str(scratch / "second")
        second = SharedFolder(first.url)
        brought, again = seconds(second.bring), seconds(second.bring)
        ratios = f"{put / copied:.0f} and {brought / copied:.0f}"
        print(f"{name:<34}{copied:>9.2f}{put:>9.1f}{brought:>9.1f}{again:>9.3f}   {ratios}", flush=True)
        for folder in ("first", "second", "copy"):
            shutil.rmtree(scratch / folder)


def give_up(port: int) -> None:
    """Ask servers that cannot be used, and read from a store that has gone."""
    print("\nseconds until the message")
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(64)
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        gone = "http://127.0.0.1:1"
        tell("the tracking server refuses", lambda: surroundings.check_tracking(gone))
        tell("the tracking server says nothing", lambda: surroundings.check_tracking(address))
        tell("the bucket is missing", lambda: surroundings.check_storage("s3://nobodys-bucket/x"))
        with asked_at(gone):
            tell("the store refuses", lambda: surroundings.check_storage(f"s3://{BUCKET}/x"))
        with asked_at(address):
            tell("the store says nothing", lambda: surroundings.check_storage(f"s3://{BUCKET}/x"))
    for number in range(10):
        fsspec.filesystem("s3").pipe_file(f"{BUCKET}/photographs/{number}", b"photograph")
    way = Way(port, until=b"nothing that is ever sent")
    with asked_at(f"http://127.0.0.1:{way.port}"):
        root = RemoteRoot(fsspec.filesystem("s3"), f"{BUCKET}/photographs")
        paths = [entry.path for entry in root.list()]
        root.read(paths[0])
        way.close()
        tell("the store goes away while photographs are read", lambda: root.read(paths[1]))


def take_leases() -> None:
    """Take the right to write to a folder and give it back."""
    took = []
    for _ in range(REPEATS):
        lease = SharedFolder(f"s3://{BUCKET}/leased").lease()
        took.append((seconds(lease.take), seconds(lease.release)))
    take, release = (statistics.median(values) for values in zip(*took, strict=True))
    print(f"\nthe right to write to a folder: taken in {take:.2f} s, given back in {release:.2f} s ({REPEATS} times)")


@contextmanager
def asked_at(address: str) -> Iterator[None]:
    """Let the client of the store look elsewhere."""
    before, clients = os.environ["AWS_ENDPOINT_URL"], fsspec.get_filesystem_class("s3")
    os.environ["AWS_ENDPOINT_URL"] = address
    clients.clear_instance_cache()
    try:
        yield
    finally:
        os.environ["AWS_ENDPOINT_URL"] = before
        clients.clear_instance_cache()


def tell(what: str, ask: Callable[[], Any]) -> None:
    """Print how long it takes to refuse, and why."""
    began, said = time.monotonic(), "NOTHING"
    try:
        ask()
    except (surroundings.UnreachableError, StorageLostError) as error:
        said = str(error)
    print(f"{time.monotonic() - began:>8.1f}  {what}: {said}", flush=True)


def seconds(work: Callable[[], Any]) -> float:
    """Measure how long something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
