import json
from contextlib import contextmanager

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging.photograph_stack import IGNORED, PhotographStack
from crack_pipeline.models.segmenters import create_segmenter
from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.training import fit as fit_module
from crack_pipeline.training.augmentation import Augmentation
from crack_pipeline.training.crops import Crops, GridCrops, RandomCrops
from crack_pipeline.training.fit import Batches, Watch, fit
from crack_pipeline.training.losses import CrossEntropy, Dice
from crack_pipeline.training.segmentation import SegmentationTraining
from crack_pipeline.training.vae import VAETraining


class KilledError(Exception):
    pass


class InMemory:
    """Images that training can take by rows: dark or bright slopes, so that there is something to learn."""

    def __init__(self, number=48, size=16):
        rng = np.random.default_rng(0)
        y, x = np.mgrid[0:size, 0:size] / size - 0.5
        slopes = rng.uniform(-60, 60, (number, 2, 1, 1))
        level = rng.choice([60, 200], (number, 1, 1))
        grey = level + slopes[:, 0] * y + slopes[:, 1] * x + rng.normal(0, 2, (number, size, size))
        self.pixels = grey.clip(0, 255).astype(np.uint8)

    def take(self, rows):
        return self.pixels[rows]


@pytest.fixture(scope="session")
def images():
    return InMemory()


@pytest.fixture(scope="session")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", batch_size=16, workers=0))


@pytest.fixture
def killed(monkeypatch):
    """Everything that is trained inside ``with killed(epoch):`` dies in the middle of that epoch."""

    @contextmanager
    def killed(epoch):
        def die(self, trainer, pl_module, outputs, batch, batch_idx):
            if (trainer.current_epoch, batch_idx) == (epoch, 2):
                raise KilledError

        with monkeypatch.context() as patched:
            patched.setattr(fit_module.Progress, "on_train_batch_end", die)
            with pytest.raises(KilledError):
                yield

    return killed


@pytest.fixture
def train(images, plan, tmp_path):
    """Train a new tiny network; gives its weights and the history."""

    def train(
        epochs=4,
        *,
        seed=0,
        one_cycle=False,
        rate=1e-2,
        initial=0,
        plan=plan,
        checkpoints=tmp_path / "checkpoints",
        watch=None,
        callbacks=(),
        **identity,
    ):
        torch.manual_seed(initial)
        network = ConvVAE(16, 1, (4, 8), latent=4)
        steps = epochs * 5 if one_cycle else None
        module = VAETraining(network, learning_rate=rate, kl_weight=0.01, one_cycle_steps=steps, seed=seed)
        history = fit(
            module,
            Batches(images, np.arange(40), np.arange(40, 48), batch_size=8, seed=seed, workers=plan.workers),
            plan,
            epochs=epochs,
            checkpoints=checkpoints,
            identity={"data": "slopes", **identity},
            watch=watch,
            callbacks=callbacks,
        )
        return weights(network), history

    return train


def weights(network):
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def write_stack(folder, photographs, masks):
    """Write photographs as the catalog does."""
    folder.mkdir()
    about = {"count": len(photographs), "channels": 1 if photographs[0].ndim == 2 else 3}
    for name, arrays in (("pixels", photographs), ("masks", masks)):
        flat = np.concatenate([array.ravel() for array in arrays])
        np.save(folder / f"{name}-00000.npy", flat)
        about[name] = [len(flat)]
    fingerprints = {"shape": [0, 4], "rows": []}
    (folder / "stack.json").write_text(json.dumps({"format": 1, "fingerprints": fingerprints, "photographs": about}))
    sizes = [photograph.shape[:2] for photograph in photographs]
    pd.DataFrame(sizes, columns=["height", "width"]).to_parquet(folder / "index.parquet")
    return PhotographStack(folder)


@pytest.fixture(scope="session")
def stack(tmp_path_factory):
    """Write a stack: ``stack(photographs, masks)``."""
    return lambda photographs, masks: write_stack(tmp_path_factory.mktemp("stack") / "stack", photographs, masks)


@pytest.fixture(scope="session")
def lines(stack):
    """Photographs of sizes of their own: dark lines on rough grey, one photograph without, one smaller than a crop."""
    rng = np.random.default_rng(0)
    photographs, masks = [], []
    for number in range(12):
        height, width = (20, 50) if number == 3 else (int(side) for side in rng.integers(40, 90, 2))
        mask = np.zeros((height, width), np.uint8)
        for _ in range(0 if number == 5 else 2):
            start, stop = ([int(rng.integers(side)) for side in (width, height)] for _ in range(2))
            cv2.line(mask, start, stop, 1, 3)
        grey = rng.uniform(120, 180) + rng.normal(0, 12, (height, width, 3)) - 70.0 * mask[..., None]
        mask[:2, :7] = IGNORED
        photographs.append(grey.clip(0, 255).astype(np.uint8))
        masks.append(mask)
    return stack(photographs, masks)


@pytest.fixture
def segment(lines, plan, tmp_path):
    """Train a tiny segmenter on the lines; gives the module and the history."""

    def segment(
        epochs=3,
        *,
        steps=4,
        batch_size=4,
        size=32,
        centred=0.5,
        optimiser="adamw",
        rate=3e-2,
        schedule="one_cycle",
        average=0.9,
        augmentation=None,
        seed=0,
        initial=0,
        patience=None,
        plan=plan,
        checkpoints=tmp_path / "checkpoints",
        prepare=lambda network: None,
        callbacks=(),
    ):
        torch.manual_seed(initial)
        network = create_segmenter({"name": "unet", "levels": 2, "base_channels": 8, "upsampling": "nearest"})
        prepare(network)
        module = SegmentationTraining(
            network.to(memory_format=torch.channels_last),
            terms=(CrossEntropy(), Dice()),
            augmentation=augmentation or Augmentation(rotation=0.5),
            optimiser=optimiser,
            learning_rate=rate,
            weight_decay=1e-2,
            steps=epochs * steps,
            schedule=schedule,
            average=average,
            seed=seed,
        )
        data = Crops(
            RandomCrops(lines, np.arange(8), size=size, batch_size=batch_size, steps=steps, centred=centred),
            GridCrops(lines, np.arange(8, 12), size=size, batch_size=batch_size, most=12),
            batch_size=batch_size,
            steps=steps,
            seed=seed,
            workers=plan.workers,
        )
        history = fit(
            module,
            data,
            plan,
            epochs=epochs,
            checkpoints=checkpoints,
            identity={"data": "lines", "precision": plan.precision, "patience": patience, "rate": rate},
            watch=Watch("validation_dice", "max", patience),
            callbacks=callbacks,
        )
        return module, history

    return segment
