"""Whether new photographs are of the kind that a model was made with: quantities of both, compared.

Each quantity is compared by the distance of Kolmogorov and Smirnov, the largest difference D between the two
distribution functions: 0 where they are the same, 1 where they do not overlap, whatever the unit or its scale. Two
things must come together before a quantity has drifted:

- D is large enough to matter. A test alone calls any difference significant once there are enough photographs. For two
  normal distributions D = 0.2 is a shift by half a standard deviation, a "medium" effect (J. Cohen, "Statistical Power
  Analysis for the Behavioral Sciences", 2nd ed. 1988, section 2.2);
- D is not chance (the two-sample test, with the approximation of M. A. Stephens, JRSS B 32(1), 1970). Among k
  quantities there are k chances of a false alarm, so the level of each is divided by k (Bonferroni).

Near-duplicates are not independent: a group of them counts as one photograph. The earlier photographs are weighted so
that each label has the share that it has among the new ones, since more cracks alone are no drift; weights that differ
are worth fewer photographs (L. Kish, "Survey Sampling", 1965: the square of their sum through the sum of squares).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import kolmogorov

Verdict = Literal["stable", "uncertain", "drifted", "too few", "not measured"]


class Limits(BaseModel):
    """When a quantity has drifted."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    least_distance: float = Field(
        0.2, gt=0, lt=1, description="difference of the distribution functions below which nothing has drifted"
    )
    false_alarms: float = Field(
        0.05, gt=0, lt=0.5, description="chance that any of the quantities is called drifted where none has"
    )
    least_photographs: int = Field(
        20, ge=2, description="photographs of different places, new ones and earlier ones, below which nothing is said"
    )


class Shift(BaseModel):
    """How one quantity of new photographs differs from that of earlier ones.

    Attributes
    ----------
    quantity
        Its name.
    earlier, new
        Medians; None where there are no photographs.
    distance
        Of the distribution functions, 0 to 1.
    p
        How often chance gives such a distance, before it is held against the level of each quantity.
    level
        That level.
    earlier_photographs, new_photographs
        How many were measured.
    earlier_places, new_places
        What they are worth in independent photographs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    quantity: str
    verdict: Verdict
    earlier: float | None
    new: float | None
    distance: float | None
    p: float | None
    level: float
    earlier_photographs: int
    new_photographs: int
    earlier_places: float
    new_places: float


class Drift(BaseModel):
    """How new photographs differ from earlier ones.

    Attributes
    ----------
    verdict
        ``drifted`` if any quantity has; else ``uncertain`` if any is; else ``stable`` if any is.
    shifts
        The quantities.
    about
        What was compared, in words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    verdict: Verdict
    shifts: tuple[Shift, ...]
    about: str = ""


def measure_drift(earlier: pd.DataFrame, new: pd.DataFrame, quantities: list[str], limits: Limits) -> Drift:
    """Compare quantities of new photographs with those of earlier ones.

    Parameters
    ----------
    earlier, new
        A row per photograph: ``label``, ``group`` (near-duplicates share one) and a float column per quantity, NaN
        where it was not measured.
    quantities
        Their names.
    limits
        When one has drifted.

    Returns
    -------
    Drift
        New photographs whose label no earlier one has cannot be compared, and are left out.
    """
    level = limits.false_alarms / max(len(quantities), 1)
    shifts = tuple(_shift(name, earlier, new, level, limits) for name in quantities)
    verdicts = [shift.verdict for shift in shifts]
    order: tuple[Verdict, ...] = ("drifted", "uncertain", "stable", "too few")
    return Drift(verdict=next((one for one in order if one in verdicts), "not measured"), shifts=shifts)


def distance(
    first: ArrayLike, second: ArrayLike, first_weights: ArrayLike | None = None, second_weights: ArrayLike | None = None
) -> float:
    """Give the distance of Kolmogorov and Smirnov between two weighted samples.

    Parameters
    ----------
    first, second
        Values, shapes (n,) and (m,), n and m at least 1.
    first_weights, second_weights
        Above 0, of the same shapes; None: all the same.

    Returns
    -------
    float
        0 to 1.

    Examples
    --------
    >>> distance([1, 2, 3, 4], [3, 4, 5, 6])
    0.5
    """
    samples = []
    for values, weights in ((first, first_weights), (second, second_weights)):
        array = np.asarray(values, np.float64)
        order = np.argsort(array)
        share = np.ones(len(array)) if weights is None else np.asarray(weights, np.float64)
        samples.append((array[order], np.concatenate([[0.0], np.cumsum(share[order] / share.sum())])))
    at = np.concatenate([samples[0][0], samples[1][0]])
    functions = [below[np.searchsorted(values, at, side="right")] for values, below in samples]
    return float(np.clip(np.abs(functions[0] - functions[1]).max(), 0, 1))


