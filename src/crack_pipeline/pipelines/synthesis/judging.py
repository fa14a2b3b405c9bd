"""Nodes that judge a generator: by what a classifier, a distance and a look at the training photographs say."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation.bootstrap import percentile_interval, resampled_weights
from crack_pipeline.evaluation.generated import density_and_coverage, wilson_interval
from crack_pipeline.imaging.copies import find_nearest
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.pipelines.synthesis.drawing import Drawing, picture_seed
from crack_pipeline.pipelines.synthesis.nodes import Pictures
from crack_pipeline.pipelines.synthesis.parameters import Judging
from crack_pipeline.training.random_features import random_features
from crack_pipeline.training.telling_apart import tell_apart

logger = logging.getLogger(__name__)
T = TypeVar("T")

_SECONDS_BETWEEN_LINES = 10.0
_COLUMNS = ["seed", "row", "nearest", "correlation", "copy", "top", "left", "side", "generated"]
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
        ``n``), where the test pictures are of two groups at least; ``density``, ``coverage``, and the same two of real
        training pictures, where there are enough different ones; ``copies`` (share of drawn pictures that are in a
        training photograph, ``ci95``) and, for comparison, of real test pictures.
    pandas.DataFrame
        A row per drawn picture: ``seed``, ``row`` and ``nearest`` (path) of the training photograph, ``correlation``,
        ``copy``, ``top``, ``left`` and ``side`` of the place there, px, and ``generated`` (what the classifier says,
        0 to 1).
    """
    if not len(test_pictures.rows):
        return {}, pd.DataFrame(columns=_COLUMNS)
    drawn, seeds = _draw(drawing, judging)
    real, _, photographs = test_pictures.take(judging.pictures, judging.seed)
    learned = train_pictures.take(judging.pictures, judging.seed)[0] if len(train_pictures.rows) else real[:0]
    # Few photographs, or pictures as large as they are, give the same picture more than once.
    once = _distinct(real)
    real, photographs, learned = real[once], photographs[once], learned[_distinct(learned)]
    group_of = manifest.set_index("row")["group"]
    groups = _numbered(group_of.loc[photographs.tolist()].to_numpy())
    drawn_on = drawing.rows(seeds)
    drawn_groups = np.arange(len(drawn)) if drawn_on is None else _numbered(group_of.loc[drawn_on.tolist()].to_numpy())
    found: dict[str, Any] = {}
    judged = np.full(len(real) + len(drawn), np.nan, np.float32)
    if min(len(set(groups.tolist())), len(set(drawn_groups.tolist()))) > 1:
        apart = np.concatenate([groups, groups.max() + 1 + drawn_groups])
        judged = tell_apart(real, drawn, apart, plan, folds=judging.folds, steps=judging.steps, seed=judging.seed)
        right = (judged > 0.5) == np.repeat([False, True], [len(real), len(drawn)])
        found["real_or_generated"] = _share_of_groups(right, [groups, drawn_groups], judging)
    else:
        logger.warning(
            "real and drawn pictures are not told apart: that takes photographs of two places at least of each"
        )
    if len(real) > judging.neighbours:
        features = random_features(np.concatenate([real, drawn, learned]), plan)
        features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-6)
        of_real, of_drawn, of_learned = np.split(features, [len(real), len(real) + len(drawn)])
        found["density"], found["coverage"] = density_and_coverage(of_real, of_drawn, judging.neighbours)
        if len(learned):
            density, coverage = density_and_coverage(of_real, of_learned, judging.neighbours)
            found["of_training_pictures"] = {"density": density, "coverage": coverage}

    sources = train_pictures if drawing.sources is None else replace(train_pictures, rows=drawing.sources)
    nearest, nearest_of_real = (_nearest(pictures, sources) for pictures in (drawn, real))
    copied = nearest["correlation"] >= judging.copy_correlation
    real_copies = int((nearest_of_real["correlation"] >= judging.copy_correlation).sum())
    paths = manifest.set_index("row")["path"]
    table = pd.DataFrame(
        {
            "seed": seeds,
            "row": nearest["row"],
            "nearest": [paths.get(row, "") for row in nearest["row"]],
            "correlation": nearest["correlation"],
            "copy": copied,
            **{name: nearest[name] for name in ("top", "left", "side")},
            "generated": judged[len(real) :],
        }
    )
    found["copies"] = _share(int(copied.sum()), len(drawn))
    found["copies_among_real_test_pictures"] = _share(real_copies, len(real))
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
    told, copies = judgement.get("real_or_generated"), judgement["copies"]
    best = judgement.get("of_training_pictures")
    lines = [f"{data_fingerprint['images']:,} photographs; {len(quarantine):,} files in quarantine"]
    if told:
        lines.append(
            f"a classifier tells real pictures from drawn ones in {told['share']:.1%} of {told['n']:,} cases "
            f"({told['ci95'][0]:.1%} to {told['ci95'][1]:.1%}; 50 % is guessing)"
        )
    if "density" in judgement:
        beside = f"; training pictures: {best['density']:.3f} and {best['coverage']:.3f}" if best else ""
        lines.append(
            f"density {judgement['density']:.3f} and coverage {judgement['coverage']:.3f} of unseen real pictures"
            + beside
        )
    if not told or "density" not in judgement:
        lines.append(
            "the photographs of the role test are too few, or too much alike, to say more of how real they look"
        )
    lines.append(
        f"{copies['share']:.1%} of the drawn pictures are copies of a place in a training photograph "
        f"({copies['ci95'][0]:.1%} to {copies['ci95'][1]:.1%})"
    )
    return "\n".join(lines)


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


def _distinct(pictures: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Give the numbers of the pictures that do not come again, the first of each."""
    first: dict[bytes, int] = {}
    for number, picture in enumerate(pictures):
        first.setdefault(picture.tobytes(), number)
    return np.array(list(first.values()), np.int64)


def _numbered(groups: NDArray[Any]) -> NDArray[np.int64]:
    return np.unique(groups, return_inverse=True)[1].astype(np.int64)


def _share_of_groups(right: NDArray[np.bool_], groups: Sequence[NDArray[np.int64]], judging: Judging) -> dict[str, Any]:
    """Give a share of real and drawn pictures; those of one group are not independent."""
    shares = np.zeros(judging.resamples)
    kinds = zip(groups, np.split(right, [len(groups[0])]), strict=True)
    for number, (of_kind, kind) in enumerate(kinds):
        chunks = resampled_weights(of_kind, resamples=judging.resamples, seed=judging.seed + number)
        of_each = np.concatenate([weights @ kind / weights.sum(axis=1) for weights in chunks])
        shares += of_each * len(kind) / len(right)
    return {"share": float(right.mean()), "ci95": percentile_interval(shares), "n": len(right)}


def _share(hits: int, number: int) -> dict[str, Any]:
    return {"share": hits / number, "ci95": list(wilson_interval(hits, number)), "n": number}
