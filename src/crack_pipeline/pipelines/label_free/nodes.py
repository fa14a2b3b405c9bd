"""Nodes that train a segmenter on simulated cracks alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation import segmentation_counts as counting
from crack_pipeline.evaluation.segmentation_figures import squares_figure
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.imaging.simulated_squares import SimulatedSquares
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.segmentation.evaluating import best_threshold
from crack_pipeline.pipelines.segmentation.parameters import Training
from crack_pipeline.pipelines.segmentation.predicting import levels
from crack_pipeline.pipelines.segmentation.training import learn_simulated, rebuild
from crack_pipeline.pipelines.simulating import simulated_squares
from crack_pipeline.pipelines.steps import check_same_run
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

_SHOWN = 24


def find_sound_concrete(
    images: PhotographStack, manifest: pd.DataFrame, partition: pd.DataFrame, simulation: Simulation, training: Training
) -> tuple[SimulatedSquares, SimulatedSquares]:
    """Find squares of sound concrete in the photographs of the roles ``train`` and ``validation``.

    Returns
    -------
    tuple of SimulatedSquares
        To learn from, and to validate on: cracks are simulated on them when they are asked for.

    Raises
    ------
    ValueError
        If there are none.
    """
    check_same_run(images, manifest)
    train, validation = (
        simulated_squares(images, manifest, partition, simulation, role=role, size=training.crop, seed=training.seed)
        for role in ("train", "validation")
    )
    return train, validation


def train_segmenter(
    train_squares: SimulatedSquares,
    validation_squares: SimulatedSquares,
    manifest: pd.DataFrame,
    data_fingerprint: Mapping[str, Any],
    initial_weights: Weights,
    training: Training,
    plan: Plan,
    checkpoints: Path,
) -> tuple[Weights, pd.DataFrame]:
    """Train the network; see :func:`crack_pipeline.pipelines.segmentation.training.learn_simulated`.

    Parameters
    ----------
    manifest
        Names the photographs that the squares lie in.

    Returns
    -------
    tuple of Weights and pandas.DataFrame
        The weights say which photographs were looked at, so that a test on them can be told from a test on others, and
        whether masks have said where cracked ones are sound (``masks_used``).
    """
    weights, history = learn_simulated(
        train_squares, validation_squares, data_fingerprint, initial_weights, training, plan, checkpoints
    )
    rows = np.concatenate([train_squares.places.rows, validation_squares.places.rows])
    table = manifest[manifest["row"].isin(rows)]
    facts = {
        **weights.facts,
        "learned_from": sorted(set(table["photo_id"])),
        "masks_used": bool((table["crack_pixels"] > 0).any()),
    }
    return Weights(weights.tensors, facts), history


def choose_simulated_threshold(
    network_weights: Weights, validation_squares: SimulatedSquares, training: Training, tiles: Tiles, plan: Plan
) -> dict[str, Any]:
    """Choose the probability from which on a pixel is called a crack: the one with the highest Dice on simulated ones.

    Returns
    -------
    dict
        As of :func:`crack_pipeline.pipelines.segmentation.evaluating.choose_threshold`, with ``squares`` in place of
        ``photographs``.
    """
    network = rebuild(network_weights)
    images, masks = validation_squares.squares(_validation_seeds(training.validation_crops), training.crop)
    counts = [
        counting.count(levels(network, image, plan, tiles), mask, None)
        for image, mask in zip(images, masks, strict=True)
    ]
    return best_threshold(counting.to_table([str(number) for number in range(len(counts))], counts), "squares")


def draw_simulated(train_squares: SimulatedSquares, training: Training) -> Figure:
    """Show squares that the network learns from, and the outlines of their cracks."""
    seeds = np.random.default_rng(training.seed).integers(2**62, size=_SHOWN)
    return squares_figure(*train_squares.squares(seeds, training.crop))


def _validation_seeds(number: int) -> np.ndarray:
    return np.random.default_rng([0, 2]).integers(2**62, size=number)