def chance(distance: float, first: float, second: float) -> float:
    """Give the probability that samples of one distribution are so far apart; see the module for the source.

    Parameters
    ----------
    distance
        Theirs, 0 to 1.
    first, second
        Numbers of independent values, above 0.
    """
    root = math.sqrt(first * second / (first + second))
    return float(kolmogorov((root + 0.12 + 0.11 / root) * distance))


def drift_table(drift: Drift) -> pd.DataFrame:
    """Lay out the quantities as a table, a row each, with the columns of :class:`Shift`."""
    table = pd.DataFrame([shift.model_dump() for shift in drift.shifts], columns=list(Shift.model_fields))
    texts = ("quantity", "verdict")
    return table.astype({name: "str" if name in texts else "float64" for name in table})


def paired_weights(
    earlier: pd.DataFrame, new: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, NDArray[np.float64], NDArray[np.float64]]:
    """Weigh photographs so that groups count once, and labels among the earlier ones as often as among the new ones.

    Parameters
    ----------
    earlier, new
        As for :func:`measure_drift`.

    Returns
    -------
    earlier, new : DataFrame
        Those that can be compared: of labels that both have.
    earlier_weights, new_weights : ndarray
        Each sums to 1; empty where nothing can be compared.
    """
    earlier, new = (table.assign(label=table["label"].astype(object).fillna("")) for table in (earlier, new))
    both = set(earlier["label"]) & set(new["label"])
    earlier, new = earlier[earlier["label"].isin(both)], new[new["label"].isin(both)]
    if new.empty:
        return earlier, new, np.zeros(0), np.zeros(0)
    ours, theirs = (1 / table.groupby("group")["group"].transform("size").to_numpy(float) for table in (new, earlier))
    share = pd.Series(ours / ours.sum()).groupby(new["label"].to_numpy()).sum()
    there = pd.Series(theirs).groupby(earlier["label"].to_numpy()).sum()
    theirs = theirs * earlier["label"].map(share / there).to_numpy(float)
    return earlier, new, theirs / theirs.sum(), ours / ours.sum()


def _shift(name: str, earlier: pd.DataFrame, new: pd.DataFrame, level: float, limits: Limits) -> Shift:
    before, after, their_weights, our_weights = paired_weights(
        *(table[np.isfinite(table[name].to_numpy(float))] for table in (earlier, new))
    )
    worth = [
        _worth(table, weights) if len(weights) else 0.0
        for table, weights in ((before, their_weights), (after, our_weights))
    ]
    apart = p = None
    verdict: Verdict = "too few" if new[name].notna().any() or earlier[name].notna().any() else "not measured"
    if len(after) and len(before):
        apart = distance(before[name], after[name], their_weights, our_weights)
        p = chance(apart, *worth)
        # What is left of many photographs by a weighting of labels need not be whole
        if min(worth) >= limits.least_photographs - 1e-6:
            verdict = _verdict(apart, p, level, limits)
    return Shift(
        quantity=name,
        verdict=verdict,
        earlier=_median(before[name], their_weights),
        new=_median(after[name], our_weights),
        distance=apart,
        p=p,
        level=level,
        earlier_photographs=len(before),
        new_photographs=len(after),
        earlier_places=worth[0],
        new_places=worth[1],
    )


def _verdict(apart: float, p: float, level: float, limits: Limits) -> Verdict:
    if apart < limits.least_distance:
        return "stable"
    return "drifted" if p < level else "uncertain"


def _worth(table: pd.DataFrame, weights: NDArray[np.float64]) -> float:
    """Count the independent photographs of one weight that are worth as much: groups are what is independent."""
    of_groups = pd.Series(weights).groupby(table["group"].to_numpy()).sum().to_numpy()
    return float(of_groups.sum() ** 2 / (of_groups**2).sum())


def _median(values: pd.Series, weights: NDArray[np.float64]) -> float | None:
    if not len(values):
        return None
    array = values.to_numpy(float)
    order = np.argsort(array)
    return float(array[order][np.searchsorted(np.cumsum(weights[order]), 0.5 - 1e-12)])
