"""Nodes that judge a generator: by what a classifier, a distance and a look at the training photographs say."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.evaluation.bootstrap import percentile_interval, resampled_weights
from crack_pipeline.evaluation.generated import density_and_coverage, wilson_interval
from crack_pipeline.imaging.copies import find_nearest
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.pipelines.synthesis.drawing import Drawing, picture_seed
from crack_pipeline.pipelines.synthesis.nodes import Pictures
from crack_pipeline.pipelines.synthesis.parameters import Judging
from crack_pipeline.training.compute import Plan
from crack_pipeline.training.random_features import random_features
from crack_pipeline.training.telling_apart import tell_apart

logger = logging.getLogger(__name__)
T = TypeVar("T")

_SECONDS_BETWEEN_LINES = 10.0
_COLUMNS = ["seed", "nearest", "correlation", "copy", "top", "left", "side", "generated"]
_ROOT = 977
"""Seeds of the pictures that are judged differ from those of the data set that is written."""


def judge(
    drawing: Drawing,
    train_pictures: Pictures,
    test_pictures: Pictures,
    manifest: pd.DataFrame,
    judging: Judging,
    plan: Plan,
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Judge a generator against photographs that it has not learned from; without any, nothing is judged.

    Returns
    -------
    dict
        ``real_or_generated`` (share that the classifier gets right, 0.5 at best for the generator; ``ci95``;
        ``n``), ``density``, ``coverage``, the same two of real training pictures, if there are any, ``copies`` (share
        of drawn pictures that are in a training photograph, ``ci95``) and, for comparison, of real test pictures.
    pandas.DataFrame
        A row per drawn picture: ``seed``, ``nearest`` (path of the training photograph), ``correlation``, ``copy``,
        ``top``, ``left`` and ``side`` of the place there, px, and ``generated`` (the classifier's probability).
    """
    if not len(test_pictures.rows):
        return {}, pd.DataFrame(columns=_COLUMNS)
    drawn, seeds = _draw(drawing, judging)
    real, _, photographs = test_pictures.take(judging.pictures, judging.seed)
    groups = manifest.set_index("row")["group"].loc[photographs.tolist()].to_numpy()
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    learned = train_pictures.take(judging.pictures, judging.seed)[0] if len(train_pictures.rows) else real[:0]
    judged = tell_apart(real, drawn, groups, plan, folds=judging.folds, steps=judging.steps, seed=judging.seed)
    right = (judged > 0.5) == np.repeat([False, True], [len(real), len(drawn)])

    features = random_features(np.concatenate([real, drawn, learned]), plan)
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
    of_real, of_drawn, of_learned = np.split(features, [len(real), len(real) + len(drawn)])
    density, coverage = density_and_coverage(of_real, of_drawn, judging.neighbours)

    sources = train_pictures if drawing.sources is None else replace(train_pictures, rows=drawing.sources)
    nearest, nearest_of_real = (_nearest(pictures, sources) for pictures in (drawn, real))
    copied = nearest["correlation"] >= judging.copy_correlation
    real_copies = int((nearest_of_real["correlation"] >= judging.copy_correlation).sum())
    paths = manifest.set_index("row")["path"]
    table = pd.DataFrame(
        {
            "seed": seeds,
            "nearest": [paths.get(row, "") for row in nearest["row"]],
            "correlation": nearest["correlation"],
            "copy": copied,
            **{name: nearest[name] for name in ("top", "left", "side")},
            "generated": judged[len(real) :],
        }
    )
    found = {
        "real_or_generated": _share_of_groups(right, groups, judging),
        "density": density,
        "coverage": coverage,
        "copies": _share(int(copied.sum()), len(drawn)),
        "copies_among_real_test_pictures": _share(real_copies, len(real)),
    }
    if len(learned):
        best_density, best_coverage = density_and_coverage(of_real, of_learned, judging.neighbours)
        found["of_training_pictures"] = {"density": best_density, "coverage": best_coverage}
    return found, table.sort_values("correlation", ascending=False, ignore_index=True)


def track_judgement(judgement: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Flatten the judgement to ``{name: {"value": number, "step": 0}}``, as the tracker takes it."""
    flat: dict[str, float] = {}
    for name, value in judgement.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{part}": number for part, number in value.items() if isinstance(number, float)}
        else:
            flat[name] = float(value)
    return {name: {"value": value, "step": 0} for name, value in flat.items()}


def summarise(judgement: Mapping[str, Any], data_fingerprint: Mapping[str, Any], quarantine: pd.DataFrame) -> str:
    """Say in a few lines what the generator is worth."""
    if not judgement:
        return f"{data_fingerprint['images']:,} photographs; no photograph of the role test shows a crack to judge with"
    told, copies = judgement["real_or_generated"], judgement["copies"]
    best = judgement.get("of_training_pictures")
    beside = f"; training pictures: {best['density']:.3f} and {best['coverage']:.3f}" if best else ""
    return "\n".join(
        [
            f"{data_fingerprint['images']:,} photographs; {len(quarantine):,} files in quarantine",
            f"a classifier tells real pictures from drawn ones in {told['share']:.1%} of {told['n']:,} cases "
            f"({told['ci95'][0]:.1%} to {told['ci95'][1]:.1%}; 50 % is guessing)",
            f"density {judgement['density']:.3f} and coverage {judgement['coverage']:.3f} of unseen real pictures"
            + beside,
            f"{copies['share']:.1%} of the drawn pictures are copies of a place in a training photograph "
            f"({copies['ci95'][0]:.1%} to {copies['ci95'][1]:.1%})",
        ]
    )


def _draw(drawing: Drawing, judging: Judging) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    seeds = np.array([picture_seed(judging.seed + _ROOT, number) for number in range(judging.pictures)], np.int64)
    images, masks = drawing.draw(seeds)
    if drawing.masks:
        logger.info("%.1f %% of the drawn pictures show a crack", 100 * (masks == CRACK).any(axis=(1, 2)).mean())
    return images, seeds


def _nearest(pictures: NDArray[np.uint8], among: Pictures) -> pd.DataFrame:
    photographs = ((int(row), among.images.photograph(int(row))) for row in among.rows)
    found = pd.DataFrame(find_nearest(pictures, _told(photographs, len(among.rows)), whole=not among.masks))
    corners = np.array(found.pop("corner").tolist())
    return found.assign(top=corners[:, 0], left=corners[:, 1])


def _told(photographs: Iterable[T], number: int) -> Iterator[T]:
    """Say from time to time how many photographs have been searched."""
    said = time.monotonic()
    for done, photograph in enumerate(photographs):
        if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            logger.info("looked for copies in %d of %d photographs", done, number)
        yield photograph


def _share_of_groups(right: NDArray[np.bool_], groups: NDArray[np.int64], judging: Judging) -> dict[str, Any]:
    """Give a share; crops of photographs of one group are not independent, pictures that were drawn are."""
    drawn = len(right) - len(groups)
    of_all = np.concatenate([groups, groups.max() + 1 + np.arange(drawn)])
    shares = [
        weights @ right / weights.sum(axis=1)
        for weights in resampled_weights(of_all, resamples=judging.resamples, seed=judging.seed)
    ]
    interval = percentile_interval(np.concatenate(shares))
    return {"share": float(right.mean()), "ci95": interval, "n": len(right)}


def _share(hits: int, number: int) -> dict[str, Any]:
    return {"share": hits / number, "ci95": list(wilson_interval(hits, number)), "n": number}
