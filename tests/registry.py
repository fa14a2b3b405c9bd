"""Registered models in a database of their own, of weights that are written as a training writes them."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mlflow
import torch
from kedro.io import DatasetError

from crack_pipeline.datasets import ModelRegistryDataset, SafetensorsDataset
from crack_pipeline.evaluation.promotion import Comparison, Decision, Evidence
from crack_pipeline.models.weights import Weights
from warm_start import commit_at_once  # its server has imported what the processes below need

MODEL = "segmentation"
ROW = Comparison(
    metric="dice",
    champion=0.5,
    challenger=0.75,
    difference=0.25,
    low=0.125,
    high=0.375,
    may_lose=0.0,
    must_gain=0.0,
    least=None,
    verdict="better",
)


@contextmanager
def registry_in(folder: Path, database: Path) -> Iterator[mlflow.MlflowClient]:
    """Track in a copy of an empty database, and give a client of it."""
    before = mlflow.get_tracking_uri()
    shutil.copy(database, folder / "mlflow.db")
    use_registry(folder)
    try:
        yield mlflow.MlflowClient()
    finally:
        mlflow.set_tracking_uri(before)


def use_registry(folder: Path) -> None:
    """Let MLflow track in the database of a folder."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")


def some_weights(number: int) -> Weights:
    """Make weights that differ by a number."""
    return Weights({"layer": torch.full((4,), float(number))}, {"number": number})


def register(folder: Path, model: str, weights: Weights) -> int:
    """Register one more version of a model, whose files lie in a folder; give its number."""
    client = mlflow.MlflowClient()
    if not client.search_registered_models(f"name='{model}'"):
        client.create_registered_model(model)
    place = folder / "registered" / model / weights.fingerprint()
    SafetensorsDataset(filepath=str(place / "artifacts/weights.safetensors")).save(weights)
    return int(client.create_model_version(model, str(place)).version)


def decision(
    version: int, champion: int | None = None, *, promoted: bool = True, number: int | None = None
) -> Decision:
    """Decide about a version that holds the weights of a number, by default of its own."""
    return Decision(
        model=MODEL,
        challenger=version,
        champion=champion,
        fingerprint=some_weights(version if number is None else number).whole_fingerprint(),
        role="test",
        photographs="abc",
        evidence=Evidence(promoted=promoted, reason="it is better", rows=(ROW,), photographs=9, groups=7),
    )


def promote_at_once(
    folder: Path, decisions: Sequence[Sequence[Decision]], *, server: str | None = None
) -> list[tuple[int, str]]:
    """Save decisions in as many processes as there are lists; give each version with what was said against it.

    With the URI of a server, each process locks files of its own, as those of different machines do.
    """
    processes = multiprocessing.get_context("forkserver")
    start, told = processes.Barrier(len(decisions)), processes.Queue()
    started = [
        processes.Process(
            target=_save, args=(folder / str(number) if server else folder, list(own), start, told, server)
        )
        for number, own in enumerate(decisions)
    ]
    for process in started:
        process.start()
    found = [told.get(timeout=300) for own in decisions for _ in own]
    for process in started:
        process.join()
    return found


def _save(folder: Path, decisions: list[Decision], start: Any, told: Any, server: str | None) -> None:
    commit_at_once()
    mlflow.set_tracking_uri(server) if server else use_registry(folder)
    dataset = ModelRegistryDataset(filepath=str(folder / "locks"))
    start.wait()
    for one in decisions:
        try:
            dataset.save(one)
            told.put((one.challenger, ""))
        except DatasetError as error:
            told.put((one.challenger, str(error)))
