import numpy as np
import pandas as pd
import pytest
import torch

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.anomaly.parameters import Report, Scoring
from crack_pipeline.pipelines.ingestion.parameters import Image

ROLES = ("train", "validation", "test", "external")


class Pictures:
    """Twenty-four noisy images of 16 px, by rows; every second one has a dark line."""

    def __init__(self):
        self.pixels = np.random.default_rng(0).integers(100, 140, (24, 16, 16), np.uint8)
        self.pixels[1::2, :, 7:9] -= 80
        self.index = pd.DataFrame({"image_id": [f"id{i:02d}" for i in range(24)]})

    def take(self, rows):
        return self.pixels[rows]


@pytest.fixture(scope="session")
def images():
    return Pictures()


@pytest.fixture
def manifest():
    number = np.arange(24)
    return pd.DataFrame(
        {
            "image_id": [f"id{i:02d}" for i in number],
            "photo_id": [f"id{i:02d}" for i in number],
            "path": [f"folder/{i}.jpg" for i in number],
            "label": np.where(number % 2, "crack", "normal"),
            "group": number,
            "row": number,
        }
    )


@pytest.fixture
def partition(manifest):
    # Backwards, so that nothing may rely on the two tables having one order; pairs share a group.
    number = np.arange(24)
    roles = [ROLES[i // 6] for i in number]
    return pd.DataFrame({"image_id": manifest["image_id"], "role": roles, "group": number // 2})[::-1]


@pytest.fixture(scope="session")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", batch_size=5, workers=0))


@pytest.fixture(scope="session")
def image():
    return Image(size=16)


@pytest.fixture(scope="session")
def weights(image):
    torch.manual_seed(0)
    options = {"image_size": 16, "image_channels": 1, "channels": [4, 8], "latent": 4, "kernel": 3}
    facts = {"detector": "vae", "network": options, "image": image.model_dump(mode="json"), "data": {}}
    return Weights(ConvVAE(**options).state_dict(), facts)


@pytest.fixture(scope="session")
def scoring():
    return Scoring.model_validate(
        {"candidates": [{"kind": "ridge", "width": 1}, {"kind": "dark_tail"}, {"kind": "mse"}]}
    )


@pytest.fixture(scope="session")
def report():
    return Report(resamples=30, examples=2, error_maps=3)
