"""Requests per second and waiting times of served models, beside the bare network in the same run.

    python benchmarks/serving.py [--clients 1 8] [--rounds 3] [--seconds 5] [--detector …/detector.safetensors]
                                 [--segmenter …/segmenter.safetensors] [--guarded]

Registers a detector (128 px, as in conf/base) and a segmenter, untrained where no trained one is given: what it costs
to compute does not depend on what was learned. Each is served by ``mlflow models serve``, or, with ``--guarded``, by
``crack_pipeline.serving.server``, in a process of its own, and asked by clients that wait for their answer before they
ask again, with a JPEG a request. The bare network gets decoded pixels, one photograph after another, without any
request; the same with several in a batch says what is lost by answering one by one. Cores: set OMP_NUM_THREADS and
taskset as the server is to have them.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import torch

from crack_pipeline.datasets import RegisteredModelDataset
from crack_pipeline.engines.compute import Compute
from crack_pipeline.imaging.camera import encode_jpeg
from crack_pipeline.imaging.decoding import decode
from crack_pipeline.imaging.scenes import render_scene
from crack_pipeline.models.segmenters import create_segmenter
from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.models.weights import Weights, read_weights
from crack_pipeline.serving.answering import DetectorAnswers, SegmenterAnswers, plan_for
from crack_pipeline.serving.photographs import Limits
from crack_pipeline.serving.registration import Kind, Registration

BATCH = 16
SIDES = {"detector": 227, "segmenter": 512}
NAMES: dict[Kind, str] = {"detector": "anomaly", "segmenter": "segmentation"}


def untrained(kind: Kind) -> Weights:
    """Give weights in the form of a trained model."""
    torch.manual_seed(0)
    if kind == "detector":
        options = {"image_size": 128, "image_channels": 1, "channels": [32, 64, 128, 256], "latent": 128, "kernel": 3}
        facts = {
            "network": options,
            "image": {"size": 128, "mode": "grey"},
            "name": "dark_tail_1px_99",
            "score": {"kind": "dark_tail"},
            "thresholds": {"dark_tail_1px_99": 0.1},
        }
        return Weights(ConvVAE(**options).state_dict(), facts)
    options = {"name": "unet", "levels": 5, "base_channels": 24, "in_channels": 3}
    facts = {"network": options, "image": {"size": None, "mode": "rgb"}, "threshold": 0.5, "tiles": {}}
    return Weights(create_segmenter(options).state_dict(), facts)


def photographs(side: int, number: int = 8) -> list[bytes]:
    """Render JPEG files."""
    found = []
    for seed in range(number):
        image = render_scene((side, side), np.random.default_rng(seed), 0.5, seed % 2 == 0).image
        image = image if image.dtype == np.uint8 else (image * 255).astype(np.uint8)
        found.append(encode_jpeg(image))
    return found


def bare(kind: Kind, weights: Weights, files: list[bytes]) -> dict[str, tuple[int, Callable[[int], object]]]:
    """Give what the network alone is asked, by name: how many photographs at once, and a function that asks."""
    plan = plan_for(weights, Compute())
    if kind == "segmenter":
        segmenter = SegmenterAnswers(weights, plan, 20)
        pixels = [decode(data, mode=segmenter.mode) for data in files]
        return {"bare network": (1, lambda n: segmenter.answer(pixels[n % len(pixels)], mask=False))}
    detector = DetectorAnswers(weights, plan)
    prepared = [detector.prepare(decode(data, mode=detector.mode)) for data in files]
    return {
        "bare network": (1, lambda n: detector.answer([prepared[n % len(prepared)]])),
        f"bare, {BATCH} at once": (BATCH, lambda _: detector.answer((prepared * BATCH)[:BATCH])),
    }


def rate(work: Callable[[int], object], seconds: float) -> float:
    """Give how often a second something can be done."""
    work(0)
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        work(done)
        done += 1
    return done / (time.perf_counter() - began)


def serve(name: str, folder: Path, *, guarded: bool) -> tuple[subprocess.Popen[bytes], int, float]:
    """Start a server; gives its process, port and the seconds until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    address, mlflows = f"models:/{name}@champion", ["mlflow", "models", "serve", "--env-manager", "local", "-m"]
    command = [sys.executable, "-m", *(["crack_pipeline.serving.server"] if guarded else mlflows), address]
    began = time.perf_counter()
    with (folder / f"{name}.log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=os.environ | {"PATH": path, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return server, port, time.perf_counter() - began
        except OSError:
            if server.poll() is not None:
                raise RuntimeError((folder / f"{name}.log").read_text()) from None
            time.sleep(0.1)


def ask(port: int, bodies: list[bytes], clients: int, seconds: float) -> tuple[list[float], float]:
    """Ask with so many clients at once; gives the seconds of each answer, and answers per second up to the last."""
    waits: list[float] = []
    start = time.perf_counter()
    ends = start + seconds

    def client(first: int) -> None:
        connection, number = http.client.HTTPConnection("127.0.0.1", port), first
        while time.perf_counter() < ends:
            began = time.perf_counter()
            connection.request(
                "POST", "/invocations", bodies[number % len(bodies)], {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            said = response.read()
            if response.status != 200:
                raise RuntimeError(said.decode())
            waits.append(time.perf_counter() - began)
            number += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return waits, len(waits) / (time.perf_counter() - start)


def tell(kind: Kind, rates: dict[str, list[float]], asked: dict[int, list[tuple[list[float], float]]]) -> list[str]:
    """Give the lines of the result: the medians of all rounds."""
    start = f"{kind:<10} {SIDES[kind]} px"
    lines = [f"{start}  {what:<18} {np.median(found):8.1f}/s" for what, found in rates.items()]
    network = np.median(rates["bare network"])
    for clients, rounds in asked.items():
        served = float(np.median([served for _, served in rounds]))
        p50, p99 = np.percentile(np.concatenate([waits for waits, _ in rounds]) * 1000, [50, 99])
        what = f"{clients} client{'s' * (clients > 1)}"
        lines.append(
            f"{start}  {what:<18} {served:8.1f}/s  p50 {p50:6.0f} ms  p99 {p99:6.0f} ms  "
            f"{served / network:4.0%} of the bare network"
        )
    return lines


def main() -> None:
    """Register, serve, ask, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement in each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--guarded", action="store_true", help="ask the server of this project, not MLflow's")
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--segmenter", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.create_experiment("serving", artifact_location=str(folder / "artifacts"))
        mlflow.set_experiment("serving")
        lines = []
        for kind, name in NAMES.items():
            path = given.detector if kind == "detector" else given.segmenter
            weights = read_weights(path) if path else untrained(kind)
            files = photographs(SIDES[kind])
            with mlflow.start_run():
                began = time.perf_counter()
                settings = Limits().model_dump()
                RegisteredModelDataset(name=name).save(Registration(kind, weights, 0.5, {}, settings))
                print(f"{kind}: registered in {time.perf_counter() - began:.1f} s")
            mlflow.MlflowClient().set_registered_model_alias(name, "champion", "1")
            alone = bare(kind, weights, files)
            server, port, started = serve(name, folder, guarded=given.guarded)
            print(f"{kind}: server up in {started:.1f} s")
            try:
                bodies = [
                    json.dumps({"dataframe_records": [{"image": base64.b64encode(data).decode()}]}).encode()
                    for data in files
                ]
                ask(port, bodies, 1, 1)
                rates: dict[str, list[float]] = {what: [] for what in alone}
                asked: dict[int, list[tuple[list[float], float]]] = {clients: [] for clients in given.clients}
                # In turn, so that what else the machine does falls on all of them.
                for _ in range(given.rounds):
                    for what, (number, work) in alone.items():
                        rates[what].append(number * rate(work, given.seconds))
                    for clients in given.clients:
                        asked[clients].append(ask(port, bodies, clients, given.seconds))
                lines += tell(kind, rates, asked)
            finally:
                os.killpg(server.pid, signal.SIGTERM)
                server.wait()
        print("\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
