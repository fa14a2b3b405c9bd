"""Groups of photographs that show the same place: copies, flips, quarter turns, crops, re-compressions.

Three steps, each in a module of its own where it is long:

1. :func:`fingerprint` turns a grey thumbnail into a *texture map* (local mean removed, local contrast
   made equal, so that brightness, exposure and one dominating crack do not decide), and a *coarse map* of
   its larger structure.
2. :mod:`crack_pipeline.imaging.duplicate_candidates` finds, for every image, the few whose coarse map
   agrees best in any of the eight orientations of the square.
3. :mod:`crack_pipeline.imaging.duplicate_verification` lays the two texture maps of a candidate pair over
   each other and asks whether they agree patch by patch. Groups are the connected components of the pairs
   that pass.
"""

import hashlib
import logging
import os
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from crack_pipeline.imaging import duplicate_candidates, duplicate_verification

THUMBNAIL_SIZE = 64
"""Side of the grey thumbnails that :func:`fingerprint` takes, in pixels."""

_HEADER = 8 + duplicate_candidates.COARSE_SIZE**2

FINGERPRINT_SIZE = _HEADER + THUMBNAIL_SIZE**2
"""Bytes of a fingerprint: the mean grey and 7 zeros, the coarse map (int8), the texture map (int8)."""

_MAP_LIMIT = 2.0
_COARSE_LIMIT = 0.7
# Grey levels. Below this a thumbnail's texture cannot be told from its rounding to whole grey levels
# (a uniform error of one level has a deviation of 0.29).
_FEATURELESS = 0.3
_READ_ROWS = 2048

logger = logging.getLogger(__name__)


