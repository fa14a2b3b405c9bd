"""Nodes that train the first network: from labels of squares, or from simulated cracks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crack_pipeline.engines.compute import Plan
from crack_pipeline.imaging.labelled_squares import LabelledSquares
from crack_pipeline.imaging.marked_photographs import MarkedPhotographs
from crack_pipeline.imaging.simulated_squares import SimulatedSquares
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.models.segmenters import ClassifierOptions
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Image
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Training
from crack_pipeline.pipelines.segmentation.training import (
    Pretrained,
    create_network,
    crop_side,
    learn_simulated,
    rebuild,
)
from crack_pipeline.pipelines.simulating import check_widths, squares_in
from crack_pipeline.pipelines.weak_segmentation.parameters import Labels, SelfTraining, Squares, Start, Way
from crack_pipeline.training.pooling import Pooling
from crack_pipeline.training.segmenting import Tiles, check_tiles

logger = logging.getLogger(__name__)

_LARGEST, _SHRUNK = 256, 1.5


def start_of(way: Way, self_training: SelfTraining) -> Start:
    """Give where a way begins."""
    return self_training.start if way.root == "self_training" else way.root


def create_networks(
    image: Image,
    network: Network,
    encoder_weights: EncoderWeights,
    training: Training,
    labels: Labels,
    pretrained: Pretrained,
    tiles: Tiles,
) -> tuple[Weights, Weights]:
    """Create the segmenter, and the classifier of the way ``maps``, before any photograph is read.

    Returns
    -------
    tuple of Weights
        Both with random weights.

    Raises
    ------
    ValueError
        As :func:`crack_pipeline.pipelines.segmentation.training.create_network` does, or if photographs would not be
        stored as they are, with the masks that there are.
    """
    if not image.masks or image.size is not None:
        raise ValueError(
            "weak_segmentation reads photographs at their own size, and measures itself where there are masks: set "
            "weak_segmentation.image.size to null and image.masks to where_given (or true)"
        )
    if training.patience is not None:
        raise ValueError(
            "weak_segmentation.training.patience must be null: a round is measured on simulated cracks alone, and they "
            "do not end it"
        )
    segmenter = create_network(image, network, encoder_weights, training, pretrained, tiles)
    options = ClassifierOptions(in_channels=1 if image.mode == "grey" else 3, widths=labels.widths)
    torch.manual_seed(labels.seed)
    classifier = options.build()
    check_tiles(Tiles.model_validate({}), classifier)
    facts = {"network": options.model_dump(mode="json"), "encoder_weights": "none", "image": image.model_dump()}
    return segmenter, Weights(classifier.state_dict(), facts)


def find_sound_concrete(
    train_squares: LabelledSquares,
    validation_squares: LabelledSquares,
    initial_weights: Weights,
    simulation: Simulation,
    start: Training,
    training: Training,
    self_training: SelfTraining,
) -> tuple[SimulatedSquares, SimulatedSquares]:
    """Find squares of sound concrete where labels say that there is no crack.

    Returns
    -------
    tuple of SimulatedSquares
        Of the roles ``train`` and ``validation``: cracks are simulated on them when they are asked for.

    Raises
    ------
    ValueError
        If there are none of that size, photographs are smaller than a crop of the rounds, or cracks would be wider than
        what they are drawn on, here or there.
    """
    stride = int(rebuild(initial_weights).stride)
    rows = train_squares.photograph_rows
    crop = crop_side(train_squares.photographs, rows, training.crop, stride, inside=True)
    largest = int(train_squares.photographs.sizes[rows].min(axis=1).max())
    if self_training.simulated and crop > largest:
        raise ValueError(
            f"all {len(rows):,} photographs are smaller than the {crop} px that the network takes at least: take one "
            "with fewer levels, or larger photographs"
        )
    check_widths(simulation, crop)
    train, validation = (
        squares_in(
            MarkedPhotographs(
                squares.photographs, ((row, squares.label_mask(row)) for row in squares.photograph_rows.tolist())
            ),
            squares.photograph_rows,
            simulation,
            role=role,
            size=start.crop,
            seed=start.seed,
            margin=0,
            called="weak_segmentation.start.crop",
        )
        for role, squares in (("train", train_squares), ("validation", validation_squares))
    )
    return train, validation


def learn_start(
    train_squares: LabelledSquares,
    validation_squares: LabelledSquares,
    sound_train: SimulatedSquares,
    sound_validation: SimulatedSquares,
    data_fingerprint: Mapping[str, Any],
    initial_weights: Weights,
    initial_classifier: Weights,
    label_free: Callable[[], Weights],
    way: Way,
    self_training: SelfTraining,
    labels: Labels,
    start: Training,
    squares: Squares,
    dataset: Dataset,
    plan: Plan,
    checkpoints: Path,
) -> tuple[Weights, pd.DataFrame]:
    """Train the first network, or load it.

    Parameters
    ----------
    train_squares, validation_squares
        Squares with labels.
    sound_train, sound_validation
        Those without a crack, to simulate some on.
    data_fingerprint
        Decides, with the parameters, whether an interrupted training may go on.
    initial_weights, initial_classifier
        Of the segmenter, and of the classifier.
    label_free
        Loads the newest segmenter of the pipeline ``label_free``.
    way, self_training
        Say which.
    labels, start
        How it learns from labels, and from simulated cracks.
    squares, dataset
        Said of the network, so that one that was trained otherwise is not taken for it.
    plan, checkpoints
        Compute plan, and folder for checkpoints.

    Returns
    -------
    Weights
        Its ``facts`` say how it was trained (``way``), how long its epochs took (``minutes``), which photographs it has
        learned from, and whether masks have said where these are sound (``masks_used``).
    pandas.DataFrame
        A row per epoch; none of what was loaded.

    Raises
    ------
    ValueError
        If the segmenter that is to be loaded takes other photographs; whatever a store raises where there is none.
    """
    kind = start_of(way, self_training)
    if kind == "label_free":
        weights, history = _loaded(label_free, initial_weights), pd.DataFrame({"epoch": []})
    elif kind == "simulated":
        weights, history = learn_simulated(
            sound_train, sound_validation, data_fingerprint, initial_weights, start, plan, checkpoints
        )
    else:
        first = initial_classifier if kind == "maps" else initial_weights
        weights, history = _learn_labels(
            train_squares,
            validation_squares,
            data_fingerprint,
            first,
            labels,
            labels.pooling or ("mean" if kind == "maps" else "highest"),
            plan,
            checkpoints,
        )
    own = [*train_squares.photo_ids.tolist(), *validation_squares.photo_ids.tolist()]
    facts = {
        **weights.facts,
        "way": kind,
        "start": kind,
        "learned_from": sorted({*own, *weights.facts.get("learned_from", ())}),
        "whole_photographs": train_squares.whole_photographs,
        # Those that say nothing of it are older.
        "masks_used": bool(weights.facts.get("masks_used", kind == "label_free")),
        "wrong_labels": squares.wrong,
        "dataset": str(dataset),
    }
    return Weights(weights.tensors, facts), history


def _loaded(label_free: Callable[[], Weights], initial: Weights) -> Weights:
    weights = label_free()
    if weights.facts["image"]["mode"] != initial.facts["image"]["mode"]:
        raise ValueError(
            f"the newest segmenter of the pipeline label_free takes photographs in {weights.facts['image']['mode']}, "
            f"weak_segmentation.image.mode is {initial.facts['image']['mode']}: make them the same"
        )
    return weights


def _learn_labels(
    train_squares: LabelledSquares,
    validation_squares: LabelledSquares,
    data_fingerprint: Mapping[str, Any],
    initial_weights: Weights,
    labels: Labels,
    pooling: Pooling,
    plan: Plan,
    checkpoints: Path,
) -> tuple[Weights, pd.DataFrame]:
    # Lightning takes seconds to import, and only training needs it.
    from crack_pipeline.training.fit import Watch, fit
    from crack_pipeline.training.image_labels import ImageLabels, ImageLabelTraining

    network = rebuild(initial_weights)
    epochs = math.ceil(labels.steps / labels.steps_per_epoch)
    typical = int(np.median(train_squares.boxes[:, 2:].max(axis=1)))
    size = labels.size or min(_LARGEST, typical)
    size = -(-size // network.stride) * network.stride
    if typical > _SHRUNK * size:
        logger.warning(
            "labels of photographs of %d px are learned from pictures of %d px, and photographs are looked at in their "
            "own size: expect little; the way self_training, with start simulated, shrinks nothing",
            typical,
            size,
        )
    module = ImageLabelTraining(
        network.to(memory_format=torch.channels_last),
        pooling=pooling,
        augmentation=labels.augmentation,
        optimiser=labels.optimiser,
        learning_rate=labels.learning_rate,
        weight_decay=labels.weight_decay,
        steps=epochs * labels.steps_per_epoch,
        schedule=labels.schedule,
        average=labels.average,
        seed=labels.seed,
    )
    data = ImageLabels(
        train_squares,
        validation_squares,
        size=size,
        batch_size=labels.batch_size,
        steps=labels.steps_per_epoch,
        most=labels.validation_squares,
        seed=labels.seed,
    )
    logger.info(
        "learning from labels for %d epochs of %d batches of %d images of %d px",
        epochs,
        labels.steps_per_epoch,
        labels.batch_size,
        size,
    )
    history = fit(
        module,
        data,
        plan,
        epochs=epochs,
        checkpoints=checkpoints,
        identity={
            "data": data_fingerprint["fingerprint"],
            "network": initial_weights.facts,
            "weights": initial_weights.fingerprint(),
            "labels": labels.model_dump(mode="json"),
            "precision": plan.precision,
        },
        watch=Watch("validation_loss", "min"),
    )
    facts = {**initial_weights.facts, "data": dict(data_fingerprint), "minutes": history.attrs["minutes"]}
    return Weights(module.result.state_dict(), facts), history
