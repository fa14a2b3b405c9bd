"""A small training, to run by itself: on this machine, alone or with several processes, or on a cluster.

``python small_training.py vae|segmenter <folder> <output> <epochs> <seed> <Compute as JSON>``
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import torch
from torch import nn

from crack_pipeline import errors
from crack_pipeline.datasets import FolderDataset
from crack_pipeline.engines import cluster
from crack_pipeline.engines.compute import Compute, Plan
from crack_pipeline.imaging.stack import Shards
from crack_pipeline.models.segmenters import UNetOptions, create_segmenter
from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.pipelines.steps import resolve_plan
from crack_pipeline.training.augmentation import Augmentation
from crack_pipeline.training.crops import Crops, Squares
from crack_pipeline.training.fit import Batches, Watch, fit
from crack_pipeline.training.losses import CrossEntropy, Dice
from crack_pipeline.training.segmentation import SegmentationTraining
from crack_pipeline.training.synthetic import GeneratedSquares
from crack_pipeline.training.vae import VAETraining

TRAINED, ALL, SIDE, BATCH = 37, 48, 16, 8
UNCHANGED = Augmentation(flips=False, brightness=0, contrast=0, gamma=0, colour=0, blur=0, noise=0, jpeg=0)


def write_images(folder: Path) -> None:
    """Write dark and bright slopes, in two shards, so that there is something to learn."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    slopes = rng.uniform(-60, 60, (ALL, 2, 1, 1))
    grey = rng.choice([60, 200], (ALL, 1, 1)) + slopes[:, 0] * y + slopes[:, 1] * x
    pixels = (grey + rng.normal(0, 2, grey.shape)).clip(0, 255).astype(np.uint8)
    np.save(folder / "images-00000.npy", pixels[:30])
    np.save(folder / "images-00001.npy", pixels[30:])


def images(folder: Path) -> Shards:
    """Open them."""
    return Shards(folder, "images", (ALL, SIDE, SIDE), [30, ALL - 30])


def digest(network: nn.Module) -> str:
    """Give a hash of all parameters and statistics of a network."""
    tensors = network.state_dict().values()
    return hashlib.blake2b(b"".join(tensor.cpu().numpy().tobytes() for tensor in tensors)).hexdigest()


class _Noted(pl.LightningModule):
    """Writes down, in the end, the network of each process."""

    output: Path

    def on_train_end(self) -> None:
        network = self.result if isinstance(self, SegmentationTraining) else self.network
        (self.output / f"rank-{self.global_rank}.txt").write_text(digest(network))


class NotedVAE(_Noted, VAETraining):
    """The autoencoder."""


class NotedSegmenter(_Noted, SegmentationTraining):
    """A segmenter with normalisation by batches."""


class Lines:
    """Makes rough grey squares with a dark line."""

    def squares(self, seeds: np.ndarray, size: int) -> Squares:
        """See `synthetic.Generator`."""
        made = np.empty((len(seeds), size, size, 3), np.uint8)
        masks = np.zeros((len(seeds), size, size), np.uint8)
        for at, seed in enumerate(seeds):
            rng = np.random.default_rng(seed)
            row = rng.integers(size - 2)
            masks[at, row : row + 2] = 1
            grey = rng.normal(150, 20, (size, size, 3))
            grey[row : row + 2] -= 30
            made[at] = grey.clip(0, 255)
        return made, masks


def train(
    what: str,
    folder: Path,
    output: Path,
    plan: Plan,
    *,
    epochs: int,
    seed: int = 0,
    rate: float = 1e-2,
    augmentation: Augmentation | None = None,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train a small network; gives it, and the history."""
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    watch = None
    if what == "vae":
        module: Any = NotedVAE(ConvVAE(SIDE, 1, (4, 8), latent=4), learning_rate=rate, kl_weight=0.01, seed=seed)
        rows = np.arange(ALL)
        data: Any = Batches(
            images(folder), rows[:TRAINED], rows[TRAINED:], batch_size=BATCH, seed=seed, workers=plan.workers
        )
    else:
        module = NotedSegmenter(
            create_segmenter(UNetOptions(levels=2, base_channels=4, normalisation="batch")),
            terms=[CrossEntropy(), Dice()],
            augmentation=augmentation or Augmentation(),
            optimiser="adamw",
            learning_rate=rate,
            weight_decay=0.0,
            steps=epochs * 6,
            schedule="one_cycle",
            average=0.9,
            seed=seed,
        )
        shape = {"size": 32, "batch_size": BATCH}
        sources = GeneratedSquares(Lines(), **shape, steps=6), GeneratedSquares(Lines(), **shape, steps=3)
        data = Crops(*sources, batch_size=BATCH, steps=6, seed=seed)
        watch = Watch("validation_dice", "max")
    module.output = output
    identity = {"data": what}
    history = fit(module, data, plan, epochs=epochs, checkpoints=output / "ckpt", identity=identity, watch=watch)
    return module.result if what != "vae" else module.network, history


def begin(output: Path, compute: Compute) -> Plan:
    """Look at the cluster, where there is to be one, as the hooks of the project do."""
    if compute.engine == "ray":
        cluster.join(compute)
        cluster.check_everywhere([FolderDataset(filepath=str(output / "ckpt")).ticket()], compute.patience)
    return resolve_plan(compute)


if __name__ == "__main__":
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    errors.install()
    what, folder, output, epochs, seed, compute = sys.argv[1:]
    place = Path(output)
    plan = begin(place, Compute.model_validate_json(compute))
    network, history = train(what, Path(folder), place, plan, epochs=int(epochs), seed=int(seed))
    history.to_parquet(place / "history.parquet")
    (place / "ended.json").write_text(json.dumps({"digest": digest(network)}))
