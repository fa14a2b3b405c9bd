"""Seconds per training epoch: this project beside a plain loop in the published style, in one run.

    python benchmarks/training.py --data <folder of photographs> [--images 1024] [--epochs 3]

The plain loop opens, converts and resizes each image with Pillow in ``__getitem__``, in fp32, without workers. Both
train the same network with the same loss, batch size and learning rate on the same images; epochs alternate, so that
a noisy machine is noisy for both. Without --data the images are rendered.
"""

from __future__ import annotations

import argparse
import io
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from crack_pipeline.imaging.decoding import prepare
from crack_pipeline.imaging.scenes import render_scene
from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.training.batches import loader, normalise
from crack_pipeline.training.compute import Compute, Plan, matrix_flops, resolve
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


class Decoded:
    """Images in memory; the stack of the pipeline is memory-mapped, which costs the same once it is cached."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Give some rows."""
        return self.images[rows]


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


def ours(files: list[bytes], plan: Plan) -> Iterator[tuple[float, float]]:
    """Yield the same of this project's training step on decoded images, as the plan chooses."""
    torch.manual_seed(0)
    images = Decoded(np.stack([prepare(np.array(Image.open(io.BytesIO(f))), SIZE, "grey") for f in files]))
    network = ConvVAE().to(plan.device).to(memory_format=torch.channels_last)
    if plan.compile:
        network.compile()
    module = VAETraining(network, learning_rate=RATE, kl_weight=KL_WEIGHT)
    optimiser = module.configure_optimizers()
    rows = np.arange(len(files))
    epoch = 0
    while True:
        started, losses = time.perf_counter(), []
        for batch in loader(images, rows, BATCH, seed=epoch, workers=plan.workers):
            with plan.autocast():
                loss = module.loss(normalise(batch, plan.device))
            optimiser.zero_grad()
            loss["loss"].backward()
            optimiser.step()
            losses.append(loss["reconstruction"].detach())
        yield time.perf_counter() - started, float(torch.stack(losses).mean())
        epoch += 1


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
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="torch.compile, which the plan leaves off on a CPU")
    options = parser.parse_args(arguments)

    files = read(options.data, options.images)
    plan = resolve(Compute(compile=True if options.compile else "auto"))
    print(f"{len(files)} images, plan: {plan.accelerator}, {plan.precision}, compile {plan.compile}")
    loops: dict[str, Callable[[], Iterator[tuple[float, float]]]] = {
        "plain": lambda: plain(files),
        "ours": lambda: ours(files, plan),
    }
    running = {name: loop() for name, loop in loops.items()}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for epoch in range(options.epochs):
        for name, loop in running.items():
            spent, loss = next(loop)
            seconds[name].append(spent)
            print(f"epoch {epoch + 1} {name:<6} {spent:7.1f} s {len(files) / spent:7.0f} images/s   loss {loss:.5f}")
    dtype = torch.float32 if plan.precision == "32-true" else torch.bfloat16
    side = 2048 if plan.accelerator == "cpu" else 8192
    peaks = {
        "plain": matrix_flops(torch.float32, torch.device("cpu"), 2048),
        "ours": matrix_flops(dtype, plan.device, side),
    }
    operations = flops_per_image()
    best = {name: min(values) for name, values in seconds.items()}
    for name in loops:
        rate = operations * len(files) / best[name]
        print(
            f"{name:<6} fastest epoch {best[name]:.1f} s: {rate / 1e9:.1f} GFLOP/s, {rate / peaks[name]:.0%} of the "
            f"{peaks[name] / 1e9:.0f} GFLOP/s of a matrix product at its precision"
        )
    print(f"ours is {best['plain'] / best['ours']:.2f} times as fast")


if __name__ == "__main__":
    main()
