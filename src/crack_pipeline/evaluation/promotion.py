"""Whether a new model may take the place of the one in use: evidence, not hope.

Both answer on the same photographs. Near-duplicate groups are drawn with replacement, the same ones for both, and what
is looked at is the *difference* of a metric in each draw (paired cluster bootstrap; A. C. Davison, D. V. Hinkley,
"Bootstrap Methods and their Application", Cambridge University Press, 1997, sections 2.4 and 3.8; for differences of
ROC-AUC: J. A. Hanley, B. J. McNeil, Radiology 148(3), 1983). What is hard for both is in both, and drops out.

A challenger is promoted if it is not worse on the chosen metric (a test of non-inferiority: the lower end of the
interval of the difference is not below minus what may be lost) and better on at least one (the whole interval is above
what must be gained). There are as many chances to be better as there are metrics, so each interval is made wider in
turn (Bonferroni): all of them hold together with the coverage that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from crack_pipeline.evaluation.bootstrap import Measure, percentile_interval, resampled_weights

Outcome = Literal["open", "promoted", "kept", "outdated"]
Verdict = Literal["better", "not worse", "worse", "uncertain", "undefined", "enough", "not enough", "not required"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Standard(_Strict):
    """What is asked of one metric; all are shares from 0 to 1, and better the higher they are."""

    may_lose: float = Field(0.0, ge=0, le=1, description="difference to the champion that does not count as worse")
    must_gain: float = Field(0.0, ge=0, le=1, description="difference to the champion above which it counts as better")
    least: float | None = Field(
        None,
        ge=0,
        le=1,
        description="what the first champion must reach, with the lower end of its interval",
    )


class Criteria(_Strict):
    """By which metrics models are compared."""

    chosen: str = Field(description="metric on which a challenger must not be worse; one of metrics")
    metrics: dict[str, Standard] = Field(min_length=1, description="on one of which it must be better")

    @model_validator(mode="after")
    def _chosen_is_one(self) -> Criteria:
        if self.chosen not in self.metrics:
            raise ValueError(f"chosen is {self.chosen!r}; it takes one of {list(self.metrics)}")
        return self


class Sampling(_Strict):
    """How sure one must be."""

    resamples: int = Field(2000, ge=100, description="draws of the bootstrap over near-duplicate groups")
    level: float = Field(0.95, gt=0.5, lt=1, description="with which all intervals together hold the true differences")
    least_groups: int = Field(
        20,
        ge=2,
        description="near-duplicate groups, of each kind that a metric needs, below which nothing is promoted: "
        "intervals of fewer are too narrow",
    )
    seed: int = Field(0, ge=0, description="of the bootstrap")


class Comparison(_Strict):
    """One metric of both models.

    Attributes
    ----------
    champion, challenger
        Their values; None where undefined, or where there is no champion.
    difference
        Challenger minus champion.
    low, high
        Ends of the interval of the difference, or, without a champion, of the challenger's value.
    may_lose, must_gain, least
        What was asked for.
    """

    metric: str
    champion: float | None
    challenger: float | None
    difference: float | None
    low: float | None
    high: float | None
    may_lose: float
    must_gain: float
    least: float | None
    verdict: Verdict


class Evidence(_Strict):
    """What speaks for a challenger, and what follows from it.

    Attributes
    ----------
    promoted
        Whether it may take the champion's place.
    reason
        Why, in words.
    rows
        The metrics, the chosen one first.
    photographs, groups
        On how many, in how many near-duplicate groups.
    coverage
        Of each interval by itself.
    """

    promoted: bool
    reason: str
    rows: tuple[Comparison, ...] = ()
    photographs: int = 0
    groups: int = 0
    coverage: float | None = None


class Decision(_Strict):
    """Whether one version of a registered model takes the place of another.

    Attributes
    ----------
    model
        Name of the registered model.
    challenger
        Version that was looked at.
    champion
        Version that it was compared with; None if there was none.
    fingerprint
        Hash of the challenger's weights, and of what it answers with beside them, such as preprocessing, threshold and
        tiles: what was measured, and nothing else, is promoted.
    role, photographs
        Role of the photographs in the partition, and a hash of which they are; empty where none was looked at.
    evidence
        What speaks for it.
    outcome
        What came of it: ``promoted``, ``kept`` (the champion was) or ``outdated`` (another version has become champion
        meanwhile, and stays); ``open`` until it has been carried out.
    """

    model: str
    challenger: int
    champion: int | None
    fingerprint: str
    role: str = ""
    photographs: str = ""
    evidence: Evidence
    outcome: Outcome = "open"

    def carried_out(self) -> Decision:
        """Say that it has been."""
        return self.model_copy(update={"outcome": "promoted" if self.evidence.promoted else "kept"})

    def outdated(self, why: str) -> Decision:
        """Say that it was made against a champion that is none any more: nothing is promoted."""
        evidence = self.evidence.model_copy(
            update={
                "promoted": False,
                "reason": f"{why}. What was found against the one of before: {self.evidence.reason}",
            }
        )
        return self.model_copy(update={"outcome": "outdated", "evidence": evidence})


class Rollback(_Strict):
    """The step back to an earlier champion.

    Attributes
    ----------
    model
        Name of the registered model.
    champion
        Version that is in use.
    version
        Version that was in use before, and is to be again.
    """

    model: str
    champion: int
    version: int


def weigh(
    challenger: Measure,
    champion: Measure | None,
    groups: ArrayLike,
    criteria: Criteria,
    sampling: Sampling,
    *,
    kinds: Mapping[str, ArrayLike] | None = None,
) -> Evidence:
    """Weigh the answers of two models on the same photographs.

    Parameters
    ----------
    challenger, champion
        Measure the answers of each; None if no model is in use yet: then the challenger must reach what is asked of
        the first one.
    groups
        Near-duplicate group of each photograph, shape (n,).
    criteria, sampling
        What is asked for.
    kinds
        Which photographs are of each kind that there must be enough places of, by name, shape (n,), bool. What is
        measured on cracks rests on the cracked places alone, however many others there are.

    Returns
    -------
    Evidence
        The same answers never replace themselves: their difference is 0 in every draw, which is not above what must be
        gained. A metric that is undefined in so many draws that an end of its interval may lie among them is undefined.

    Raises
    ------
    ValueError
        If there is no photograph, or a metric is none that is measured.
    """
    group = np.asarray(groups)
    once = np.ones((1, len(group)), np.int32)
    points = [{name: float(v[0]) for name, v in m(once).items()} if m else None for m in (challenger, champion)]
    ours, theirs = points[0] or {}, points[1]
    unknown = [name for name in criteria.metrics if name not in ours]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no metric of this model; it takes {', '.join(ours)}")
    names = sorted(criteria.metrics, key=lambda name: name != criteria.chosen)
    coverage = 1 - (1 - sampling.level) / len(names)
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in names}
    for weights in resampled_weights(group, resamples=sampling.resamples, seed=sampling.seed):
        found, against = challenger(weights), champion(weights) if champion else None
        for name in names:
            drawn[name].append(found[name] - against[name] if against else found[name])
    rows = []
    for name in names:
        value, before = ours[name], theirs[name] if theirs else None
        values = np.concatenate(drawn[name])
        # What was left aside may lie at either end
        surely = np.isnan(values).mean() <= (1 - coverage) / 2
        interval = percentile_interval(values, coverage) if surely else None
        known = not math.isnan(value) and (before is None or not math.isnan(before))
        low, high = interval if interval and known else (None, None)
        standard = criteria.metrics[name]
        rows.append(
            Comparison(
                metric=name,
                champion=_plain(before),
                challenger=_plain(value),
                difference=value - before if known and before is not None else None,
                low=low,
                high=high,
                **standard.model_dump(),
                verdict=_verdict(low, high, standard, against_other=champion is not None),
            )
        )
    number = len(np.unique(group))
    promoted, reason = _few(group, kinds or {}, sampling) or (_replace(rows) if champion else _first(rows))
    return Evidence(
        promoted=promoted, reason=reason, rows=tuple(rows), photographs=len(group), groups=number, coverage=coverage
    )


def evidence_table(evidence: Evidence) -> pd.DataFrame:
    """Lay out the metrics as a table, a row each, with the columns of :class:`Comparison`."""
    table = pd.DataFrame([row.model_dump() for row in evidence.rows], columns=list(Comparison.model_fields))
    texts = ("metric", "verdict")
    return table.astype({name: "str" if name in texts else "float64" for name in table})


def evidence_numbers(evidence: Evidence) -> Mapping[str, float]:
    """Name the numbers of a comparison, as a tracker takes them: ``<metric>.<what>``; undefined ones are left out."""
    parts = ("champion", "challenger", "difference", "low", "high")
    named: dict[str, Any] = {f"{row.metric}.{part}": getattr(row, part) for row in evidence.rows for part in parts}
    return {name: value for name, value in named.items() if value is not None}


def _verdict(low: float | None, high: float | None, standard: Standard, *, against_other: bool) -> Verdict:
    if not against_other and standard.least is None:
        return "not required"
    if low is None or high is None:
        return "undefined"
    if not against_other:
        return "enough" if low >= (standard.least or 0.0) else "not enough"
    if low > standard.must_gain:
        return "better"
    if low >= -standard.may_lose:
        return "not worse"
    return "worse" if high < -standard.may_lose else "uncertain"


def _few(group: NDArray[Any], kinds: Mapping[str, ArrayLike], sampling: Sampling) -> tuple[bool, str] | None:
    places = {"": len(np.unique(group))}
    places |= {f" {name}": len(np.unique(group[np.asarray(kind, bool)])) for name, kind in kinds.items()}
    for kind, number in places.items():
        if number < sampling.least_groups:
            return False, (
                f"the photographs are of {number:,} different{kind} places, and at least {sampling.least_groups:,} are "
                "needed to tell chance from evidence (promotion.sampling.least_groups)"
            )
    return None


def _replace(rows: list[Comparison]) -> tuple[bool, str]:
    chosen = rows[0]
    if chosen.verdict == "undefined" or chosen.low is None or chosen.difference is None:
        return False, f"{chosen.metric} is undefined on these photographs: nothing shows that it is not worse"
    if chosen.low < -chosen.may_lose:
        surely = "is worse" if chosen.verdict == "worse" else "may be worse"
        return False, (
            f"it {surely} on {chosen.metric}: {_span(chosen)}, and no more than {chosen.may_lose:g} may be lost"
        )
    better = [row for row in rows if row.verdict == "better"]
    if not better:
        best = max((row for row in rows if row.low is not None), key=lambda row: (row.low or 0.0) - row.must_gain)
        return False, (
            f"it is not worse on {chosen.metric}, but not better on anything either; closest is {_span(best)}, where "
            f"all of the interval would have to be above {best.must_gain:g}"
        )
    gained = " and ".join(_span(row) for row in better)
    return True, f"it is better ({gained}), and not worse on {chosen.metric}"


def _first(rows: list[Comparison]) -> tuple[bool, str]:
    asked = [row for row in rows if row.least is not None]
    missed = [row for row in asked if row.verdict != "enough"]
    if missed:
        short = " and ".join(
            f"{row.metric} is "
            + ("undefined" if row.low is None else f"{row.challenger:.4f}, surely only {row.low:.4f},")
            + f" where {row.least:g} is needed"
            for row in missed
        )
        return False, f"there is no champion yet, and it is not good enough to be the first: {short}"
    reached = (
        " and ".join(f"{row.metric} is surely at least {row.low:.4f}" for row in asked) or "nothing is asked of it"
    )
    return True, f"there is no champion yet, and it is good enough to be the first: {reached}"


def _span(row: Comparison) -> str:
    return f"{row.metric} {row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]"


def _plain(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
