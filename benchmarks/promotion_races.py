"""Promote from many processes at once, and kill them, while somebody reads the champion all the time.

python benchmarks/promotion_races.py [--server]

Beside a SQLite database all processes share a lock file; with --server they share nothing but a real MLflow server, as
processes of different machines do, each with a lock file of its own.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import mlflow
from kedro.io import DatasetError

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"

from crack_pipeline.datasets import ModelRegistryDataset
from crack_pipeline.datasets.model_registry import ModelRegistry
from registry import MODEL, decision, register, some_weights

PROCESSES, PROMOTIONS, KILLS = 8, 50, 20
_processes = get_context("forkserver")


def main() -> None:
    """Run the races one after the other and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    logging.disable(logging.WARNING)
    parser.add_argument("--server", action="store_true", help="with an MLflow server instead of a SQLite database")
    server = parser.parse_args().server
    _processes.set_forkserver_preload(["mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store", "torch", "registry"])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        uri = f"sqlite:///{folder}/mlflow.db"
        mlflow.set_tracking_uri(uri)
        for version in range(1, PROMOTIONS + 2):
            register(folder, MODEL, some_weights(version))
        serving = _serve(folder, uri) if server else None
        if serving:
            uri = serving[1]
            mlflow.set_tracking_uri(uri)
        print(f"\nwith {'a server and no lock in common' if server else 'a SQLite database and a lock file'}")
        try:
            _save(folder, 1, None)
            _race(folder, uri, retry=False)
            _race(folder, uri, retry=True)
            if not server:
                _kill(folder, uri)
        finally:
            if serving:
                serving[0].terminate()
                serving[0].wait()


def _race(folder: Path, uri: str, *, retry: bool) -> None:
    """Let all want to win at once; with ``retry`` who lost compares again, with the champion of then."""
    before = len(_history(folder))
    champion = _registry(folder).standing(MODEL).champion
    versions = [version for version in range(1, PROMOTIONS + 2) if version != champion]
    stop, read = _processes.Event(), _processes.Queue()
    watcher = _processes.Process(target=_watch, args=(folder, uri, stop, read))
    watcher.start()
    read.get()
    told, start = _processes.Queue(), _processes.Barrier(PROCESSES)
    started = [
        _processes.Process(
            target=_promote, args=(folder, uri, number, versions[number::PROCESSES], champion, retry, start, told)
        )
        for number in range(PROCESSES)
    ]
    for process in started:
        process.start()
    began = [told.get() for _ in started]
    found = [told.get() for _ in versions]
    for process in started:
        process.join()
    stop.set()
    loads, failures, seen = read.get()
    watcher.join()
    history = _history(folder)
    whole = _is_chain(history)
    won = sum(wins for wins, _, _ in found)
    seconds = max(end for _, _, end in found) - min(began)
    name = "again until each has won" if retry else "all against one champion"
    print(
        f"{name}: {len(versions)} promotions from {PROCESSES} processes, {won} won, "
        f"{sum(lost for _, lost, _ in found)} times somebody lost; {len(history) - before} entries more in the "
        f"history, which {'is one chain' if whole else 'IS BROKEN'} to the champion; the champion was loaded "
        f"{loads:,} times meanwhile ({seen} different ones), {failures} times in vain; {seconds:.1f} s"
    )


def _kill(folder: Path, uri: str) -> None:
    """Kill a process that promotes, at random moments, and look at what is left."""
    outcome: Counter[str] = Counter()
    rng = random.Random(0)
    for _ in range(KILLS):
        before = _registry(folder).standing(MODEL).champion or 0
        version = before % (PROMOTIONS + 1) + 1
        ready = _processes.Queue()
        process = _processes.Process(target=_promote_often, args=(folder, uri, version, before, ready))
        process.start()
        ready.get()
        time.sleep(rng.uniform(0, 0.25))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        champion = _registry(folder).standing(MODEL).champion
        outcome["champion whole"] += _registry(folder).contenders(MODEL, champion).champion is not None
        outcome["undone entries left"] += sum(not entry.done for entry in _entries(folder))
        _save(folder, (champion or 0) % (PROMOTIONS + 1) + 1, champion)
        outcome["next promotion went well"] += 1
        outcome["one chain"] += _is_chain(_history(folder))
    print(f"killed at {KILLS} random moments: " + ", ".join(f"{name} {number}" for name, number in outcome.items()))


def _watch(folder: Path, uri: str, stop: Any, read: Any) -> None:
    mlflow.set_tracking_uri(uri)
    registry, loads, failures, seen = _registry(folder), 0, 0, set()
    read.put("ready")
    while not stop.is_set():
        loads += 1
        try:
            champion = registry.contenders(MODEL).champion
            if champion is None or champion.weights.facts["number"] != champion.version:
                failures += 1
            else:
                seen.add(champion.version)
        except DatasetError:
            failures += 1
    read.put((loads, failures, len(seen)))


def _promote(
    folder: Path, uri: str, number: int, versions: Sequence[int], champion: int, retry: bool, start: Any, told: Any
) -> None:
    mlflow.set_tracking_uri(uri)
    logging.disable(logging.WARNING)
    own = folder / f"machine_{number}"
    rng = random.Random(number)
    start.wait()
    told.put(time.monotonic())
    start.wait()
    for version in versions:
        lost = won = 0
        while not won and (retry or not lost):
            against = _registry(own).standing(MODEL).champion if retry else champion
            try:
                _save(own, version, against)
                won = 1
            except DatasetError:
                lost += 1
                time.sleep(rng.uniform(0, 0.5) if retry else 0)
        told.put((won, lost, time.monotonic()))


def _promote_often(folder: Path, uri: str, version: int, champion: int, ready: Any) -> None:
    mlflow.set_tracking_uri(uri)
    logging.disable(logging.WARNING)
    _registry(folder).standing(MODEL)
    ready.put("ready")
    while True:
        _save(folder, version, champion)
        version, champion = version % (PROMOTIONS + 1) + 1, version


def _save(folder: Path, version: int, champion: int | None) -> None:
    ModelRegistryDataset(filepath=str(folder / "locks")).save(decision(version, champion))


def _registry(folder: Path) -> ModelRegistry:
    return ModelRegistryDataset(filepath=str(folder / "locks")).load()


def _entries(folder: Path) -> Sequence[Any]:
    return _registry(folder)._champions(MODEL)._read()[0]


def _history(folder: Path) -> Sequence[Any]:
    return _registry(folder)._champions(MODEL).history()


def _is_chain(history: Sequence[Any]) -> bool:
    """Whether each champion took the place of the one before it, and the last one is the champion."""
    last = int(mlflow.MlflowClient().get_registered_model(MODEL).aliases["champion"])
    return (
        all(later.instead_of == earlier.version for earlier, later in pairwise(history)) and history[-1].version == last
    )


def _serve(folder: Path, store: str) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = ["server", "--backend-store-uri", store, "--default-artifact-root", str(folder / "artifacts")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    for _ in range(240):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"http://127.0.0.1:{port}"
        time.sleep(0.5)
    raise TimeoutError("the MLflow server did not come up")


if __name__ == "__main__":
    main()
