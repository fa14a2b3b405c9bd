"""Nodes that compare new photographs with the earlier ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation.drift import Drift, drift_table, measure_drift
from crack_pipeline.evaluation.drift_figure import drift_figure
from crack_pipeline.evaluation.probability_levels import level_counts, likeliest
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.imaging.quality import brightness, sharpness
from crack_pipeline.imaging.stack import ImageStack
from crack_pipeline.models.registered import Contenders, Registered
from crack_pipeline.models.segmenters import rebuild
from crack_pipeline.pipelines.anomaly.nodes import score_new
from crack_pipeline.pipelines.promotion.contending import form_differs
from crack_pipeline.pipelines.retraining.looking import News, Versions
from crack_pipeline.pipelines.retraining.parameters import DriftCheck, Retraining
from crack_pipeline.training.levels import levels
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

SCORE = "score"
QUANTITIES = [SCORE, "brightness", "sharpness", "resolution"]
_KEPT = ["image_id", "path", "label", "role", "group", "new"]


def measure_photographs(
    news: News,
    images: ImageStack | PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    registry: Versions,
    retraining: Retraining,
    plan: Plan,
    *,
    model: str,
) -> pd.DataFrame:
    """Measure the new photographs, and as many of the earlier ones.

    Parameters
    ----------
    news
        Which photographs are new.
    images, manifest, partition
        All that there are.
    registry
        Holds the model that scores: the champion, or the newest version where there is none.
    retraining
        How many are measured.
    plan
        Compute plan.
    model
        Name of the registered model.

    Returns
    -------
    DataFrame
        A row per image: ``image_id``, ``path``, ``label``, ``role``, ``group``, ``new`` (bool) and float columns
        `QUANTITIES`, NaN where not measured. The score is not measured of what the model has learned from, on which it
        answers better; of a segmenter it is the mean probability of the 100 likeliest pixels. Empty where nothing was
        there before, or nothing is new.
    """
    check = retraining.drift
    table = manifest.drop(columns="group").merge(partition[["image_id", "role", "group"]], on="image_id")
    table = table.assign(new=table["photo_id"].isin(news.new))
    if not table["new"].any() or table["new"].all() or news.newest is None:
        return pd.DataFrame({name: [] for name in (*_KEPT, *QUANTITIES)}).astype({"new": bool})
    drawn = pd.concat([_draw(part, check.photographs, check.seed) for _, part in table.groupby("new")])
    drawn = drawn.sort_values("row", ignore_index=True)
    # One after the other: together they may be larger than the memory
    pictures = (_picture(images, row) for row in drawn["row"].tolist())
    bright, sharp = zip(*((brightness(picture), sharpness(picture)) for picture in pictures), strict=True)
    photos = images.photos.drop_duplicates("photo_id").set_index("photo_id")  # all tiles have the size of a tile
    pixels = drawn["photo_id"].map(photos["width"].astype(float) * photos["height"])
    measured = drawn.assign(
        brightness=bright,
        sharpness=sharp,
        resolution=np.sqrt(pixels.to_numpy(float)),
    )
    measured[SCORE] = _scores(registry.contenders(model), images, measured, check, plan)
    return measured[[*_KEPT, *QUANTITIES]]


def judge(measured: pd.DataFrame, retraining: Retraining) -> tuple[Drift, pd.DataFrame, Figure, dict[str, Any]]:
    """Say whether the new photographs are of the kind of the earlier ones; see `evaluation.drift`.

    Parameters
    ----------
    measured
        As :func:`measure_photographs` gives it.
    retraining
        When something has drifted.

    Returns
    -------
    drift : Drift
        The verdicts.
    table : DataFrame
        A row per quantity.
    figure : Figure
        Their distributions.
    tracked : dict
        Distances, and whether something drifted (1) or not (0), as the tracker takes them.
    """
    new, earlier = measured[measured["new"]], measured[~measured["new"]]
    quantities = [name for name in QUANTITIES if measured[name].notna().any()] or QUANTITIES
    drift = measure_drift(earlier, new, quantities, retraining.drift)
    about = f"{len(new):,} new photographs against {len(earlier):,} earlier ones" if len(measured) else ""
    drift = drift.model_copy(update={"about": about})
    if about:
        logger.info("drift: %s (%s)", drift.verdict, about)
    tracked = {f"drift.{shift.quantity}": shift.distance for shift in drift.shifts if shift.distance is not None}
    tracked["drift.drifted"] = float(drift.verdict == "drifted")
    return drift, drift_table(drift), drift_figure(drift, earlier, new), _steps(tracked)


def _steps(values: Mapping[str, float]) -> dict[str, Any]:
    return {name: {"value": value, "step": 0} for name, value in values.items()}


def _draw(table: pd.DataFrame, most: int, seed: int) -> pd.DataFrame:
    return table if len(table) <= most else table.sample(most, random_state=seed)


def _picture(images: ImageStack | PhotographStack, row: int) -> np.ndarray:
    return images.photograph(row) if isinstance(images, PhotographStack) else images[row]


def _scores(
    contenders: Contenders,
    images: ImageStack | PhotographStack,
    measured: pd.DataFrame,
    check: DriftCheck,
    plan: Plan,
) -> np.ndarray:
    """Score with the model in use, or the newest one; NaN where that was not done."""
    current = contenders.champion or contenders.challenger
    differs = form_differs(current.weights, images)
    scores = pd.Series(np.nan, index=measured.index)
    if differs:
        logger.warning("version %d cannot score these photographs: it %s", current.version, differs)
        return scores.to_numpy()
    learned = measured["photo_id"].isin(set(current.weights.facts.get("learned_from", ())))
    unseen = measured[~measured["group"].isin(measured.loc[learned, "group"])]
    chosen = pd.concat([_draw(part, check.scored, check.seed) for _, part in unseen.groupby("new")])
    if len(chosen):
        scores[chosen.index] = _answers(current, images, chosen, plan)
    return scores.to_numpy()


def _answers(current: Registered, images: ImageStack | PhotographStack, chosen: pd.DataFrame, plan: Plan) -> np.ndarray:
    weights = current.weights
    if isinstance(images, PhotographStack):
        network, tiles = rebuild(weights), Tiles.model_validate(weights.facts["tiles"])
        found = (levels(network, images.photograph(row), plan, tiles) for row in chosen["row"].tolist())
        return np.array([likeliest(level_counts(level)) for level in found])
    return score_new(weights, images, chosen, plan)[weights.facts["name"]].to_numpy(float)
