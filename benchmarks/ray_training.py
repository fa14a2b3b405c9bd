"""Training steps per second on a Ray cluster of one and of two nodes, beside one process here, in one run.

    python benchmarks/ray_training.py [--side 128] [--batch 32] [--steps 12] [--epochs 3] [--rounds 1]

The nodes are two hosts with networks of their own on this machine, of one core each (root on Linux); gloo joins the
workers. Everywhere the same network learns from the same batches, of which each of two workers makes its half. The last
epoch counts, without its first step. What a run takes beside its steps is what Ray, the start of processes, validation
and checkpoints cost.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from crack_pipeline.engines.compute import Compute
from crack_pipeline.imaging.stack import Shards
from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.pipelines.steps import resolve_plan
from crack_pipeline.training.fit import Batches, fit
from crack_pipeline.training.vae import VAETraining

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from ray_hosts import Hosts, two_hosts, why_not


class Timed(VAETraining):
    """Writes down how long the last epoch took, from the end of its first step to that of its last."""

    output: Path
    ends: Sequence[float] = ()

    def on_train_epoch_start(self) -> None:
        """Begin a new epoch."""
        super().on_train_epoch_start()
        self.ends = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Note the end of a step."""
        self.ends = [*self.ends, time.perf_counter()]

    def on_train_end(self) -> None:
        """Write it down."""
        if self.global_rank == 0:
            (self.output / "seconds.json").write_text(json.dumps(self.ends[-1] - self.ends[0]))


def work(output: Path, options: argparse.Namespace) -> None:
    """Train, and print what came of it; this is what runs here or on a host."""
    torch.set_num_threads(1)
    plan = resolve_plan(Compute.model_validate_json(options.compute))
    rows = np.arange(options.batch * (options.steps + 1))
    images = Shards(output.parent, "images", (len(rows), options.side, options.side), [len(rows)])
    torch.manual_seed(0)
    module = Timed(ConvVAE(options.side), learning_rate=1e-3, kl_weight=0.1)
    module.output = output
    train, validation = rows[: -options.batch], rows[-options.batch :]
    data = Batches(images, train, validation, batch_size=options.batch, seed=0, workers=0)
    began = time.perf_counter()
    history = fit(module, data, plan, epochs=options.epochs, checkpoints=output, identity={})
    loss = history["validation_reconstruction"].iloc[-1]
    print(json.dumps({"whole": time.perf_counter() - began, "loss": loss}))


def run(name: str, folder: Path, options: Any, compute: Compute, hosts: Hosts | None = None) -> dict[str, float]:
    """Train once; gives steps per second, seconds of the whole training, and the loss."""
    output = Path(tempfile.mkdtemp(prefix=name.replace(" ", "-"), dir=folder))
    sizes = [f"--{name}={getattr(options, name)}" for name in ("side", "batch", "steps", "epochs")]
    command = [sys.executable, __file__, *sizes, f"--work={output}", f"--compute={compute.model_dump_json()}"]
    if hosts is None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    else:
        done = hosts.run("head", *command, seconds=1800)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stdout[-3000:]}{(done.stderr or '')[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    found["rate"] = (options.steps - 1) / json.loads((output / "seconds.json").read_text())
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print one line for each number of workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--compute", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.work is not None:
        work(options.work, options)
        return
    if why := why_not():
        raise SystemExit(why)
    base = Compute(accelerator="cpu", precision="32-true", batch_size=16, workers=0, patience=120)
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = (options.batch * (options.steps + 1), options.side, options.side)
        np.save(folder / "images-00000.npy", np.random.default_rng(0).integers(0, 256, shape, np.uint8))
        with two_hosts() as hosts:
            there = base.model_copy(update={"engine": "ray", "address": hosts.address})
            ways = {
                "one process": (base, None),
                "two processes": (base.model_copy(update={"devices": 2}), None),
                "one worker on Ray": (there.model_copy(update={"devices": 1}), hosts),
                "two nodes of Ray": (there.model_copy(update={"devices": 2}), hosts),
            }
            for _ in range(options.rounds):
                for way, (compute, where) in ways.items():
                    found.setdefault(way, []).append(run(way, folder, options, compute, where))
    alone = median(each["rate"] for each in found["one process"])
    for way, each in found.items():
        rate, whole = (median(one[what] for one in each) for what in ("rate", "whole"))
        steps = options.epochs * options.steps / rate
        print(
            f"{way:<18} {rate:6.2f} steps/s, {rate / alone:5.2f} times one process; {whole:.0f} s in all, "
            f"{max(0.0, whole - steps):.0f} s of them beside the steps; loss {each[0]['loss']:.5f}"
        )


if __name__ == "__main__":
    main()
