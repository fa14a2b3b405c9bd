"""How often a promotion is wrong, and how often it sees what is better, on rendered answers whose truth is known.

python benchmarks/promotion_errors.py [--trials 400] [--resamples 1000] [--processes 2] [--only "equal models"]

Every trial draws places anew, and two models that answer on their photographs: each has what is hard for both, an error
of its own at each place, which all photographs of the place share, and one at each photograph. *Equal* models have the
same true quality, and *worse* challengers have lost more than may be lost on the chosen metric: to promote either is
wrong; *better* ones should be promoted. Detectors are judged by the metrics and margins of the project, and segmenters
by pooled Dice, precision and recall of cracks that are as unequally long as real ones are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

from crack_pipeline.evaluation.bootstrap import Measure
from crack_pipeline.evaluation.metrics import detection_measure, ratio
from crack_pipeline.evaluation.promotion import Criteria, Sampling, weigh

DETECTOR = Criteria.model_validate(
    {
        "chosen": "roc_auc",
        "metrics": {"roc_auc": {"may_lose": 0.005}, "average_precision": {}, "recall": {"must_gain": 0.01}},
    }
)
SEGMENTER = Criteria.model_validate(
    {"chosen": "dice", "metrics": {"dice": {"may_lose": 0.01}, "precision": {}, "recall": {}}}
)


class Places(NamedTuple):
    """How many places there are, what share of them is cracked, and how many photographs a place has on average."""

    number: int
    cracked: float = 0.5
    photographs: float = 1.0

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Give place of each photograph, and which places are cracked."""
        sizes = rng.geometric(1 / self.photographs, self.number)
        cracked = np.arange(self.number) < max(1, round(self.cracked * self.number))
        return np.repeat(np.arange(self.number), sizes), cracked


