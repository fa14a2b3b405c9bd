"""Nodes that train what the anomaly detector scores with."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crack_pipeline.engines.compute import Plan
from crack_pipeline.imaging.stack import ImageStack
from crack_pipeline.models.detectors import build_network as build_network
from crack_pipeline.models.detectors import kind_of
from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.anomaly.parameters import VAE, Detector, Scoring, Simulated
from crack_pipeline.pipelines.ingestion.parameters import Image
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights
from crack_pipeline.pipelines.segmentation.training import create_network, learn_simulated
from crack_pipeline.pipelines.simulating import simulated_images
from crack_pipeline.pipelines.steps import CHANNELS, check_same_run, rows_of, select

logger = logging.getLogger(__name__)

_FEW_STEPS = 200
_SMALLEST = 32


def check_network(
    image: Image, detector: Detector, vae: VAE, simulated: Simulated, scoring: Scoring
) -> VAE | Simulated:
    """Give the options of the detector that is to be trained, before any photograph is read.

    Raises
    ------
    ValueError
        If no score is one of this detector, if the image has no fixed size or cannot be halved as often as the
        autoencoder has convolutions, or is not twice as large as the cracks that are to be simulated, or if options of
        the segmenter do not go together.
    """
    scoring.of(detector)
    if detector.root == "simulated":
        widest = simulated.simulation.width_px[1]
        least = max(_SMALLEST, math.ceil(2 * widest))
        if image.size is None or image.size < least:
            raise ValueError(
                f"anomaly.image.size is {image.size}; with simulated cracks of up to {widest:g} px it must be at least "
                f"{least}: raise it, or lower anomaly.simulated.simulation.width"
            )
        _create(image, simulated)
        return simulated
    divisor = 2 ** len(vae.channels)
    if image.size is None or image.size % divisor:
        raise ValueError(
            f"anomaly.image.size is {image.size}; with {len(vae.channels)} entries in anomaly.vae.channels it must be "
            f"divisible by {divisor}"
        )
    return vae


def train_detector(
    images: ImageStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    data_fingerprint: Mapping[str, Any],
    image: Image,
    network: VAE | Simulated,
    plan: Plan,
    checkpoints: Path,
) -> tuple[Weights, pd.DataFrame]:
    """Train on the sound images of the role ``train``: an autoencoder, or a segmenter of simulated cracks.

    Parameters
    ----------
    images
        Image stack.
    manifest, partition
        Which of its rows show sound concrete, and which may be learned from.
    data_fingerprint
        Decides, with the parameters, whether an interrupted training may go on.
    image
        How the stack was prepared.
    network
        Network and training, of the kind of detector that is wanted.
    plan
        Compute plan.
    checkpoints
        Folder for the checkpoints.

    Returns
    -------
    Weights
        Of the autoencoder's last epoch, or of the segmenter's best one on simulated cracks; ``facts["detector"]`` says
        which it is, ``facts["network"]`` holds what rebuilds it, and ``facts["learned_from"]`` the photo_ids of what it
        has learned from or is chosen on.
    pandas.DataFrame
        One row per epoch: losses of training and validation.

    Raises
    ------
    ValueError
        If there are no sound images to train or validate on.
    """
    check_same_run(images, manifest)
    rows = {role: rows_of(select(manifest, partition, [role], label="normal")) for role in ("train", "validation")}
    for role, found in rows.items():
        if not len(found):
            raise ValueError(f"no sound image has the role {role}: add photographs or change the partition")
    if isinstance(network, Simulated):
        weights, history = _train_simulated(images, rows, data_fingerprint, image, network, plan, checkpoints)
    else:
        weights, history = _train_vae(images, rows, data_fingerprint, image, network, plan, checkpoints)
    # Those that choose score and threshold, too
    learned_from = sorted(set(select(manifest, partition, ["train", "validation"])["photo_id"]))
    return Weights(weights.tensors, {**weights.facts, "learned_from": learned_from}), history


def detector_of(weights: Weights) -> Detector:
    """Say which kind of detector some weights belong to; before there were others, all were autoencoders."""
    return Detector(kind_of(weights))


def _create(image: Image, simulated: Simulated) -> Weights:
    return create_network(image, simulated.network, EncoderWeights("none"), simulated.training)


def _train_vae(
    images: ImageStack,
    rows: Mapping[str, np.ndarray],
    data_fingerprint: Mapping[str, Any],
    image: Image,
    vae: VAE,
    plan: Plan,
    checkpoints: Path,
) -> tuple[Weights, pd.DataFrame]:
    # Lightning takes seconds to import, and only training needs it.
    from crack_pipeline.training.fit import Batches, fit
    from crack_pipeline.training.vae import VAETraining

    options: dict[str, Any] = {
        "image_size": image.size,
        "image_channels": CHANNELS[image.mode],
        "channels": list(vae.channels),
        "latent": vae.latent,
        "kernel": vae.kernel,
    }
    steps = math.ceil(len(rows["train"]) / vae.batch_size)
    epochs = max(vae.epochs, math.ceil(vae.least_steps / steps))
    if epochs * steps < _FEW_STEPS:
        logger.warning(
            "only %d training steps on %d images: expect a weak detector", epochs * steps, len(rows["train"])
        )
    torch.manual_seed(vae.seed)
    network = ConvVAE(**options)
    if plan.compile:
        network.compile()
    module = VAETraining(
        network.to(memory_format=torch.channels_last),
        learning_rate=vae.learning_rate,
        kl_weight=vae.kl_weight,
        one_cycle_steps=epochs * steps if vae.schedule == "one_cycle" else None,
        seed=vae.seed,
    )
    logger.info("training on %s sound images for %d epochs", f"{len(rows['train']):,}", epochs)
    history = fit(
        module,
        Batches(
            images,
            rows["train"],
            rows["validation"],
            batch_size=vae.batch_size,
            seed=vae.seed,
            workers=plan.workers,
        ),
        plan,
        epochs=epochs,
        checkpoints=checkpoints,
        identity={
            "data": data_fingerprint["fingerprint"],
            "vae": vae.model_dump(mode="json"),
            "precision": plan.precision,
        },
    )
    facts = {
        "detector": "vae",
        "network": options,
        "image": image.model_dump(mode="json"),
        "data": dict(data_fingerprint),
    }
    return Weights(network.state_dict(), facts), history


def _train_simulated(
    images: ImageStack,
    rows: Mapping[str, np.ndarray],
    data_fingerprint: Mapping[str, Any],
    image: Image,
    simulated: Simulated,
    plan: Plan,
    checkpoints: Path,
) -> tuple[Weights, pd.DataFrame]:
    training = simulated.training.model_copy(update={"crop": image.size})
    logger.info("training on cracks simulated on %s sound images", f"{len(rows['train']):,}")
    train, validation = (
        simulated_images(images, rows[role], simulated.simulation, role=role, seed=training.seed)
        for role in ("train", "validation")
    )
    weights, history = learn_simulated(
        train, validation, data_fingerprint, _create(image, simulated), training, plan, checkpoints
    )
    return Weights(weights.tensors, {**weights.facts, "detector": "simulated"}), history
