"""Bootstrap over near-duplicate groups.

Copies of one place are not independent observations. What is drawn with replacement is therefore the
*group*, with all its images at once (cluster bootstrap: A. C. Davison, D. V. Hinkley, "Bootstrap Methods and
their Application", Cambridge University Press, 1997, section 3.8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

Measure = Callable[[NDArray[np.int32]], dict[str, NDArray[np.float64]]]
"""Measures one model: takes how often each image is drawn, (k, n), and gives k values a metric, NaN where undefined."""

CELLS = 4_000_000
"""Weights held in memory at a time."""


def resampled_weights(groups: ArrayLike, *, resamples: int, seed: int) -> Iterator[NDArray[np.int32]]:
    """Yield how often each image is drawn in each resample, a chunk of resamples at a time.

    Parameters
    ----------
    groups
        Near-duplicate group of each image, shape (n,), any dtype that can be sorted.
    resamples
        Number of resamples, at least 1.
    seed
        The same seed gives the same weights, whatever the numbers of the groups are.

    Yields
    ------
    numpy.ndarray
        int32, (k, n), 0 or more; the resamples of all chunks are ``resamples``.
    """
    _, number = np.unique(np.asarray(groups), return_inverse=True)
    if number.size == 0 or resamples < 1:
        raise ValueError(f"a bootstrap needs images and resamples, got {number.size} and {resamples}")
    rng = np.random.default_rng(seed)
    n_groups = int(number.max()) + 1
    rows = max(1, CELLS // len(number))
    for start in range(0, resamples, rows):
        k = min(rows, resamples - start)
        drawn = rng.integers(0, n_groups, (k, n_groups)) + n_groups * np.arange(k)[:, None]
        times = np.bincount(drawn.ravel(), minlength=k * n_groups).astype(np.int32)
        yield times.reshape(k, n_groups)[:, number]


def percentile_interval(values: ArrayLike, level: float = 0.95) -> list[float] | None:
    """Take the percentile interval of a statistic's resampled values.

    Parameters
    ----------
    values
        The statistic in each resample, shape (b,); NaN where it is undefined, which is left aside.
    level
        Coverage, above 0 and below 1.

    Returns
    -------
    list of float or None
        Lower and upper end; None if the statistic is defined in no resample.
    """
    if not 0 < level < 1:
        raise ValueError(f"level is a coverage above 0 and below 1, got {level!r}")
    defined = np.asarray(values, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    if defined.size == 0:
        return None
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]
