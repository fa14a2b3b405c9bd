"""Nodes that train the same segmenter with and without synthetic cracks, and compare."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import stdtrit

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation import segmentation_counts as counting
from crack_pipeline.evaluation import segmentation_metrics as metrics_of
from crack_pipeline.evaluation.gain_figure import NONE, gain_figure
from crack_pipeline.imaging import tiling
from crack_pipeline.imaging.crack_free import Places
from crack_pipeline.imaging.photograph_stack import BACKGROUND, CRACK, PhotographStack
from crack_pipeline.imaging.simulated_squares import SimulatedSquares
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Image
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Training
from crack_pipeline.pipelines.segmentation.predicting import levels
from crack_pipeline.pipelines.segmentation.training import (
    Pretrained,
    create_network,
    crop_side,
    rebuild,
    train_segmenter,
)
from crack_pipeline.pipelines.simulating import NOTHING, Admixture, Share, share_beside, simulated_squares
from crack_pipeline.pipelines.steps import require_roles, rows_of, select
from crack_pipeline.pipelines.studies import ROW, Row, drawn, once
from crack_pipeline.pipelines.synthesis_gain.parameters import Gain
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

_MARGIN = 4
_LEARNED = ("train", "validation")
_FIFTH, _TILES = 5, 32
MEASURES = {"dice": "Dice, pooled", "miou": "mean IoU", "tile_roc_auc": "ROC-AUC of tiles"}


def create_networks(
    image: Image,
    network: Network,
    encoder_weights: EncoderWeights,
    training: Training,
    pretrained: Pretrained,
    tiles: Tiles,
    gain: Gain,
) -> list[Weights]:
    """Create an untrained network for every seed, so that what is compared does not hang on one."""
    return [
        create_network(image, network, encoder_weights, _seeded(training, seed), pretrained, tiles)
        for seed in range(gain.seeds)
    ]


def compare_trainings(
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    data_fingerprint: Mapping[str, Any],
    initial_weights: Sequence[Weights],
    training: Training,
    simulation: Simulation,
    gain: Gain,
    tiles: Tiles,
    plan: Plan,
    checkpoints: Path,
) -> pd.DataFrame:
    """Train with each number of real photographs, with and without synthetic cracks, and measure on the test ones.

    What is not for the test is one pool. Of the photographs that are drawn from it every fifth chooses epoch and
    threshold, and the others are learned from: a user with ten has no more. Every number's photographs are among those
    of the next larger one, the same with and without synthetic cracks. These are drawn on sound concrete of the whole
    pool, of which nobody needs to draw masks, or (``gain.sound: pairs``) of the photographs that are learned from; in
    any case not of those that choose. A training that has ended is not repeated when the study is interrupted.

    Returns
    -------
    pandas.DataFrame
        A row per training: ``pairs``, ``synthetic`` (none, or how many), ``seed``, ``dice``, ``miou``,
        ``tile_roc_auc`` (of a classifier).

    Raises
    ------
    ValueError
        If there are fewer photographs with a crack than the fewest that are asked for, or these are of one place, or
        there is no sound concrete.
    """
    require_roles(manifest, partition, ("test",))
    pool = partition.assign(role=partition["role"].where(~partition["role"].isin(_LEARNED), "train"))
    table = select(manifest, pool, ["train"])
    cracked = np.sort(table.loc[table["crack_pixels"] > 0, "image_id"].to_numpy(str))
    if min(gain.pairs) > len(cracked):
        raise ValueError(
            f"there are {len(cracked):,} photographs with a crack that are not for the test, fewer than the "
            f"{min(gain.pairs):,} of synthesis_gain.gain.pairs: lower it, or add photographs"
        )
    stride = int(rebuild(initial_weights[0]).stride)
    crop = crop_side(images, rows_of(table), training.crop, stride, inside=True)
    squares = {
        size: simulated_squares(
            *(images, manifest, pool, simulation),
            role="train",
            size=size,
            seed=training.seed,
            called=f"synthesis_gain.{parameter}",
        )
        for size, parameter in ({crop: "training.crop", gain.tile: "gain.tile"} if any(gain.shares) else {}).items()
    }
    sizes = sorted({min(number, len(cracked)) for number in gain.pairs})
    planned = [(number, share, seed) for seed in range(gain.seeds) for number in sizes for share in gain.shares]
    subsets = {(number, seed): _subset(pool, cracked, number, seed) for number in sizes for seed in range(gain.seeds)}
    learnable = {
        (size, *which): _learnable(of_size, manifest, pool, used, gain)
        for size, of_size in squares.items()
        for which, used in subsets.items()
    }
    shared = {
        "data": data_fingerprint["fingerprint"],
        "training": training.model_dump(mode="json"),
        "simulation": simulation.model_dump(mode="json"),
        "drawn": [drawn(squares[size], size) for size in sorted(squares)],
        "tiles": tiles.model_dump(mode="json"),
        "gain": gain.model_dump(mode="json", exclude={"pairs", "shares", "seeds"}),
    }

    def train(done: int, number: int, wanted: Share, seed: int, folder: Path) -> dict[str, float]:
        used = subsets[number, seed]
        share = share_beside(wanted, int((used["role"] == "train").sum()))
        logger.info(
            "training %d of %d: %d photographs, %.0f %% of the squares synthetic, seed %d",
            done,
            len(planned),
            number,
            100 * share,
            seed,
        )
        how = _seeded(training, seed)
        admixture = Admixture(share, learnable[crop, number, seed], {"share": share}) if share else NOTHING
        weights, _ = train_segmenter(
            images,
            manifest,
            used,
            {"fingerprint": folder.name},
            initial_weights[seed],
            how,
            plan,
            folder,
            admixture,
        )
        mixed = learnable[gain.tile, number, seed] if share else None
        row = {
            **_measure(weights, images, manifest, used, tiles, plan),
            "tile_roc_auc": _classify_tiles(images, manifest, used, mixed, share, gain, how, plan),
        }
        logger.info("Dice %.4f, ROC-AUC of tiles %.4f", row["dice"], row["tile_roc_auc"])
        return row

    rows = []
    for done, (number, wanted, seed) in enumerate(planned, start=1):
        initial = initial_weights[seed]
        which = {"pairs": number, "synthetic": _called(wanted), "seed": seed}
        identity = {**shared, **which, "network": initial.facts, "weights": initial.fingerprint()}
        found: Row = once(checkpoints, identity, partial(train, done, number, wanted, seed), ROW)
        rows.append({**which, **found})
    return pd.DataFrame(rows)


def summarise_gain(trainings: pd.DataFrame) -> pd.DataFrame:
    """Give, for each number of photographs and share, the mean of each measure, and what synthetic cracks add.

    Returns
    -------
    pandas.DataFrame
        ``pairs``, ``synthetic``, ``measure``, ``mean``, ``low``, ``high`` (95 %, Student's t over the seeds), and
        ``gain``, ``gain_low``, ``gain_high``: the difference to none, paired by seed.
    """
    rows = []
    for (number, synthetic), table in trainings.groupby(["pairs", "synthetic"], sort=False):
        plain = trainings[(trainings["pairs"] == number) & (trainings["synthetic"] == NONE)].set_index("seed")
        for measure in MEASURES:
            values = table.set_index("seed")[measure]
            mean, low, high = _interval(values.to_numpy(np.float64))
            more, least, most = _interval((values - plain[measure]).dropna().to_numpy(np.float64))
            rows.append(
                {
                    "pairs": number,
                    "synthetic": synthetic,
                    "measure": measure,
                    "mean": mean,
                    "low": low,
                    "high": high,
                    "gain": more,
                    "gain_low": least,
                    "gain_high": most,
                }
            )
    return pd.DataFrame(rows)


def draw_gain(gains: pd.DataFrame) -> Figure:
    """Draw each measure over the number of real photographs, a curve without and each with synthetic squares."""
    return gain_figure(gains, MEASURES)


def summarise(gains: pd.DataFrame) -> str:
    """Say in a table what synthetic cracks add."""
    shown = gains[gains["synthetic"] != NONE]
    lines = ["what synthetic cracks add, by the number of real photographs with masks:"]
    for _, row in shown.iterrows():
        low, high = row["gain_low"], row["gain_high"]
        sure = "a single training" if math.isnan(low) else f"{low:+.4f} to {high:+.4f}"
        lines.append(
            f"  {int(row['pairs']):>5} photographs, synthetic {row['synthetic']}: {MEASURES[row['measure']]} "
            f"{row['mean'] - row['gain']:.4f} -> {row['mean']:.4f} ({row['gain']:+.4f}; {sure})"
        )
    return "\n".join(lines)


def _called(share: Share) -> str:
    return share if isinstance(share, str) else f"{100 * share:g}%" if share else NONE


def _seeded(training: Training, seed: int) -> Training:
    return training.model_copy(update={"seed": training.seed + seed})


def _subset(pool: pd.DataFrame, cracked: NDArray[Any], number: int, seed: int) -> pd.DataFrame:
    """Leave, of the photographs that are not for the test, so many cracked ones, every fifth for validation.

    Near-duplicates stay together, and the photographs of a smaller number are among those of a larger one.
    """
    groups = pool[pool["image_id"].isin(cracked)].sort_values("image_id").groupby("group", sort=True)["image_id"]
    members = [ids.to_numpy(str) for _, ids in groups]
    drawn: list[NDArray[Any]] = []
    kept = 0
    for at in np.random.default_rng([seed, 4]).permutation(len(members)):
        drawn.append(members[at][: number - kept])
        kept += len(drawn[-1])
        if kept == number:
            break
    if len(drawn) < 2:
        raise ValueError(
            f"the {number:,} photographs with a crack that synthesis_gain.gain.pairs asks for are of one place: none "
            "would be left to choose epoch and threshold; raise the number, or add photographs of other places"
        )
    most = max((number + 1) // _FIFTH, min(len(group) for group in drawn))
    chosen: list[str] = []
    seen = 0
    for group in drawn:
        seen += len(group)
        if (seen + 1) // _FIFTH > len(chosen) and len(chosen) + len(group) <= most:
            chosen.extend(group)
    chosen = chosen or list(drawn[int(np.argmin([len(group) for group in drawn]))])
    used = pool[(pool["role"] == "test") | pool["image_id"].isin(np.concatenate(drawn))].reset_index(drop=True)
    return used.assign(role=used["role"].mask(used["image_id"].isin(chosen), "validation"))


def _learnable(
    squares: SimulatedSquares, manifest: pd.DataFrame, pool: pd.DataFrame, used: pd.DataFrame, gain: Gain
) -> SimulatedSquares:
    """Leave out the squares of photographs, and of their near-duplicates, that choose epoch and threshold."""
    judges = pool.loc[pool["group"].isin(used.loc[used["role"] == "validation", "group"]), "image_id"]
    may = ~manifest["image_id"].isin(judges)
    if gain.sound == "pairs":
        learned = used.loc[used["role"] == "train", "image_id"]
        may &= manifest["image_id"].isin(learned) | (manifest["crack_pixels"] == 0)
    places = squares.places
    learnable = np.isin(places.rows, manifest.loc[may, "row"])
    if not learnable.any():
        raise ValueError(
            f"none of the {(used['role'] == 'train').sum():,} photographs that one of the trainings learns from shows "
            "sound concrete to simulate cracks on: add photographs without a crack, or raise synthesis_gain.gain.pairs"
        )
    return replace(squares, places=Places(places.rows[learnable], places.corners[learnable]))


def _measure(
    weights: Weights,
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    tiles: Tiles,
    plan: Plan,
) -> dict[str, float]:
    network = rebuild(weights)
    counts = {
        role: counting.total_levels(
            [
                counting.count(levels(network, images.photograph(row), plan, tiles), images.mask(row), None)
                for row in rows_of(select(manifest, partition, [role])).tolist()
            ]
        )
        for role in ("validation", "test")
    }
    threshold = metrics_of.choose_threshold(counts["validation"])
    curve = metrics_of.threshold_curve(counts["test"]).iloc[counting.level_of(threshold)]
    return {"dice": float(curve["dice"]), "miou": float(curve["miou"])}


def _classify_tiles(
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    squares: SimulatedSquares | None,
    share: float,
    gain: Gain,
    training: Training,
    plan: Plan,
) -> float:
    """Train a classifier on tiles of the same photographs, and give its ROC-AUC on tiles of the test photographs."""
    # Lightning takes seconds to import, and only this node needs it.
    from crack_pipeline.training.classifying import classify, cracked_or_sound, train_classifier
    from crack_pipeline.training.crops import RandomCrops, Source
    from crack_pipeline.training.synthetic import Mixed

    rows = rows_of(select(manifest, partition, ["train", "validation"]))
    shape: dict[str, Any] = {"size": gain.tile, "batch_size": _TILES, "steps": gain.classifier_steps}
    source: Source = RandomCrops(images, rows, **shape, centred=0.5)
    if squares is not None:
        source = Mixed(source, squares, share=share, size=gain.tile)
    batches = cracked_or_sound(source, least=gain.min_crack_pixels, seed=training.seed)
    steps = gain.classifier_steps
    network = train_classifier(batches, channels=images.channels, steps=steps, plan=plan, seed=training.seed)
    scores, labels = [], []
    for row in rows_of(select(manifest, partition, ["test"])).tolist():
        tiles, cracked = _tiles(images.photograph(row), np.asarray(images.mask(row)), gain)
        scores.append(classify(network, tiles, plan))
        labels.append(cracked)
    truth = np.concatenate(labels)
    # It takes a second to import, and only this node needs it.
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(truth, np.concatenate(scores))) if 0 < truth.sum() < len(truth) else math.nan


def _tiles(
    photograph: NDArray[np.uint8], mask: NDArray[np.uint8], gain: Gain
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Cut a photograph into tiles that are cracked or sound."""
    size = gain.tile
    height, width = mask.shape
    corners = tiling.grid(height, width, size)
    cracked = tiling.count(mask == CRACK, corners, size) >= gain.min_crack_pixels
    known = cracked | (tiling.count(mask != BACKGROUND, corners, size, _MARGIN) == 0)
    tiles = [photograph[y : y + size, x : x + size] for y, x in corners[known].tolist()]
    shape = (0, size, size, *photograph.shape[2:])
    return np.stack(tiles) if tiles else np.zeros(shape, np.uint8), cracked[known]


def _interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Give mean and 95 % interval; of one value no interval."""
    if not len(values):
        return math.nan, math.nan, math.nan
    mean = float(values.mean())
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(stdtrit(len(values) - 1, 0.975) * values.std(ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half