class Detectors(NamedTuple):
    """Two detectors of true ROC-AUC each, whose errors agree as far as is said."""

    champion: float
    challenger: float
    agree: float = 0.5

    def draw(
        self, place: NDArray[np.int64], cracked: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[Measure, Measure, Criteria]:
        """Let both answer; the threshold of each lets 5 % of the sound ones through."""
        hard = rng.normal(size=len(cracked))
        truth, measures = cracked[place], []
        for area in (self.challenger, self.champion):
            own = sqrt(self.agree) * hard + sqrt(1 - self.agree) * rng.normal(size=len(cracked))
            error = sqrt(0.7) * own[place] + sqrt(0.3) * rng.normal(size=len(place))
            scores = error + sqrt(2) * NormalDist().inv_cdf(area) * truth
            measures.append(detection_measure(truth, scores, NormalDist().inv_cdf(0.95)))
        return measures[0], measures[1], DETECTOR


class Segmenters(NamedTuple):
    """Two segmenters, each of which finds a share of the crack pixels, and a share of what it finds is right."""

    champion: float
    challenger: float
    agree: float = 0.5

    def draw(
        self, place: NDArray[np.int64], cracked: NDArray[np.bool_], rng: np.random.Generator
    ) -> tuple[Measure, Measure, Criteria]:
        """Let both answer; few places hold most of the crack pixels."""
        areas = rng.lognormal(6, 1, len(cracked))
        true = (areas * cracked)[place] * rng.lognormal(0, 0.3, len(place))
        hard = rng.normal(size=len(cracked))
        measures = []
        for share in (self.challenger, self.champion):
            own = sqrt(self.agree) * hard + sqrt(1 - self.agree) * rng.normal(size=len(cracked))
            # A logit with a spread of 0.8 that is 0 on average in the share it gives
            logit = np.log(share / (1 - share)) + 0.8 * (
                sqrt(0.7) * own[place] + sqrt(0.3) * rng.normal(size=len(place))
            )
            found = 1 / (1 + np.exp(-logit))
            hit = true * found
            false = np.where(true > 0, true, areas[place] / 20) * (1 - found)
            measures.append(partial(_overlap, np.stack([hit, false, true - hit], axis=1)))
        return measures[0], measures[1], SEGMENTER


def main() -> None:
    """Print a table of error rates and one of power."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", choices=list(_CASES), help="one of the tables")
    given = parser.parse_args()
    sampling = Sampling(resamples=given.resamples)
    with ProcessPoolExecutor(given.processes) as pool:
        for title, cases in _CASES.items():
            if given.only not in (None, title):
                continue
            print(f"\n{title}: promoted, of {given.trials:,} trials", flush=True)
            for name, places, models in cases:
                trial = partial(_promoted, places, models, sampling)
                won = sum(pool.map(trial, range(given.trials), chunksize=10))
                share = won / given.trials
                wide = 1.96 * sqrt(max(share * (1 - share), 0.5 / given.trials) / given.trials)
                print(f"  {name:<62} {100 * share:5.1f} % +- {100 * wide:.1f}", flush=True)


def _promoted(places: Places, models: Detectors | Segmenters, sampling: Sampling, seed: int) -> bool:
    rng = np.random.default_rng(seed)
    place, cracked = places.draw(rng)
    challenger, champion, criteria = models.draw(place, cracked, rng)
    # Without the kinds, of which promotion asks for enough places: what would happen with fewer is to be seen
    return weigh(challenger, champion, place, criteria, sampling).promoted


def _overlap(counts: NDArray[np.float64], weights: NDArray[np.int32]) -> dict[str, NDArray[np.float64]]:
    hit, false, missed = (weights.astype(np.float64) @ counts).T
    return {
        "dice": ratio(2 * hit, 2 * hit + false + missed),
        "precision": ratio(hit, hit + false),
        "recall": ratio(hit, hit + missed),
    }


Case = tuple[str, Places, Detectors | Segmenters]


def _cases(models: Detectors | Segmenters, kind: str, places: Sequence[tuple[str, Places]]) -> list[Case]:
    return [(f"{kind}, {said}", found, models) for said, found in places]


_SIZES = [
    *((f"{number} places of one photograph", Places(number)) for number in (40, 100, 200)),
    *((f"{number} places of 5 photographs on average", Places(number, photographs=5)) for number in (40, 100)),
]
_FEW = [(f"{number} of 100 places cracked", Places(100, number / 100)) for number in (2, 5, 10, 20)]
_CASES: dict[str, list[Case]] = {
    "equal models": [
        *_cases(Detectors(0.9, 0.9), "ROC-AUC 0.9", _SIZES),
        *_cases(Detectors(0.99, 0.99), "ROC-AUC 0.99", [_SIZES[1], _SIZES[4]]),
        *_cases(Segmenters(0.8, 0.8), "Dice 0.8", _SIZES),
    ],
    "equal models, few cracked places": [
        *_cases(Detectors(0.9, 0.9), "ROC-AUC 0.9", _FEW),
        *_cases(Segmenters(0.8, 0.8), "Dice 0.8", _FEW),
    ],
    "worse by more than may be lost": [
        *_cases(Detectors(0.9, 0.89), "ROC-AUC 0.9 to 0.89", _SIZES[1:3]),
        *_cases(Segmenters(0.8, 0.78), "Dice 0.8 to 0.78", _SIZES[1:3]),
    ],
    "better": [
        *_cases(Detectors(0.9, 0.95), "ROC-AUC 0.9 to 0.95", _SIZES[:3]),
        *_cases(Detectors(0.9, 0.98), "ROC-AUC 0.9 to 0.98", _SIZES[:3]),
        *_cases(Segmenters(0.8, 0.83), "Dice 0.8 to 0.83", _SIZES[:3]),
        *_cases(Segmenters(0.8, 0.87), "Dice 0.8 to 0.87", _SIZES[:3]),
    ],
}


if __name__ == "__main__":
    main()
