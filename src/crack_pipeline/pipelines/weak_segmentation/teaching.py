"""Nodes in which a network teaches the next one: pseudo-masks, and trainings on them."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation.segmentation_counts import LEVELS
from crack_pipeline.evaluation.segmentation_figures import squares_figure
from crack_pipeline.imaging.darkness import local_darkness
from crack_pipeline.imaging.labelled_squares import LabelledSquares
from crack_pipeline.imaging.marked_photographs import MarkedPhotographs
from crack_pipeline.imaging.photograph_stack import BACKGROUND, CRACK
from crack_pipeline.imaging.pseudo_masks import Confidence, pseudo_mask
from crack_pipeline.imaging.simulated_squares import SimulatedSquares
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.models.any_size import AnySize
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.label_free.nodes import choose_simulated_threshold
from crack_pipeline.pipelines.segmentation.parameters import Training
from crack_pipeline.pipelines.segmentation.predicting import levels
from crack_pipeline.pipelines.segmentation.training import crop_side, learn, rebuild
from crack_pipeline.pipelines.simulating import squares_in
from crack_pipeline.pipelines.weak_segmentation.parameters import Maps, SelfTraining, Threshold, Way
from crack_pipeline.pipelines.weak_segmentation.starting import start_of
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0
_SHOWN, _LARGEST_SHOWN = 24, 256
_TOLD = ("start", "learned_from", "masks_used", "wrong_labels", "dataset", "whole_photographs")
_LEAST_DARK = 0.5
"""Standard deviations below the surroundings that a crack is dark at least."""


def learn_in_rounds(
    first_weights: Weights,
    first_history: pd.DataFrame,
    train_squares: LabelledSquares,
    sound_validation: SimulatedSquares,
    data_fingerprint: Mapping[str, Any],
    initial_weights: Weights,
    way: Way,
    self_training: SelfTraining,
    maps: Maps,
    simulation: Simulation,
    training: Training,
    start: Training,
    tiles: Tiles,
    plan: Plan,
    checkpoints: Path,
) -> tuple[Weights, pd.DataFrame, MarkedPhotographs]:
    """Let each network mark the photographs that the next one learns from.

    What it is sure of is learned, the rest ignored; in squares that are labelled as sound all is background, and those
    that are labelled as cracked show some crack.

    Parameters
    ----------
    first_weights, first_history
        Of the first network.
    train_squares
        Squares with labels.
    sound_validation
        Simulated cracks, on which every epoch is measured; none is chosen by it.
    data_fingerprint, initial_weights, training, plan, checkpoints
        As for :func:`crack_pipeline.pipelines.segmentation.training.learn`.
    way, self_training, maps
        How many rounds, and how a network marks.
    simulation
        What is drawn on some of the crops.
    start
        Its crop is that of the simulated squares.
    tiles
        How the photographs are looked at.

    Returns
    -------
    Weights
        Of the last network, with what the first one says of itself.
    pandas.DataFrame
        A row per epoch of all trainings.
    MarkedPhotographs
        What the last one has learned from; the labels alone where there were no rounds.
    """
    weights, histories, minutes = first_weights, [first_history], float(first_weights.facts.get("minutes", 0.0))
    rows = train_squares.photograph_rows
    rounds = {"published": 0, "maps": 1, "self_training": self_training.rounds}[way.root]
    if not rounds:
        labels = ((row, train_squares.label_mask(row)) for row in rows.tolist())
        marked = MarkedPhotographs(train_squares.photographs, labels)
    for number in range(1, rounds + 1):
        logger.info("round %d of %d: marking %s photographs", number, rounds, f"{len(rows):,}")
        activation = number == 1 and start_of(way, self_training) == "maps"
        marked = MarkedPhotographs(
            train_squares.photographs,
            _mark(weights, train_squares, maps if activation else None, self_training, tiles, plan),
        )
        # A network goes on from what it knows, unless it is another one.
        same = weights.facts["network"] == initial_weights.facts["network"]
        begin = Weights(weights.tensors if same else initial_weights.tensors, initial_weights.facts)
        identity = {
            "teacher": weights.fingerprint(),
            "confidence": self_training.confidence.model_dump(mode="json"),
            "false_alarms": self_training.false_alarms,
            "maps": maps.model_dump(mode="json") if activation else None,
            "simulated": [self_training.simulated, simulation.model_dump(mode="json")],
            "tiles": tiles.model_dump(mode="json"),
        }
        weights, history = _learn_marked(
            marked,
            rows,
            sound_validation,
            data_fingerprint,
            begin,
            self_training,
            training,
            start,
            simulation,
            plan,
            checkpoints,
            identity,
        )
        histories.append(history)
        minutes += weights.facts["minutes"]
    told = {name: first_weights.facts[name] for name in _TOLD}
    simulated = told["start"] in ("simulated", "label_free") or (rounds > 0 and self_training.simulated > 0)
    facts = {**weights.facts, **told, "minutes": minutes, "way": str(way), "simulated_cracks": simulated}
    return Weights(weights.tensors, facts), _one_after_another(histories), marked


def choose_threshold(
    network_weights: Weights,
    sound_validation: SimulatedSquares,
    threshold: Threshold,
    start: Training,
    tiles: Tiles,
    plan: Plan,
) -> dict[str, Any]:
    """Choose the probability from which on a pixel is called a crack, on simulated cracks alone.

    Returns
    -------
    dict
        As of :func:`crack_pipeline.pipelines.label_free.nodes.choose_simulated_threshold`; with the rule ``fixed`` only
        ``threshold``.
    """
    if threshold.rule == "simulated":
        return choose_simulated_threshold(network_weights, sound_validation, start, tiles, plan)
    return {"threshold": min(max(round(threshold.value * LEVELS), 1), LEVELS - 1) / LEVELS}


def draw_pseudo_masks(marked: MarkedPhotographs, train_squares: LabelledSquares, training: Training) -> Figure:
    """Show squares that were labelled as cracked, and the outlines of what was learned as crack in them."""
    cracked = np.flatnonzero(train_squares.cracked)
    drawn = np.sort(np.random.default_rng(training.seed).permutation(cracked)[:_SHOWN])
    size = min(_LARGEST_SHOWN, int(train_squares.boxes[drawn, 2:].max()))
    images, masks = train_squares.take(drawn, size)
    for mask, row, (y, x, height, width) in zip(
        masks, train_squares.rows[drawn].tolist(), train_squares.boxes[drawn].tolist(), strict=True
    ):
        learned = (marked.mask(row)[y : y + height, x : x + width] == CRACK).astype(np.float32)
        inside = np.argwhere(mask == BACKGROUND)
        (top, left), (bottom, right) = inside.min(axis=0), inside.max(axis=0) + 1
        shrunk = cv2.resize(learned, (int(right - left), int(bottom - top)), interpolation=cv2.INTER_AREA)
        mask[top:bottom, left:right] = shrunk > 0
    return squares_figure(images, masks)


def _learn_marked(
    marked: MarkedPhotographs,
    rows: NDArray[np.int64],
    sound_validation: SimulatedSquares,
    data_fingerprint: Mapping[str, Any],
    begin: Weights,
    self_training: SelfTraining,
    training: Training,
    start: Training,
    simulation: Simulation,
    plan: Plan,
    checkpoints: Path,
    identity: Mapping[str, Any],
) -> tuple[Weights, pd.DataFrame]:
    # Lightning takes seconds to import, and only training needs it.
    from crack_pipeline.training.crops import RandomCrops, Source
    from crack_pipeline.training.synthetic import GeneratedSquares, Mixed

    crop = crop_side(marked, rows, training.crop, int(rebuild(begin).stride), inside=True)
    shape = {"size": crop, "batch_size": training.batch_size}
    train: Source = RandomCrops(
        marked,
        rows,
        **shape,
        steps=training.steps_per_epoch,
        centred=training.centred,
        others=(marked.false_alarms, min(self_training.false_alarms, 1 - training.centred)),
    )
    if self_training.simulated:
        simulated = squares_in(marked, rows, simulation, role="train", size=crop, seed=training.seed, sound=False)
        train = Mixed(train, simulated, share=self_training.simulated, size=crop)
    batches = max(1, training.validation_crops // training.batch_size)
    validation = GeneratedSquares(sound_validation, size=start.crop, batch_size=training.batch_size, steps=batches)
    return learn(train, validation, data_fingerprint, begin, training, plan, checkpoints, identity=identity, best=False)


def _mark(
    weights: Weights,
    squares: LabelledSquares,
    maps: Maps | None,
    self_training: SelfTraining,
    tiles: Tiles,
    plan: Plan,
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Give the pseudo-mask of every photograph."""
    network = rebuild(weights)
    rows = squares.photograph_rows.tolist()
    began = said = time.monotonic()
    for done, row in enumerate(rows):
        photograph, (boxes, cracked) = squares.photographs.photograph(row), squares.of(row)
        if maps is not None:
            level = _activated(network, photograph, boxes[cracked], maps, self_training.confidence, plan)
        else:
            level = levels(network, photograph, plan, tiles)
        yield row, pseudo_mask(level, boxes, cracked, self_training.confidence, everywhere=maps is None)
        now = time.monotonic()
        if now - said > _SECONDS_BETWEEN_LINES:
            said = now
            logger.info("marked %s of %s photographs, %.1f/s", f"{done + 1:,}", f"{len(rows):,}", done / (now - began))


