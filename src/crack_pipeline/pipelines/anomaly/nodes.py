"""Nodes of the anomaly detector: score, choose, measure, pack."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from typing import Any

import numpy as np
import pandas as pd

from crack_pipeline.engines.blocks import Store
from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation import thresholds as threshold_rules
from crack_pipeline.evaluation.metrics import detection_metrics
from crack_pipeline.evaluation.scores import BASELINE, MeanSquaredError, Score, score_named
from crack_pipeline.imaging.stack import ImageStack
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.anomaly.parameters import Report, Scoring, Threshold
from crack_pipeline.pipelines.anomaly.scoring import ImageScoring, score_images
from crack_pipeline.pipelines.anomaly.training import detector_of
from crack_pipeline.pipelines.ingestion.parameters import Image
from crack_pipeline.pipelines.steps import fingerprint, select

logger = logging.getLogger(__name__)

PUBLISHED = MeanSquaredError().name
SETS = {"internal": "test", "external": "external"}
"""Name of each set in metrics and tables, and the role of its images."""


def fingerprint_data(manifest: pd.DataFrame, partition: pd.DataFrame, image: Image) -> dict[str, Any]:
    """Identify the data of a training; see :func:`crack_pipeline.pipelines.steps.fingerprint`."""
    return fingerprint(manifest, partition, image)


def score_validation(
    network_weights: Weights,
    images: ImageStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    scoring: Scoring,
    plan: Plan,
) -> pd.DataFrame:
    """Score the validation images with every candidate, the published score and the baseline.

    Returns
    -------
    pandas.DataFrame
        ``image_id``, ``path``, ``label``, ``role``, ``group`` and a float column per score. Only an autoencoder has the
        published one.

    Raises
    ------
    ValueError
        If no candidate is a score of this detector.
    """
    table = select(manifest, partition, ["validation"])
    candidates = scoring.of(detector_of(network_weights))
    scores: dict[str, Score] = {}
    for candidate in candidates:
        scores |= _in_use(candidate)
    return _score(network_weights, images, table, scores, plan)


def choose_score(validation_scores: pd.DataFrame, scoring: Scoring, report: Report) -> dict[str, Any]:
    """Choose the score that decides, on validation images alone.

    With ``use: auto`` it is the first candidate whose ROC-AUC is within one standard error of the best (the
    one-standard-error rule: Breiman, Friedman, Olshen and Stone, "Classification and Regression Trees", 1984,
    section 3.4.3), so that noise among a few validation images does not decide.

    Returns
    -------
    dict
        ``name`` and ``score`` (its parameters), ``reason``, and ``validation`` with the ROC-AUC of each.
    """
    is_crack = (validation_scores["label"] == "crack").to_numpy()
    names = [candidate.name for candidate in scoring.candidates if candidate.name in validation_scores]
    found = {
        name: detection_metrics(
            is_crack,
            validation_scores[name],
            0.0,
            validation_scores["group"],
            resamples=max(report.resamples, 200),
            seed=report.seed,
        )
        for name in reported(validation_scores, *names)
    }
    measured = {name: (metrics["roc_auc"], metrics["roc_auc_ci95"]) for name, metrics in found.items()}
    if scoring.use != "auto":
        name, reason = scoring.use, "asked for"
    elif any(measured[name][0] is None for name in names):
        name, reason = names[0], "the first candidate: the validation images hold only one label"
    else:
        best = max(names, key=lambda name: measured[name][0])
        low, high = measured[best][1] or (measured[best][0],) * 2
        least = measured[best][0] - (high - low) / (2 * 1.96)
        name = next(name for name in names if measured[name][0] >= least)
        reason = (
            f"the first candidate within one standard error of the best ({best}: {measured[best][0]:.4f}) "
            f"on {len(is_crack):,} validation images"
        )
    logger.info("score: %s, %s", name, reason)
    return {
        "name": name,
        "score": scoring.named(name).model_dump(mode="json"),
        "reason": reason,
        "validation": {n: {"roc_auc": auc, "roc_auc_ci95": interval} for n, (auc, interval) in measured.items()},
    }


def choose_thresholds(
    validation_scores: pd.DataFrame, score_choice: Mapping[str, Any], threshold: Threshold
) -> dict[str, float]:
    """Choose, for each score in use, the value above which a photograph is called cracked.

    Only sound validation images are looked at. The conformal rule is given one score per near-duplicate group,
    the highest, since copies are not exchangeable.

    Returns
    -------
    dict
        By the name of the score: the chosen one, the published one and the baseline.

    Raises
    ------
    ValueError
        If the rule needs more images than there are; the message says how many.
    """
    sound = validation_scores[validation_scores["label"] == "normal"]
    if threshold.rule == "conformal":
        sound = sound.drop(columns=["image_id", "path", "label", "role"]).groupby("group", as_index=False).max()
    return {
        name: threshold_rules.choose(sound[name].to_numpy(np.float64), rule=threshold.rule, level=threshold.level)
        for name in reported(validation_scores, str(score_choice["name"]))
    }


def score_test(
    network_weights: Weights,
    images: ImageStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    score_choice: Mapping[str, Any],
    plan: Plan,
) -> pd.DataFrame:
    """Score the images of the internal and the external set; the table is that of :func:`score_validation`."""
    table = select(manifest, partition, list(SETS.values()))
    return _score(network_weights, images, table, _in_use(score_named(score_choice["score"])), plan)


def measure(
    test_scores: pd.DataFrame,
    thresholds: Mapping[str, float],
    score_choice: Mapping[str, Any],
    report: Report,
) -> dict[str, Any]:
    """Measure the chosen score, the published one and the baseline on every set.

    Returns
    -------
    dict
        ``score``, ``threshold``, ``sets``, ``others`` (the published score) and ``baseline``; a set's metrics are
        those of :func:`crack_pipeline.evaluation.metrics.detection_metrics`.
    """
    sets = {name: test_scores[test_scores["role"] == role] for name, role in SETS.items()}
    return _measure(sets, thresholds, str(score_choice["name"]), report)


def list_predictions(
    test_scores: pd.DataFrame, thresholds: Mapping[str, float], score_choice: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Say for every image of the internal and of the external set whether it is cracked.

    Returns
    -------
    tuple of pandas.DataFrame
        Internal and external: ``image_id``, ``path``, ``label``, ``score``, ``predicted``.
    """
    internal, external = (
        _predictions(test_scores[test_scores["role"] == role], str(score_choice["name"]), thresholds)
        for role in SETS.values()
    )
    return internal, external


