import numpy as np
import pytest
import torch

from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.training.compute import Compute, resolve
from crack_pipeline.training.fit import fit
from crack_pipeline.training.vae import VAETraining


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
def train(images, plan, tmp_path):
    """Train a new tiny network; gives its weights and the history."""

    def train(
        epochs=4, *, seed=0, one_cycle=False, initial=0, plan=plan, checkpoints=tmp_path / "checkpoints", **identity
    ):
        torch.manual_seed(initial)
        network = ConvVAE(16, 1, (4, 8), latent=4)
        steps = epochs * 5 if one_cycle else None
        module = VAETraining(network, learning_rate=1e-2, kl_weight=0.01, one_cycle_steps=steps, seed=seed)
        history = fit(
            module,
            images,
            np.arange(40),
            np.arange(40, 48),
            plan,
            epochs=epochs,
            batch_size=8,
            seed=seed,
            checkpoints=checkpoints,
            identity={"data": "slopes", **identity},
        )
        return {name: tensor.detach().cpu() for name, tensor in network.state_dict().items()}, history

    return train
