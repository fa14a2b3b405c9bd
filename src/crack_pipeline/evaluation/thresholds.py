"""Choose the score above which an image is called cracked, from the scores of sound images alone."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike


def choose(scores: ArrayLike, *, rule: Literal["percentile", "conformal"], level: float) -> float:
    """Choose a threshold; an image is called cracked if its score is *greater* than it.

    Parameters
    ----------
    scores
        Scores of n sound (crack-free) validation images, shape (n,), float, finite; higher is more anomalous.
    rule
        ``percentile``: the ``level``-th percentile of the scores, interpolated linearly, as the published
        system does. About 100 - ``level`` % of the *validation* images lie above it; nothing is promised
        of other images. ``conformal``: the k-th smallest score, k = ceil((n + 1) level / 100). Of a new sound
        image that is exchangeable with the validation images the score then lies above the threshold with
        probability at most 1 - ``level`` / 100, whatever the distribution (split conformal prediction [1]_,
        as used for anomalies in [2]_). The probability is over the validation sets too: one set may do
        somewhat worse. Near-duplicates are not exchangeable; where there are many, give one score per group.
    level
        Percentage, above 0 and below 100.

    Returns
    -------
    float
        In the unit of the scores.

    Raises
    ------
    ValueError
        If there is no score or one that is not finite, if the level is out of range, or if the conformal
        rule needs more images than there are; the message says how many.

    References
    ----------
    .. [1] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", Springer, 2005.
    .. [2] R. Laxhammar, G. Falkman, "Conformal prediction for distribution-independent anomaly detection in
       streaming vessel data", StreamKDD, 2010.

    Examples
    --------
    >>> choose([1.0, 2.0, 3.0, 4.0], rule="percentile", level=50)
    2.5
    >>> choose([1.0, 2.0, 3.0, 4.0], rule="conformal", level=80)
    4.0
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"a threshold needs a list of scores of sound images, got shape {values.shape}")
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise ValueError(
            f"{len(wrong):,} of {len(values):,} scores are not finite: the first is {values[wrong[0]]}, at "
            f"row {wrong[0]}"
        )
    if not 0 < level < 100:
        raise ValueError(f"level is a percentage above 0 and below 100, got {level!r}")
    if rule == "percentile":
        return float(np.percentile(values, level))
    if rule != "conformal":
        raise ValueError(f"rule is 'percentile' or 'conformal', got {rule!r}")
    # Exact arithmetic: 0.95 x 20 must not become 19.000000000000004 and ask for the 20th.
    share = Fraction(repr(float(level))) / 100
    rank = math.ceil((len(values) + 1) * share)
    if rank > len(values):
        needed = math.ceil(share / (1 - share))
        raise ValueError(
            f"the conformal rule at level {level:g} needs at least {needed:,} sound validation images, and "
            f"there are {len(values):,}: add images, give validation a larger share, or lower the level to "
            f"{math.floor(10_000 * len(values) / (len(values) + 1)) / 100:g} or less"
        )
    return float(np.partition(values, rank - 1)[rank - 1])
