"""Small trained-looking models, and a registry that holds them."""

from __future__ import annotations

import shutil

import mlflow
import pytest
import torch

from crack_pipeline.datasets import RegisteredModelDataset
from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.models.segmenters import create_segmenter
from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.anomaly.registering import describe_model as describe_detector
from crack_pipeline.pipelines.ingestion.parameters import Reading
from crack_pipeline.pipelines.segmentation.parameters import Report
from crack_pipeline.pipelines.segmentation.registering import describe_model as describe_segmenter

THRESHOLD = 0.40625
METRICS = {"sets": {"test": {"dice": 0.8125, "dice_ci95": [0.7, 0.9], "n": 4, "nothing": None}}}
FINGERPRINT = {"fingerprint": "0123abcd", "images": 4}
READING = Reading(max_pixels=250_000, max_bytes=300_000, min_side=16)


@pytest.fixture(scope="session")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", batch_size=4))


@pytest.fixture(scope="session")
def segmenter(plan):
    torch.manual_seed(3)
    options = {"name": "unet", "levels": 2, "base_channels": 4, "in_channels": 3, "prior": 0.4}
    network = create_segmenter(options)
    *_, last = (module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    last.weight.data *= 200  # so that an untrained network is sure of something
    facts = {
        "network": options,
        "image": {"size": None, "mode": "rgb", "resize": True, "masks": True, "tiles": True},
        "threshold": THRESHOLD,
        "tiles": {"size": 96, "halo": 8, "blend": 8, "augmentations": 2, "half_size": False},
        "plan": plan.model_dump(mode="json"),
    }
    return Weights(network.state_dict(), facts)


@pytest.fixture(scope="session")
def detector(plan):
    torch.manual_seed(4)
    options = {"image_size": 32, "image_channels": 1, "channels": [4, 8], "latent": 4, "kernel": 3}
    facts = {
        "detector": "vae",
        "network": options,
        "image": {"size": 32, "mode": "grey", "resize": True, "masks": False, "tiles": True},
        "name": "dark_tail_1px_99",
        "score": {"kind": "dark_tail", "smoothing": 1.0, "quantile": 0.99},
        "thresholds": {"dark_tail_1px_99": 0.05, "mse": 0.1, "contrast": 0.2},
        "plan": plan.model_dump(mode="json"),
    }
    return Weights(ConvVAE(**options).state_dict(), facts)


@pytest.fixture(scope="session")
def registered(tmp_path_factory, database, segmenter, detector, plan):
    """The address of a registry in which ``segmentation`` and ``anomaly`` are registered, version 1 of each."""
    folder, before = tmp_path_factory.mktemp("registry"), mlflow.get_tracking_uri()
    shutil.copy(database, folder)
    address = f"sqlite:///{folder}/mlflow.db"
    mlflow.set_tracking_uri(address)
    mlflow.create_experiment("serving", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("serving")
    with mlflow.start_run():
        described = describe_segmenter(segmenter, METRICS, FINGERPRINT, Report(), READING, plan)
        RegisteredModelDataset(name="segmentation").save(described)
        RegisteredModelDataset(name="anomaly").save(describe_detector(detector, METRICS, FINGERPRINT, READING, plan))
    mlflow.set_tracking_uri(before)
    return address


@pytest.fixture(scope="module")
def registry(registered):
    """The registry that MLflow uses in a module of tests; gives its address."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(registered)
    yield registered
    mlflow.set_tracking_uri(before)