def fingerprint(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Describe thumbnails so that copies of one place can be recognised.

    Parameters
    ----------
    thumbnails
        (n, T, T) uint8 with T = ``THUMBNAIL_SIZE``: the whole photograph in grey, area-resampled and squashed
        to a square (a quarter turn of a 3:2 photograph is then a quarter turn of its thumbnail).

    Returns
    -------
    ndarray
        (n, ``FINGERPRINT_SIZE``) uint8. A row depends on its own thumbnail only. The coarse map of a
        thumbnail without texture (see Notes) is zero.

    Raises
    ------
    ValueError
        If ``thumbnails`` is not uint8 or has another shape.

    Notes
    -----
    With Gaussian-weighted means over neighbourhoods, the texture map is ``(smooth - mean) / sqrt(variance +
    1)``, cut off at two; the mean is that of a local *linear* fit, so that a gradient of light leaves no
    trace, not even at the border. All filters are symmetric: the map of a turned thumbnail is the turned
    map. A thumbnail whose deviation from its local means is below 0.3 grey levels has no texture that
    survives rounding to whole grey levels.
    """
    if thumbnails.dtype != np.uint8 or thumbnails.shape[1:] != (THUMBNAIL_SIZE, THUMBNAIL_SIZE):
        raise ValueError(
            f"thumbnails must be uint8 of shape (n, {THUMBNAIL_SIZE}, {THUMBNAIL_SIZE}), got "
            f"{thumbnails.dtype} of shape {thumbnails.shape}; squash each grey photograph to that square"
        )
    result = np.zeros((len(thumbnails), FINGERPRINT_SIZE), np.uint8)
    for start in range(0, len(thumbnails), 64):  # small enough to stay in the processor's cache
        chunk = thumbnails[start : start + 64]
        coarse, texture = _describe(chunk.astype(np.float32))
        rows = result[start : start + 64]
        rows[:, 0] = np.rint(chunk.mean(axis=(1, 2)))
        rows[:, 8:_HEADER] = coarse.reshape(len(chunk), -1).view(np.uint8)
        rows[:, _HEADER:] = texture.reshape(len(chunk), -1).view(np.uint8)
    return result


def find_groups(
    fingerprints: Any,
    *,
    minimum_similarity: float = 0.55,
    candidate_similarity: float = 0.72,
    shortlist: int = 64,
    candidates_per_image: int = 8,
    workers: int | None = None,
) -> NDArray[np.int64]:
    """Group the images that show the same place.

    Two images are joined where their texture maps agree once laid over each other; groups are what is
    connected by such pairs. The result depends neither on the order of the rows, up to the name of a group,
    nor on ``workers``.

    Parameters
    ----------
    fingerprints
        (N, ``FINGERPRINT_SIZE``) uint8 rows of :func:`fingerprint`: an array, memory-mapped or not, or
        anything with a ``shape`` and ``take(rows)`` such as an image stack. Read in blocks, so it may be
        larger than memory.
    minimum_similarity
        In (0, 1]. Mean of two correlation coefficients that a pair must reach: of the whole overlap, and of
        the lower quartile of its 16 patches. Different places stay below 0.51 on METU (all pairs proposed
        at the default settings), re-compressed and cropped copies lie above 0.8, second photographs of the
        same wall between 0.53 and 0.9. Higher is stricter; from 0.52 to 0.62 METU falls into the same
        groups.
    candidate_similarity
        In (0, 1). Correlation coefficient of two coarse maps, at their best shift, below which a pair is
        not compared in detail. Lower finds copies that were changed more and takes longer.
    shortlist
        At least 1. The coarse maps of a pair are laid over each other where the pair is among the best so
        many of either image before any shift. Higher finds larger shifts and takes longer; raise it with
        the number of images where these look much alike.
    candidates_per_image
        At least 1. A pair is compared in detail where it is among the best so many of either image after
        the shift. Copies beyond that number are still joined through each other.
    workers
        Threads; by default one for each processor.

    Returns
    -------
    ndarray
        (N,) int64: the smallest row index of the group an image is in; its own index where it is alone.

    Raises
    ------
    ValueError
        If the fingerprints have another shape or type, or a parameter is out of its range.

    Notes
    -----
    An image without texture (blank, black, overexposed) gives no evidence for the place it shows, so it is
    joined only to images with an identical fingerprint. Time grows with N (reading, verification) and, with
    a small factor, with its square (candidates); memory with N times about 3 kB.
    """
    _check(fingerprints)
    _check_parameters(minimum_similarity, candidate_similarity, shortlist, candidates_per_image, workers)
    total = int(fingerprints.shape[0])
    threads = workers or os.cpu_count() or 1
    found = distinguish(fingerprints)
    pairs = duplicate_candidates.find_candidates(
        found.coarse_of(slice(None)),
        minimum=candidate_similarity,
        shortlist=shortlist,
        per_image=candidates_per_image,
        workers=threads,
    )
    logger.info("%d images, %d of them distinct: %d pairs to compare", total, len(found.rows), len(pairs.first))
    same = duplicate_verification.verify(
        pairs, lambda which: textures(fingerprints, found.rows[which]), minimum=minimum_similarity, workers=threads
    )
    return connect(found, pairs.first[same], pairs.second[same])


class Distinct(NamedTuple):
    """Fingerprints that differ, in an order that depends on their content alone, so that neither do groups.

    Attributes
    ----------
    rows
        (n,) int64: the first row that has each.
    member
        (N,) int64: which one each row has.
    digests
        (n,) uint64: hash of each, ascending.
    coarse
        (N, 256) int8: the coarse maps of all rows.
    """

    rows: NDArray[np.int64]
    member: NDArray[np.int64]
    digests: NDArray[np.uint64]
    coarse: NDArray[np.int8]

    def coarse_of(self, which: slice) -> NDArray[np.int8]:
        """Coarse maps (k, 16, 16) of some of those that differ."""
        side = duplicate_candidates.COARSE_SIZE
        return self.coarse[self.rows[which]].reshape(-1, side, side)


def distinguish(fingerprints: Any) -> Distinct:
    """Find the fingerprints that differ; raises ValueError as `find_groups`.

    Takes about 300 bytes a row.
    """
    _check(fingerprints)
    total = int(fingerprints.shape[0])
    digests, coarse = np.empty(total, np.uint64), np.empty((total, _HEADER - 8), np.int8)
    for start in range(0, total, _READ_ROWS):
        rows = _take(fingerprints, np.arange(start, min(start + _READ_ROWS, total)))
        coarse[start : start + len(rows)] = np.ascontiguousarray(rows[:, 8:_HEADER]).view(np.int8)
        digests[start : start + len(rows)] = [_digest(row) for row in rows]
    different, first, member = np.unique(digests, return_index=True, return_inverse=True)
    return Distinct(first.astype(np.int64), member.astype(np.int64), different, coarse)


def textures(fingerprints: Any, rows: NDArray[np.int64]) -> NDArray[np.int8]:
    """Texture maps (k, T, T) of some rows."""
    maps = np.ascontiguousarray(_take(fingerprints, rows)[:, _HEADER:])
    return maps.view(np.int8).reshape(-1, THUMBNAIL_SIZE, THUMBNAIL_SIZE)


def connect(found: Distinct, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the groups (N,) of all rows, named as by `find_groups`, from pairs of distinct fingerprints."""
    total = len(found.member)
    groups = _components(len(found.rows), first, second)[found.member]
    smallest = np.full(len(found.rows), total, np.int64)
    np.minimum.at(smallest, groups, np.arange(total))
    return smallest[groups]


def _check(fingerprints: Any) -> None:
    shape, dtype = tuple(fingerprints.shape), getattr(fingerprints, "dtype", np.dtype(np.uint8))
    if len(shape) != 2 or shape[1] != FINGERPRINT_SIZE or dtype != np.uint8:
        raise ValueError(
            f"fingerprints must be uint8 of shape (N, {FINGERPRINT_SIZE}), got {dtype} of shape {shape}; "
            "make them with fingerprint() of this version"
        )


def _check_parameters(minimum: float, candidate: float, shortlist: int, per_image: int, workers: int | None) -> None:
    if not 0 < minimum <= 1:
        raise ValueError(f"minimum_similarity must be above 0 and at most 1, got {minimum}")
    if not 0 < candidate < 1:
        raise ValueError(f"candidate_similarity must lie between 0 and 1, got {candidate}")
    for name, value in (("shortlist", shortlist), ("candidates_per_image", per_image)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, or None for one for each processor, got {workers}")


def _take(fingerprints: Any, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.asarray(fingerprints[rows] if isinstance(fingerprints, np.ndarray) else fingerprints.take(rows))


def _digest(row: NDArray[np.uint8]) -> int:
    return int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "little")


def _components(count: int, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    edges = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(count, count))
    return connected_components(edges, directed=False)[1].astype(np.int64)


def _describe(grey: NDArray[np.float32]) -> tuple[NDArray[np.int8], ...]:
    """Coarse maps (n, 16, 16) and texture maps (n, T, T)."""
    grey = grey - grey.mean(axis=(1, 2), keepdims=True)
    fine = _filter(grey, _weights(0.8, linear=False)) - _filter(grey, _weights(5, linear=True))
    texture = fine / np.sqrt(_filter(fine * fine, _weights(6, linear=False)) + 1)
    np.clip(texture, -_MAP_LIMIT, _MAP_LIMIT, out=texture)

    coarse = grey - _filter(grey, _weights(8, linear=True))
    flat = coarse.std(axis=(1, 2)) < _FEATURELESS
    coarse /= np.sqrt(_filter(coarse * coarse, _weights(4, linear=False)) + 4)
    np.clip(coarse, -_COARSE_LIMIT, _COARSE_LIMIT, out=coarse)
    coarse = _means() @ coarse @ _means().T
    coarse[flat] = 0
    return tuple(
        np.rint(values * (127 / limit)).astype(np.int8)
        for values, limit in ((coarse, _COARSE_LIMIT), (texture, _MAP_LIMIT))
    )


def _filter(images: NDArray[np.float32], weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return (weights @ images @ weights.T).astype(np.float32, copy=False)


@cache
def _weights(sigma: float, *, linear: bool) -> NDArray[np.float32]:
    """Matrix (T, T) of Gaussian-weighted means, or of the values of local linear fits."""
    position = np.arange(THUMBNAIL_SIZE)
    offset = position[None, :] - position[:, None]
    weights = np.exp(-(offset**2) / (2 * sigma**2))
    if linear:
        moments = [np.sum(weights * offset**k, axis=1, keepdims=True) for k in range(3)]
        weights = weights * (moments[2] - moments[1] * offset)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


@cache
def _means() -> NDArray[np.float32]:
    """Matrix (16, T) that averages neighbours to the size of a coarse map."""
    factor = THUMBNAIL_SIZE // duplicate_candidates.COARSE_SIZE
    means = np.repeat(np.eye(duplicate_candidates.COARSE_SIZE), factor, axis=1) / factor
    return means.astype(np.float32)