def pack_detector(
    network_weights: Weights,
    score_choice: Mapping[str, Any],
    thresholds: Mapping[str, float],
    threshold: Threshold,
    plan: Plan,
) -> Weights:
    """Put everything that a prediction needs into one object: weights, preparation, score, threshold."""
    facts = {
        **network_weights.facts,
        "name": score_choice["name"],
        "score": score_choice["score"],
        "thresholds": dict(thresholds),
        "threshold_rule": threshold.model_dump(mode="json"),
        "plan": plan.model_dump(mode="json"),
    }
    return Weights(network_weights.tensors, facts)


def read_preparation(detector: Weights) -> Image:
    """Give the form of images that a detector was trained on; new photographs are prepared the same way."""
    return Image.model_validate(detector.facts["image"])


def score_new(
    detector: Weights, images: ImageStack, manifest: pd.DataFrame, plan: Plan, blocks: Store | None = None
) -> pd.DataFrame:
    """Score every image of a manifest with a trained detector; the table is that of :func:`score_validation`.

    Parameters
    ----------
    detector
        As packed.
    images, manifest
        The images.
    plan
        Compute plan, which says whose work this is.
    blocks
        Keeps scores, so that a run that is started again goes on; None: nowhere.
    """
    scores = _in_use(score_named(detector.facts["score"]))
    return _score(detector, images, manifest.assign(role="new"), scores, plan, blocks)


