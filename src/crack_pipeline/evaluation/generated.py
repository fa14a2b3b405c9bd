"""How close generated pictures come to real ones."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def density_and_coverage(
    real: NDArray[np.float32], generated: NDArray[np.float32], neighbours: int = 5
) -> tuple[float, float]:
    """Measure how much generated pictures look like real ones, and how many of the real ones they look like.

    Parameters
    ----------
    real, generated
        (n, f) and (m, f): features of each picture.
    neighbours
        A real picture reaches as far as to so many-th nearest of the others; fewer than n.

    Returns
    -------
    density : float
        Mean number of real pictures within whose reach a generated one lies, over ``neighbours``: about 1 for
        pictures of the same distribution, 0 for strange ones.
    coverage : float
        Share of the real pictures within whose reach a generated one lies, 0 to 1.

    Raises
    ------
    ValueError
        If there are too few real pictures, or none generated.

    References
    ----------
    Naeem et al.: Reliable fidelity and diversity metrics for generative models. ICML 2020, arXiv:2002.09797.
    """
    if len(real) <= neighbours or not len(generated):
        raise ValueError(
            f"density and coverage with {neighbours} neighbours need more than {neighbours} real pictures and at least "
            f"one generated, not {len(real)} and {len(generated)}"
        )
    # It takes a second to import, and only this function needs it.
    from sklearn.neighbors import NearestNeighbors

    reach = NearestNeighbors(n_neighbors=neighbours + 1).fit(real).kneighbors(real)[0][:, -1]
    lookup = NearestNeighbors().fit(generated)
    within = 0
    covered = np.zeros(len(real), np.bool_)
    for number, (picture, radius) in enumerate(zip(real, reach.tolist(), strict=True)):
        found = lookup.radius_neighbors(picture[None], radius, return_distance=False)[0]
        within += len(found)
        covered[number] = len(found) > 0
    return within / (neighbours * len(generated)), float(covered.mean())


def wilson_interval(hits: int, number: int, z: float = 1.959964) -> tuple[float, float]:
    """Give the interval of a share (Wilson, 1927), of 95 % by default.

    Parameters
    ----------
    hits, number
        So many of so many, at least one.
    z
        Quantile of the normal distribution.

    Examples
    --------
    >>> low, high = wilson_interval(50, 100)
    >>> round(low, 3), round(high, 3)
    (0.404, 0.596)
    """
    if not 0 <= hits <= number or number < 1:
        raise ValueError(f"a share needs 0 to n of n things, at least one, not {hits} of {number}")
    share = hits / number
    centre = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z / (1 + z**2 / number) * math.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    # Rounding must not push the ends past the share, or past 0 and 1.
    return max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half))
