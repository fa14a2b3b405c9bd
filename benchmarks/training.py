"""Seconds per training epoch: this project beside a plain loop in the published style, in one run.

    python benchmarks/training.py --data <folder of photographs> [--images 1024] [--epochs 4]

The plain loop opens, converts and resizes each image with Pillow in ``__getitem__``, in fp32, without workers. Both
train the same network with the same loss, batch size and learning rate on the same images; half of the plain epochs
run before and half after this project's, so that a noisy machine is noisy for both. Without --data the images are
rendered.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from crack_pipeline.engines.compute import Compute, Plan, matrix_flops, resolve
from crack_pipeline.imaging.decoding import prepare
from crack_pipeline.imaging.scenes import render_scene
from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.training.fit import Batches, fit
from crack_pipeline.training.vae import VAETraining, kl_divergence

BATCH, RATE, KL_WEIGHT, SIZE = 32, 1e-3, 0.1, 128


class Opened(Dataset[Tensor]):
    """The published style: every image is opened, converted and resized whenever it is asked for."""

    def __init__(self, files: list[bytes]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, at: int) -> Tensor:
        image = Image.open(io.BytesIO(self.files[at])).convert("L").resize((SIZE, SIZE))
        return torch.from_numpy(np.array(image)).unsqueeze(0).float() / 255


def read(folder: Path | None, n: int) -> list[bytes]:
    """Read or render n JPEG files."""
    if folder is not None:
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg"))[:n]
        if not paths:
            raise SystemExit(f"there is no JPEG file in {folder}")
        return [p.read_bytes() for p in paths]
    files = []
    for i in range(n):
        scene = render_scene((227, 227), np.random.default_rng([0, i]), 0.5, False)
        buffer = io.BytesIO()
        pixels = scene.image if scene.image.dtype == np.uint8 else (scene.image * 255).astype(np.uint8)
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        files.append(buffer.getvalue())
    return files


def plain(files: list[bytes]) -> Iterator[tuple[float, float]]:
    """Yield seconds and mean reconstruction loss of each epoch of the plain loop."""
    torch.manual_seed(0)
    network = ConvVAE()
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    batches = DataLoader(Opened(files), BATCH, shuffle=True)
    while True:
        started, losses = time.perf_counter(), []
        for images in batches:
            output = network(images)
            reconstruction = mse_loss(output.reconstruction, images)
            loss = reconstruction + KL_WEIGHT * kl_divergence(output.mean, output.log_variance) / SIZE**2
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(reconstruction.item())
        yield time.perf_counter() - started, float(np.mean(losses))


def ours(files: list[bytes], plan: Plan, epochs: int) -> tuple[float, list[float]]:
    """Give seconds per epoch of this project, and each epoch's mean reconstruction loss.

    All that a training does is in it: reading the memory-mapped stack, Lightning, validation (of one image) and a
    checkpoint per epoch. Decoding is not: the ingestion does it once, and says how fast.
    """
    torch.manual_seed(0)
    started = time.perf_counter()
    images = np.stack([prepare(np.array(Image.open(io.BytesIO(f))), SIZE, "grey") for f in files])
    print(f"decoded once in {time.perf_counter() - started:.1f} s, on one thread")
    network = ConvVAE().to(memory_format=torch.channels_last)
    if plan.compile:
        network.compile()
    module = VAETraining(network, learning_rate=RATE, kl_weight=KL_WEIGHT)
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "images-00000.npy"), images)
        stack = Mapped(Path(folder, "images-00000.npy"))
        started = time.perf_counter()
        history = fit(
            module,
            Batches(stack, np.arange(len(files)), np.arange(1), batch_size=BATCH, seed=0, workers=plan.workers),
            plan,
            epochs=epochs,
            checkpoints=Path(folder, "checkpoints"),
            identity={},
        )
        seconds = (time.perf_counter() - started) / epochs
    return seconds, history["train_reconstruction"].tolist()


class Mapped:
    """A memory-mapped shard, read as the image stack reads its shards."""

    def __init__(self, path: Path) -> None:
        self.images = np.load(path, mmap_mode="r")

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Give some rows."""
        return np.asarray(self.images[rows])


def flops_per_image() -> float:
    """Count the operations of one training step for one image."""
    network, image = ConvVAE(), torch.rand(1, 1, SIZE, SIZE)
    with FlopCounterMode(display=False) as counter:
        network(image).reconstruction.sum().backward()
    return float(counter.get_total_flops())


def main(arguments: list[str] | None = None) -> None:
    """Print one line per epoch and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = os.environ.get("CRACK_PIPELINE_DATA")
    parser.add_argument("--data", type=Path, default=Path(root, "metu", "Negative") if root else None)
    parser.add_argument("--images", type=int, default=1024)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--compile", action="store_true", help="torch.compile, which the plan leaves off on a CPU")
    options = parser.parse_args(arguments)

    files = read(options.data, options.images)
    plan = resolve(Compute(compile=True if options.compile else "auto"))
    print(f"{len(files)} images, plan: {plan.accelerator}, {plan.precision}, compile {plan.compile}")
    loop = plain(files)
    half = max(1, options.epochs // 2)
    before = [next(loop) for _ in range(half)]
    ours_seconds, ours_losses = ours(files, plan, options.epochs)
    after = [next(loop) for _ in range(options.epochs - half)]
    plain_losses = [loss for _, loss in before + after]
    plain_seconds = float(np.mean([spent for spent, _ in before + after]))
    for epoch in range(options.epochs):
        print(f"epoch {epoch + 1}: loss of the plain loop {plain_losses[epoch]:.5f}, ours {ours_losses[epoch]:.5f}")
    mean = {"plain": plain_seconds, "ours": ours_seconds}
    dtype = torch.float32 if plan.precision == "32-true" else torch.bfloat16
    side = 2048 if plan.accelerator == "cpu" else 8192
    peaks = {
        "plain": matrix_flops(torch.float32, torch.device("cpu"), 2048),
        "ours": matrix_flops(dtype, plan.device, side),
    }
    operations = flops_per_image()
    for name, spent in mean.items():
        rate = operations * len(files) / spent
        print(
            f"{name:<6} {spent:.1f} s per epoch, {len(files) / spent:.0f} images/s: {rate / 1e9:.1f} GFLOP/s, "
            f"{rate / peaks[name]:.0%} of the {peaks[name] / 1e9:.0f} GFLOP/s of a matrix product at its precision"
        )
    limit = peaks["ours"] / operations * plain_seconds / len(files)
    print(f"ours is {mean['plain'] / mean['ours']:.2f} times as fast; at the full peak it would be {limit:.2f} times")


if __name__ == "__main__":
    main()
