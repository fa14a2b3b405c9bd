from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.pipelines.segmentation.parameters import Network, Training
from crack_pipeline.pipelines.segmentation_tuning.parameters import Space
from crack_pipeline.pipelines.segmentation_tuning.space import check

ROLES = ["train"] * 6 + ["validation"] * 3 + ["test"] * 3


class Photographs:
    """Twelve noisy photographs of 32 px in memory; each has a dark line, which is its crack."""

    channels = 1

    def __init__(self):
        self.pixels = np.random.default_rng(0).integers(100, 140, (12, 32, 32), np.uint8)
        self.masks = np.zeros((12, 32, 32), np.uint8)
        self.masks[:, :, 14:18] = CRACK
        self.pixels[self.masks == CRACK] -= 80
        self.sizes = np.full((12, 2), 32)
        self.index = pd.DataFrame({"image_id": [f"id{i:02d}" for i in range(12)]})

    def mask(self, row):
        return self.masks[row]

    def crops(self, rows, corners, size):
        assert size == 32
        return self.pixels[rows], self.masks[rows]


@pytest.fixture
def images():
    return Photographs()


@pytest.fixture
def manifest(images):
    number = np.arange(12)
    return pd.DataFrame(
        {
            "image_id": images.index["image_id"],
            "photo_id": images.index["image_id"],
            "path": [f"{i}.png" for i in number],
            "label": "crack",
            "group": number,
            "row": number,
            "crack_pixels": 128,
        }
    )


@pytest.fixture
def partition(manifest):
    return pd.DataFrame({"image_id": manifest["image_id"], "role": ROLES, "group": manifest["group"]})[::-1]


@pytest.fixture(scope="session")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", batch_size=4, workers=0))


@pytest.fixture(scope="session")
def network():
    return Network.model_validate({"name": "unet", "levels": 1, "base_channels": 2, "convolutions": 1})


@pytest.fixture(scope="session")
def training():
    return Training.model_validate({"batch_size": 2, "crop": 32, "average": 0.0, "validation_crops": 3})


@pytest.fixture(scope="session")
def make_space(network, training):
    """Check a space on the tiny network and training: ``make_space({name: dimension})``."""

    def make(dimensions, steps=4, steps_per_epoch=2):
        return check(Space(dimensions), network, training, steps=steps, steps_per_epoch=steps_per_epoch)

    return make


@pytest.fixture
def checkpoints(tmp_path) -> Path:
    return tmp_path / "checkpoints"