def _activated(
    classifier: AnySize,
    photograph: NDArray[np.uint8],
    boxes: NDArray[np.int64],
    maps: Maps,
    confidence: Confidence,
    plan: Plan,
) -> NDArray[np.uint8]:
    """Give, in 256 levels, where a classifier looks and it is dark, in squares with a crack; 0 elsewhere."""
    height, width = photograph.shape[:2]
    activation = np.zeros((height, width), np.float32)
    for scale in maps.scales:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        seen = photograph if scale == 1 else cv2.resize(photograph, size, interpolation=cv2.INTER_AREA)
        level = levels(classifier, np.ascontiguousarray(seen), plan, Tiles.model_validate({}))
        activation += cv2.resize(level.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    dark = local_darkness(photograph, maps.windows)
    found = np.zeros((height, width), np.uint8)
    for y, x, high, wide in boxes.tolist():
        box = slice(y, y + high), slice(x, x + wide)
        relative = activation[box] / max(float(activation[box].max()), 1e-6)
        looked_at = relative >= maps.activation
        # What lies beyond the line that Otsu's method draws is just sure enough to be learned as crack.
        otsu = float(threshold_otsu(dark[box][looked_at])) if looked_at.any() else 0.0  # type: ignore[no-untyped-call]
        line = max(otsu, _LEAST_DARK)
        level = np.clip(LEVELS * confidence.crack * dark[box] / line, 0, LEVELS - 1)
        found[box] = np.where(looked_at, np.ceil(level), 0).astype(np.uint8)
    return found


def _one_after_another(histories: list[pd.DataFrame]) -> pd.DataFrame:
    """Join the histories of trainings, with epochs that go on counting."""
    joined, epochs = [], 0
    for history in histories:
        joined.append(history.assign(epoch=history["epoch"] + epochs))
        epochs += len(history)
    return pd.concat([table for table in joined if len(table)] or joined[:1], ignore_index=True)