def measure_evaluation(new_scores: pd.DataFrame, detector: Weights, report: Report) -> dict[str, Any]:
    """Measure a trained detector on other labelled photographs; its score and threshold stay what they were.

    Returns
    -------
    dict
        As :func:`measure` gives it, with one set: ``evaluation``.
    """
    return _measure({"evaluation": new_scores}, detector.facts["thresholds"], detector.facts["name"], report)


def list_new_predictions(new_scores: pd.DataFrame, detector: Weights) -> pd.DataFrame:
    """Say for every image whether it is cracked: ``image_id``, ``path``, ``label``, ``score``, ``predicted``."""
    return _predictions(new_scores, detector.facts["name"], detector.facts["thresholds"])


def track_metrics(metrics: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Flatten metrics to ``{"<set>.<metric>": {"value": number, "step": 0}}``, as the tracker takes them."""
    flat = {"threshold": float(metrics["threshold"])}
    scores = {"": metrics, f"{metrics['baseline']['name']}.": metrics["baseline"]}
    scores |= {f"{name}.": entry for name, entry in metrics["others"].items()}
    for prefix, entry in scores.items():
        for set_name, found in entry["sets"].items():
            for metric, value in found.items():
                if isinstance(value, float):
                    flat[f"{prefix}{set_name}.{metric}"] = value
    return {name: {"value": value, "step": 0} for name, value in flat.items()}


def _in_use(chosen: Score) -> dict[str, Score]:
    """Give a score and, where there is something that it can be computed from, the published one."""
    published = MeanSquaredError()
    beside = {PUBLISHED: published} if published.detector == chosen.detector else {}
    return beside | {chosen.name: chosen}


def reported(known: Container[str], *names: str) -> list[str]:
    """Give some names of scores, the published one and the baseline: those that are known."""
    return [name for name in dict.fromkeys([*names, PUBLISHED, BASELINE]) if name in known]


def _score(
    weights: Weights,
    images: ImageStack,
    table: pd.DataFrame,
    scores: Mapping[str, Score],
    plan: Plan,
    blocks: Store | None = None,
) -> pd.DataFrame:
    values = score_images(ImageScoring(weights, images, dict(scores), plan), table, blocks)
    kept = table[["image_id", "path", "label", "role", "group"]].reset_index(drop=True)
    return pd.concat([kept, values], axis=1)


def _measure(
    sets: Mapping[str, pd.DataFrame], thresholds: Mapping[str, float], chosen: str, report: Report
) -> dict[str, Any]:
    def measured(name: str) -> dict[str, Any]:
        return {
            set_name: detection_metrics(
                (table["label"] == "crack").to_numpy(),
                table[name],
                thresholds[name],
                table["group"],
                resamples=report.resamples,
                seed=report.seed,
            )
            for set_name, table in sets.items()
            if len(table)
        }

    others = [name for name in reported(thresholds) if name not in (chosen, BASELINE)]
    return {
        "score": chosen,
        "threshold": thresholds[chosen],
        "sets": measured(chosen),
        "others": {name: {"threshold": thresholds[name], "sets": measured(name)} for name in others},
        "baseline": {"name": BASELINE, "threshold": thresholds[BASELINE], "sets": measured(BASELINE)},
    }


def _predictions(table: pd.DataFrame, name: str, thresholds: Mapping[str, float]) -> pd.DataFrame:
    cracked = table[name].to_numpy() > thresholds[name]
    kept = table[["image_id", "path", "label"]]
    predictions = kept.assign(score=table[name], predicted=np.where(cracked, "crack", "normal"))
    return predictions.sort_values("score", ascending=False, kind="stable", ignore_index=True)
