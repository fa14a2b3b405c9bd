"""Nodes that train the same segmenter with more and more wrong labels, and compare."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from crack_pipeline.evaluation.label_noise_figure import label_noise_figure
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Presets
from crack_pipeline.pipelines.label_noise.parameters import LabelNoise
from crack_pipeline.pipelines.segmentation.training import Pretrained, fingerprint_data, pack_segmenter
from crack_pipeline.pipelines.steps import select
from crack_pipeline.pipelines.studies import Row, once
from crack_pipeline.pipelines.weak_segmentation import labelling, starting, teaching
from crack_pipeline.pipelines.weak_segmentation.comparing import measure_segmenter
from crack_pipeline.pipelines.weak_segmentation.parameters import Settings
from crack_pipeline.training.compute import Plan

logger = logging.getLogger(__name__)


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


def compare_trainings(
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    networks: list[tuple[Weights, Weights]],
    label_free: Callable[[], Weights],
    settings: Settings,
    dataset: Dataset,
    presets: Presets,
    noise: LabelNoise,
    plan: Plan,
    checkpoints: Path,
) -> pd.DataFrame:
    """Train with each share of wrong labels, and measure on the photographs of the role ``test`` that have masks.

    Labels of the validation are wrong as often as those that are learned from: who labels does not know which are
    which. With the same seed the wrong labels of a smaller share are among those of a larger one. A training that has
    ended is not repeated when the study is interrupted.

    Returns
    -------
    pandas.DataFrame
        A row per training: ``wrong`` (share), ``seed``, ``labels`` (to learn from), and what
        :func:`crack_pipeline.pipelines.weak_segmentation.comparing.measure_segmenter` gives.

    Raises
    ------
    ValueError
        If no mask of a crack is known of the test photographs, and whatever the nodes of ``weak_segmentation`` raise.
    """
    tested = select(manifest, partition, ["test"])
    tested = tested[tested["crack_pixels"].notna()].sort_values("row", ignore_index=True)
    if not (tested["crack_pixels"] > 0).any():
        raise ValueError(
            "no mask of a crack is known of the photographs of the role test, by which to measure what wrong labels "
            "cost: add masks of some"
        )
    shared = {
        "data": fingerprint_data(images, manifest, partition, settings.image)["fingerprint"],
        "settings": settings.model_dump(mode="json"),
        "dataset": str(dataset),
    }
    loaded = []
    if starting.start_of(settings.way, settings.self_training) == "label_free":
        loaded.append(label_free())
        shared["label_free"] = loaded[0].fingerprint()

    def train(done: int, wrong: float, seed: int, _name: str) -> Row:
        logger.info("training %d of %d: %g %% of the labels wrong, seed %d", done, len(planned), 100 * wrong, seed)
        how = settings.seeded(seed)
        squares = how.squares.model_copy(update={"wrong": wrong})
        network, classifier = networks[seed]
        labelled = labelling.label_squares(images, manifest, partition, squares, dataset, presets)
        data = labelling.fingerprint_labels(*labelled)
        sound = starting.find_sound_concrete(*labelled, network, how.simulation, how.start, how.training)
        first = starting.learn_start(
            *labelled,
            *sound,
            data,
            network,
            classifier,
            lambda: loaded[0],
            how.way,
            how.self_training,
            how.labels,
            how.start,
            squares,
            dataset,
            plan,
            checkpoints,
        )
        weights, *_ = teaching.learn_in_rounds(
            *first,
            labelled[0],
            sound[1],
            data,
            network,
            how.way,
            how.self_training,
            how.maps,
            how.simulation,
            how.training,
            how.start,
            how.tiles,
            plan,
            checkpoints,
        )
        threshold = teaching.choose_threshold(weights, sound[1], how.threshold, how.start, how.tiles, plan)
        segmenter = pack_segmenter(weights, threshold, how.tiles, how.training, plan)
        measured = measure_segmenter(segmenter, images, tested, how.tiles, how.report, plan)
        logger.info("Dice %.4f", measured["dice"])
        return {"labels": len(labelled[0]), **measured}

    rows = []
    planned = [(wrong, seed) for seed in range(noise.seeds) for wrong in sorted(noise.wrong)]
    for done, (wrong, seed) in enumerate(planned, start=1):
        which = {"wrong": wrong, "seed": seed}
        identity = {**shared, **which, "weights": [part.fingerprint() for part in networks[seed]]}
        rows.append({**which, **once(checkpoints, identity, partial(train, done, wrong, seed))})
    return pd.DataFrame(rows)


def draw_label_noise(trainings: pd.DataFrame) -> Figure:
    """Draw Dice over the share of wrong labels."""
    return label_noise_figure(trainings)


def summarise(trainings: pd.DataFrame) -> str:
    """Say in a table what wrong labels cost."""
    number, tested = (int(trainings[name].iloc[0]) for name in ("labels", "photographs"))
    lines = [f"what wrong ones among {number:,} labels cost, measured on {tested:,} photographs:"]
    for wrong, table in trainings.groupby("wrong"):
        found: list[str] = []
        for name, title in (("dice", "Dice"), ("f1_tolerant", "F1 with tolerance")):
            if len(table) > 1:
                sure = f"{table[name].min():.4f} to {table[name].max():.4f} in {len(table):,} trainings"
            else:
                sure = f"{table[f'{name}_low'].iloc[0]:.4f} to {table[f'{name}_high'].iloc[0]:.4f}"
            found.append(f"{title} {table[name].mean():.4f} ({sure})")
        lines.append(f"  {100 * float(str(wrong)):>4g} % wrong: {', '.join(found)}")
    return "\n".join(lines)
