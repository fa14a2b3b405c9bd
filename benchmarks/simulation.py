"""Squares with simulated cracks per second and core, beside the training step that they feed, in one run.

    python benchmarks/simulation.py [--data <folder>] [--size 128] [--batch 32] [--steps 12] [--workers 0]

Squares of sound concrete come from the training photographs of DeepCrack (``train_img`` and ``train_lab``), or, without
them, from rendered ones. The rate is measured on one thread, with the parameters of ``label_free``. The training is
that of ``label_free``, once with squares as they are rendered, once with one batch that lies ready: the difference is
what rendering costs, and the time that a step waits for its batch is printed, too.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from PIL import Image

from crack_pipeline.engines.compute import Compute, Plan, resolve
from crack_pipeline.imaging.camera_traces import measure_traces
from crack_pipeline.imaging.crack_free import find_places
from crack_pipeline.imaging.scenes import render_scene
from crack_pipeline.imaging.simulated_squares import SimulatedSquares
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.models.segmenters import create_segmenter
from crack_pipeline.training.augmentation import Augmentation
from crack_pipeline.training.crops import Crops, Squares
from crack_pipeline.training.fit import fit
from crack_pipeline.training.losses import CrossEntropy, Dice
from crack_pipeline.training.segmentation import SegmentationTraining
from crack_pipeline.training.synthetic import GeneratedSquares, Generator

NETWORK = {"name": "unet", "levels": 5, "base_channels": 24, "patch": 2, "upsampling": "nearest"}
MOST = 64


class Photographs:
    """Photographs and masks in memory."""

    def __init__(self, pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
        self.pairs = pairs
        self.sizes = np.array([mask.shape for _, mask in pairs], np.int64)

    def mask(self, row: int) -> NDArray[np.uint8]:
        """Give one mask."""
        return self.pairs[row][1]

    def crops(self, rows: NDArray[np.int64], corners: NDArray[np.int64], size: int) -> Squares:
        """Cut squares that lie inside."""
        cut = [
            [array[y : y + size, x : x + size] for array in self.pairs[row]]
            for row, (y, x) in zip(rows.tolist(), corners.tolist(), strict=True)
        ]
        return np.stack([image for image, _ in cut]), np.stack([mask for _, mask in cut])


class Ready:
    """One batch, over and over."""

    def __init__(self, generator: Generator, size: int, batch: int) -> None:
        self.images, self.masks = generator.squares(np.arange(batch), size)

    def squares(self, seeds: NDArray[np.int64], size: int) -> Squares:
        """Give it again."""
        return self.images[: len(seeds)], self.masks[: len(seeds)]


class Clock(Callback):
    """Times the steps after the first few."""

    def __init__(self, warm_up: int) -> None:
        self.warm_up, self.steps, self.seconds = warm_up, 0, 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        """Count a step."""
        now = time.perf_counter()
        self.steps += 1
        if self.steps == self.warm_up:
            self.began = now
        elif self.steps > self.warm_up:
            self.seconds = now - self.began

    @property
    def per_step(self) -> float:
        """Seconds."""
        return self.seconds / (self.steps - self.warm_up)


class TimedCrops(Crops):
    """Squares, and how long each batch was waited for."""

    waited: list[float]

    def train_dataloader(self) -> Any:
        """Give this epoch's batches."""
        return _Timed(super().train_dataloader(), self.waited)


class _Timed:
    def __init__(self, loader: Any, waited: list[float]) -> None:
        self.loader, self.waited = loader, waited

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        while True:
            began = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            self.waited.append(time.perf_counter() - began)
            yield batch


def read(folder: Path | None) -> Photographs:
    """Read photographs with masks, or render some."""
    if folder is None:
        scenes = [render_scene((384, 544), np.random.default_rng([0, n]), 0.5, True) for n in range(12)]
        return Photographs([(scene.image, scene.mask.astype(np.uint8)) for scene in scenes])
    pairs = []
    for path in sorted((folder / "train_img").glob("*.jpg"))[:MOST]:
        mask = folder / "train_lab" / f"{path.stem}.png"
        pairs.append((np.array(Image.open(path).convert("RGB")), (np.array(Image.open(mask).convert("L")) > 127) * 1))
    if not pairs:
        raise SystemExit(f"there are no photographs in {folder}/train_img")
    return Photographs([(image, mask.astype(np.uint8)) for image, mask in pairs])


def train(generator: Generator, options: argparse.Namespace, plan: Plan) -> tuple[float, float]:
    """Give seconds per step, and seconds that a step waits for its batch."""
    torch.manual_seed(0)
    source = GeneratedSquares(generator, size=options.size, batch_size=options.batch, steps=options.steps)
    one = GeneratedSquares(generator, size=options.size, batch_size=1, steps=1)
    data = TimedCrops(source, one, batch_size=options.batch, steps=options.steps, seed=0, workers=options.workers)
    data.waited = []
    module = SegmentationTraining(
        create_segmenter(NETWORK).to(memory_format=torch.channels_last),
        terms=(CrossEntropy(), Dice()),
        augmentation=Augmentation(),
        optimiser="adamw",
        learning_rate=2e-3,
        weight_decay=1e-2,
        steps=options.steps,
        schedule="one_cycle",
        average=0.998,
        seed=0,
    )
    clock = Clock(options.steps // 3)
    with tempfile.TemporaryDirectory() as folder:
        fit(module, data, plan, epochs=1, checkpoints=Path(folder), identity={}, callbacks=[clock])
    return clock.per_step, float(np.mean(data.waited[options.steps // 3 :]))


def main() -> None:
    """Measure and print."""
    root = os.environ.get("CRACK_PIPELINE_DATA")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(root, "deepcrack") if root else None)
    parser.add_argument("--size", type=int, default=128, help="side of a square, px")
    parser.add_argument("--batch", type=int, default=32, help="squares in a batch")
    parser.add_argument("--steps", type=int, default=12, help="of each training; a third of them is a warm-up")
    parser.add_argument("--workers", type=int, default=0, help="processes that render ahead")
    parser.add_argument("--squares", type=int, default=1000, help="that are rendered to measure the rate")
    options = parser.parse_args()

    photographs = read(options.data)
    rows = list(range(len(photographs.pairs)))
    places = find_places(photographs, rows, options.size)
    traces = {row: measure_traces(photographs.pairs[row][0]) for row in rows}
    generator = SimulatedSquares(photographs, places, traces, Simulation())
    print(f"{len(places.rows):,} squares of sound concrete of {options.size} px in {len(rows)} photographs")

    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    generator.squares(np.arange(50), options.size)
    began = time.perf_counter()
    generator.squares(np.arange(options.squares), options.size)
    rate = options.squares / (time.perf_counter() - began)
    cv2.setNumThreads(threads)
    print(f"rendering: {rate:.0f} squares a second on one core (target: 300)")

    plan = resolve(Compute())
    rendered, waited = train(generator, options, plan)
    ready, _ = train(Ready(generator, options.size, options.batch), options, plan)
    print(f"training, {plan.accelerator} at {plan.precision}, {options.workers} workers:")
    print(f"  a step on squares as they are rendered: {rendered:.3f} s, {waited / rendered:.1%} of it waiting for them")
    print(f"  a step on squares that lie ready:       {ready:.3f} s; rendering costs {rendered / ready - 1:.1%}")


if __name__ == "__main__":
    main()
