"""Nodes that train the same segmenter with and without synthetic cracks, and compare."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from crack_pipeline.evaluation import segmentation_counts as counting
from crack_pipeline.evaluation import segmentation_metrics as metrics_of
from crack_pipeline.evaluation.gain_figure import gain_figure
from crack_pipeline.imaging import tiling
from crack_pipeline.imaging.photograph_stack import BACKGROUND, CRACK, PhotographStack
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.segmentation.parameters import Training
from crack_pipeline.pipelines.segmentation.predicting import levels, likeliest
from crack_pipeline.pipelines.segmentation.training import rebuild, train_segmenter
from crack_pipeline.pipelines.simulating import Admixture, simulated_squares
from crack_pipeline.pipelines.steps import select
from crack_pipeline.pipelines.synthesis_gain.parameters import Gain
from crack_pipeline.training.compute import Plan
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

_MARGIN = 4
MEASURES = {"dice": "Dice, pooled", "miou": "mean IoU", "tile_roc_auc": "ROC-AUC of tiles"}


def compare_trainings(
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    data_fingerprint: Mapping[str, Any],
    initial_weights: Weights,
    training: Training,
    simulation: Simulation,
    gain: Gain,
    tiles: Tiles,
    plan: Plan,
    checkpoints: Path,
) -> pd.DataFrame:
    """Train with each number of real photographs, with and without synthetic cracks, and measure on the test ones.

    Every number's photographs are among those of the next larger one, the same with and without synthetic cracks, and
    synthetic cracks are drawn on no others. A training that has ended is not repeated when the study is interrupted.

    Returns
    -------
    pandas.DataFrame
        A row per training: ``pairs``, ``share``, ``seed``, ``dice``, ``miou``, ``tile_roc_auc``.

    Raises
    ------
    ValueError
        If there are fewer training photographs with a crack than the fewest that are asked for.
    """
    train = select(manifest, partition, ["train"])
    cracked = train[train["crack_pixels"] > 0]
    sizes = sorted({min(number, len(cracked)) for number in gain.pairs})
    if min(gain.pairs) > len(cracked):
        raise ValueError(
            f"there are {len(cracked):,} training photographs with a crack, fewer than the {min(gain.pairs):,} of "
            "synthesis_gain.gain.pairs: lower it, or add photographs"
        )
    planned = [(number, share, seed) for seed in range(gain.seeds) for number in sizes for share in sorted(gain.shares)]
    rows = []
    for done, (number, share, seed) in enumerate(planned, start=1):
        what = {
            "data": data_fingerprint["fingerprint"],
            "network": initial_weights.facts,
            "training": training.model_dump(mode="json"),
            "simulation": simulation.model_dump(mode="json"),
            "tiles": tiles.model_dump(mode="json"),
            "gain": gain.model_dump(mode="json", include={"tile", "min_crack_pixels"}),
            "pairs": number,
            "share": share,
            "seed": seed,
        }
        kept = checkpoints / f"{_name(what)}.json"
        if kept.exists():
            rows.append(json.loads(kept.read_text(encoding="utf-8")))
            continue
        logger.info(
            "training %d of %d: %d photographs, %.0f %% synthetic, seed %d",
            done,
            len(planned),
            number,
            100 * share,
            seed,
        )
        used = _subset(partition, cracked["image_id"].to_numpy(), number, seed)
        how = training.model_copy(update={"seed": training.seed + seed})
        admixture = Admixture()
        if share:
            squares = simulated_squares(
                images, manifest, used, simulation, role="train", size=how.crop, seed=how.seed, sound=False
            )
            admixture = Admixture(share, squares, {"share": share})
        weights, _ = train_segmenter(
            images,
            manifest,
            used,
            {"fingerprint": _name(what)},
            initial_weights,
            how,
            plan,
            checkpoints,
            admixture,
        )
        row = {"pairs": number, "share": share, "seed": seed}
        row |= _measure(weights, images, manifest, used, gain, tiles, plan)
        logger.info("Dice %.4f, ROC-AUC of tiles %.4f", row["dice"], row["tile_roc_auc"])
        checkpoints.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        part.write_text(json.dumps(row), encoding="utf-8")
        part.replace(kept)
        rows.append(row)
    return pd.DataFrame(rows)


def summarise_gain(trainings: pd.DataFrame) -> pd.DataFrame:
    """Give, for each number of photographs and share, the mean of each measure, and what the share adds.

    Returns
    -------
    pandas.DataFrame
        ``pairs``, ``share``, ``measure``, ``mean``, ``low``, ``high`` (95 %, Student's t over the seeds), and ``gain``,
        ``gain_low``, ``gain_high``: the difference to share 0, paired by seed.
    """
    rows = []
    for (number, share), table in trainings.groupby(["pairs", "share"]):
        plain = trainings[(trainings["pairs"] == number) & (trainings["share"] == 0)].set_index("seed")
        for measure in MEASURES:
            values = table.set_index("seed")[measure]
            mean, low, high = _interval(values.to_numpy(np.float64))
            more, least, most = _interval((values - plain[measure]).dropna().to_numpy(np.float64))
            rows.append(
                {
                    "pairs": number,
                    "share": share,
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
    """Draw each measure over the number of real photographs, a curve per share of synthetic squares."""
    return gain_figure(gains, MEASURES)


def summarise(gains: pd.DataFrame) -> str:
    """Say in a table what synthetic cracks add."""
    shown = gains[gains["share"] > 0].copy()
    lines = ["what synthetic cracks add, by the number of real training photographs:"]
    for _, row in shown.iterrows():
        lines.append(
            f"  {int(row['pairs']):>5} photographs, {row['share']:.0%} synthetic: {MEASURES[row['measure']]} "
            f"{row['mean'] - row['gain']:.4f} -> {row['mean']:.4f} ({row['gain']:+.4f}; "
            f"{row['gain_low']:+.4f} to {row['gain_high']:+.4f})"
        )
    return "\n".join(lines)


def _name(what: Mapping[str, Any]) -> str:
    # Lightning takes seconds to import, and only this node needs it.
    from crack_pipeline.training.fit import fingerprint

    return fingerprint(**what)


def _subset(partition: pd.DataFrame, cracked: NDArray[Any], number: int, seed: int) -> pd.DataFrame:
    """Leave, of the training photographs, so many cracked ones."""
    kept = np.random.default_rng([seed, 4]).permutation(np.sort(cracked))[:number]
    return partition[(partition["role"] != "train") | partition["image_id"].isin(kept)].reset_index(drop=True)


def _measure(
    weights: Weights,
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    gain: Gain,
    tiles: Tiles,
    plan: Plan,
) -> dict[str, float]:
    network = rebuild(weights)
    validation = [
        counting.count(levels(network, images.photograph(row), plan, tiles), images.mask(row), None)
        for row in select(manifest, partition, ["validation"])["row"].astype(int)
    ]
    threshold = metrics_of.choose_threshold(counting.total_levels(validation))
    counts, scores, labels = [], [], []
    for row in select(manifest, partition, ["test"])["row"].astype(int):
        level, mask = levels(network, images.photograph(row), plan, tiles), np.asarray(images.mask(row))
        counts.append(counting.count(level, mask, None))
        height, width = mask.shape
        corners = tiling.grid(height, width, gain.tile)
        cracks = tiling.count(mask == CRACK, corners, gain.tile)
        sound = tiling.count(mask != BACKGROUND, corners, gain.tile, _MARGIN) == 0
        for (y, x), number, is_sound in zip(corners.tolist(), cracks.tolist(), sound.tolist(), strict=True):
            if is_sound or number >= gain.min_crack_pixels:
                seen = level[y : y + gain.tile, x : x + gain.tile]
                scores.append(likeliest(np.bincount(seen.ravel(), minlength=counting.LEVELS)))
                labels.append(not is_sound)
    curve = metrics_of.threshold_curve(counting.total_levels(counts)).iloc[counting.level_of(threshold)]
    both = 0 < sum(labels) < len(labels)
    return {
        "dice": float(curve["dice"]),
        "miou": float(curve["miou"]),
        "tile_roc_auc": float(roc_auc_score(labels, scores)) if both else math.nan,
    }


def _interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Give mean and 95 % interval; of one value no interval."""
    if not len(values):
        return math.nan, math.nan, math.nan
    mean = float(values.mean())
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
    return mean, mean - half, mean + half
