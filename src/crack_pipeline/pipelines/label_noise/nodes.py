"""Nodes that train the same segmenter with more and more wrong labels, and compare."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation.label_noise_figure import label_noise_figure
from crack_pipeline.imaging.labelled_squares import LabelledSquares
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.imaging.simulated_squares import SimulatedSquares
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Presets
from crack_pipeline.pipelines.label_noise.parameters import LabelNoise
from crack_pipeline.pipelines.segmentation.training import Pretrained, pack_segmenter
from crack_pipeline.pipelines.steps import select
from crack_pipeline.pipelines.studies import WEIGHTS, drawn, once
from crack_pipeline.pipelines.weak_segmentation import labelling, starting, teaching
from crack_pipeline.pipelines.weak_segmentation.comparing import measure_segmenter
from crack_pipeline.pipelines.weak_segmentation.parameters import Settings

logger = logging.getLogger(__name__)

_MEASURES = {"dice": "Dice", "f1_tolerant": "F1 with tolerance"}
_ENDS = (("low", "min"), ("high", "max"))
_IRRELEVANT: Any = {"squares": {"wrong"}, "report": {"examples", "least_pixels"}}
"""Settings that change nothing here."""


class Labelled(NamedTuple):
    """What a training learns from."""

    wrong: float
    seed: int
    squares: tuple[LabelledSquares, LabelledSquares]
    sound: tuple[SimulatedSquares, SimulatedSquares]
    fingerprint: dict[str, Any]
    cracked_right: float
    """Share of the labels to learn from that say cracked, and are right; NaN where none says so."""


def create_networks(settings: Settings, pretrained: Pretrained, noise: LabelNoise) -> list[tuple[Weights, Weights]]:
    """Create untrained networks for every seed, so that what is compared does not hang on one.

    Returns
    -------
    list of tuple of Weights
        Segmenter and classifier, as of :func:`crack_pipeline.pipelines.weak_segmentation.starting.create_networks`.
    """
    return [
        starting.create_networks(
            seeded.image,
            seeded.network,
            seeded.encoder_weights,
            seeded.training,
            seeded.labels,
            pretrained,
            seeded.tiles,
        )
        for seeded in (settings.seeded(seed) for seed in range(noise.seeds))
    ]


def label_squares(
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    networks: list[tuple[Weights, Weights]],
    settings: Settings,
    dataset: Dataset,
    presets: Presets,
    noise: LabelNoise,
) -> list[Labelled]:
    """Label the squares once for each share of wrong labels and each seed: all that a training gets of any mask.

    Labels of the validation are wrong as often as those that are learned from: who labels does not know which are
    which. With the same seed the wrong labels of a smaller share are among those of a larger one.

    Raises
    ------
    ValueError
        If no mask of a crack is known of the test photographs, or what the nodes of ``weak_segmentation`` raise, with
        the share of wrong labels where that is why.
    """
    if not (_tested(manifest, partition)["crack_pixels"] > 0).any():
        raise ValueError(
            "no mask of a crack is known of the photographs of the role test, by which to measure what wrong labels "
            "cost: add masks of some"
        )
    found = []
    for seed in range(noise.seeds):
        how, (network, _) = settings.seeded(seed), networks[seed]
        known = images, manifest, partition, network, how, dataset, presets
        right = _label(*known, seed, 0.0, None)
        found += [_label(*known, seed, wrong, right) if wrong else right for wrong in sorted(noise.wrong)]
    return found


def train_segmenters(
    labelled: list[Labelled],
    networks: list[tuple[Weights, Weights]],
    label_free: Callable[[], Weights],
    settings: Settings,
    dataset: Dataset,
    plan: Plan,
    checkpoints: Path,
) -> list[Weights]:
    """Train with each share of wrong labels.

    A training that has ended is not repeated when the study is interrupted.

    Returns
    -------
    list of Weights
        A segmenter for each that was labelled.
    """
    shared = {
        "settings": settings.model_dump(mode="json", exclude=_IRRELEVANT),
        "dataset": str(dataset),
        "precision": plan.precision,
    }
    loaded = []
    if starting.start_of(settings.way, settings.self_training) == "label_free":
        loaded.append(label_free())
        shared["label_free"] = loaded[0].fingerprint()

    def train(done: int, given: Labelled, folder: Path) -> Weights:
        share = f"{100 * given.wrong:g}"
        logger.info("training %d of %d: %s %% of the labels wrong, seed %d", done, len(labelled), share, given.seed)
        how = settings.seeded(given.seed)
        network, classifier = networks[given.seed]
        first = starting.learn_start(
            *given.squares,
            *given.sound,
            given.fingerprint,
            network,
            classifier,
            lambda: loaded[0],
            how.way,
            how.self_training,
            how.labels,
            how.start,
            how.squares.model_copy(update={"wrong": given.wrong}),
            dataset,
            plan,
            folder,
        )
        weights, *_ = teaching.learn_in_rounds(
            *first,
            given.squares[0],
            given.sound[1],
            given.fingerprint,
            network,
            how.way,
            how.self_training,
            how.maps,
            how.simulation,
            how.training,
            how.start,
            how.tiles,
            plan,
            folder,
        )
        threshold = teaching.choose_threshold(weights, given.sound[1], how.threshold, how.start, how.tiles, plan)
        return pack_segmenter(weights, threshold, how.tiles, how.training, plan)

    segmenters = []
    for done, given in enumerate(labelled, start=1):
        identity = {
            **shared,
            "wrong": given.wrong,
            "seed": given.seed,
            "labels": given.fingerprint["fingerprint"],
            "drawn": drawn(given.sound[0], settings.start.crop),
            "weights": [part.fingerprint() for part in networks[given.seed]],
        }
        segmenters.append(once(checkpoints, identity, partial(train, done, given), WEIGHTS))
    return segmenters


def measure_segmenters(
    segmenters: list[Weights],
    labelled: list[Labelled],
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    settings: Settings,
    plan: Plan,
) -> pd.DataFrame:
    """Measure every segmenter on the photographs of the role ``test`` that have masks.

    Returns
    -------
    pandas.DataFrame
        A row per training: ``wrong`` (share), ``seed``, ``labels`` (to learn from), ``cracked`` (those that say so),
        ``cracked_right`` (the share of these that is right), and what
        :func:`crack_pipeline.pipelines.weak_segmentation.comparing.measure_segmenter` gives (NaN: not defined).
    """
    tested = _tested(manifest, partition)
    rows = []
    for segmenter, given in zip(segmenters, labelled, strict=True):
        measured = measure_segmenter(segmenter, images, tested, settings.tiles, settings.report, plan)
        logger.info("%g %% of the labels wrong, seed %d: Dice %.4f", 100 * given.wrong, given.seed, measured["dice"])
        says = given.squares[0].cracked
        which = {
            "wrong": given.wrong,
            "seed": given.seed,
            "labels": len(says),
            "cracked": int(says.sum()),
            "cracked_right": given.cracked_right,
        }
        rows.append({**which, **measured})
    table = pd.DataFrame(rows)
    undefined = [name for name in table.columns if table[name].isna().any()]
    return table.astype(dict.fromkeys(undefined, np.float64))


def draw_label_noise(trainings: pd.DataFrame) -> Figure:
    """Draw Dice over the share of wrong labels."""
    return label_noise_figure(trainings)


def summarise(trainings: pd.DataFrame) -> str:
    """Say in a table what wrong labels cost."""
    tested = int(trainings["photographs"].iloc[0])
    single = not trainings["wrong"].duplicated().any()
    how = "95 % intervals over the photographs" if single else "the lowest and the highest of several trainings"
    lines = [f"what wrong labels cost, measured on {tested:,} photographs ({how}):"]
    for wrong, table in trainings.groupby("wrong"):
        right = f"{100 * table['cracked_right'].mean():.1f} % of the labels that say cracked are right"
        found = ", ".join(f"{title} {_between(table, name, single)}" for name, title in _MEASURES.items())
        lines.append(f"  {100 * float(str(wrong)):>4g} % of {int(table['labels'].mean()):,} wrong, {right}: {found}")
    return "\n".join(lines)


def _between(table: pd.DataFrame, name: str, single: bool) -> str:
    """Write a measure with what it lies between."""
    low, high = (table[f"{name}_{end}"].iloc[0] if single else getattr(table[name], at)() for end, at in _ENDS)
    bracket = "" if math.isnan(low) or math.isnan(high) else f" ({low:.4f} to {high:.4f})"
    return f"{table[name].mean():.4f}{bracket}"


def _tested(manifest: pd.DataFrame, partition: pd.DataFrame) -> pd.DataFrame:
    table = select(manifest, partition, ["test"])
    return table[table["crack_pixels"].notna()].sort_values("row", ignore_index=True)


def _label(
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    network: Weights,
    how: Settings,
    dataset: Dataset,
    presets: Presets,
    seed: int,
    wrong: float,
    right: Labelled | None,
) -> Labelled:
    """Label squares, some of them wrongly, and find those that are called sound."""
    squares = how.squares.model_copy(update={"wrong": wrong})
    labelled = labelling.label_squares(images, manifest, partition, squares, dataset, presets)
    try:
        sound = starting.find_sound_concrete(
            *labelled, network, how.simulation, how.start, how.training, how.self_training
        )
    except ValueError as error:
        if not wrong:
            raise
        raise ValueError(f"with {100 * wrong:g} % of the labels wrong: {error}") from error
    says = labelled[0].cracked
    is_so = says if right is None else right.squares[0].cracked
    share = float(is_so[says].mean()) if says.any() else math.nan
    fingerprint = labelling.fingerprint_labels(*labelled)
    return Labelled(wrong, seed, labelled, sound, fingerprint, share)
