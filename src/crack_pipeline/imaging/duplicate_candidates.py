"""Which pairs of images might show the same place, judged by the coarse structure of their texture.

Two sieves, from *coarse maps* of 16 × 16:

1. All pairs: correlation of descriptors, the low frequencies of the cosine transform of the map. Flipping
   the image changes the sign of those of odd frequency, transposing it exchanges the two frequencies: all
   eight orientations follow from one descriptor, and their scores from the products of four parts (even or
   odd in y, even or odd in x). A shift of 5 % of the side changes low frequencies little.
2. The best of those: largest correlation over all shifts, in a band of low frequencies.

Descriptors are whole numbers whose products stay below 2^24, so 32-bit matrix products are exact and the
scores do not depend on how the work is cut into blocks.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from threadpoolctl import threadpool_limits

COARSE_SIZE = 16
"""Side of the coarse maps."""

_FREQUENCIES = 9
_FALL = 4.0  # a frequency u weighs u exp(-(u / 4)^2): finer structure does not survive a shift of 5 %
_NORM = 254.0
_FLOOR = 0.55  # correlation of descriptors; 99 in 100 copies shifted by 5 % reach 0.6
_BLOCK = 512  # four score blocks of this size stay in the processor's cache
_BATCH = 512
_AT_ONCE = 8192  # pairs whose spectra are in memory, where several machines search
_BAND = 12  # size of the transforms in the second sieve: higher frequencies have no weight
_IMAGES_AT_ONCE = 2**18
_SCORE_BITS, _INDEX_BITS = 17, 23  # image, score and partner share the 63 bits of a sorting key

logger = logging.getLogger(__name__)


class Pairs(NamedTuple):
    """Pairs of images: ``first`` in its ``orientation`` looks like ``second``.

    All (n,) int64. ``orientation``: bit 2 exchanges rows and columns, then bit 1 reverses the rows, bit 0
    the columns.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    orientation: NDArray[np.int64]


def find_candidates(coarse: NDArray[np.int8], *, minimum: float, shortlist: int, per_image: int, workers: int) -> Pairs:
    """Propose the pairs that agree best in some orientation.

    Parameters
    ----------
    coarse
        (n, 16, 16) int8 coarse maps; those of zeros are in no pair.
    minimum
        Correlation coefficient at the best shift that a pair must reach, in (0, 1).
    shortlist
        The second sieve sees a pair where it is among the best so many of either of its images in the first.
    per_image
        A pair is proposed where it is among the best so many of either of its images in the second sieve.
    workers
        Threads.

    Returns
    -------
    Pairs
        Each pair once, ``first`` below ``second``, sorted.

    Raises
    ------
    ValueError
        If there are more than 2^23 maps.
    """
    usable = np.flatnonzero(coarse.any(axis=(1, 2)))
    if len(usable) > 1 << _INDEX_BITS:
        raise ValueError(f"can compare at most {1 << _INDEX_BITS:,} images, got {len(usable):,}; group them in parts")
    maps = coarse[usable]
    # The blocks keep all threads busy; a matrix library that starts its own makes this 5 times slower.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as executor:
        descriptors = _describe(maps)
        first, second = _shortlist(descriptors, shortlist, executor)
        spectra = _spectra(maps)

        def compare(start: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            a, b = first[start : start + _BATCH], second[start : start + _BATCH]
            orientation = _orientations(descriptors[a], descriptors[b])
            return orientation, _correlate(spectra, a, b, orientation)

        done = list(executor.map(compare, range(0, len(first), _BATCH)))
    orientation = np.concatenate([part for part, _ in done] or [np.empty(0, np.int64)])
    correlation = np.concatenate([part for _, part in done] or [np.empty(0, np.float32)])
    score = _whole(correlation)
    enough = np.flatnonzero(correlation >= minimum)
    pairs = np.column_stack([first, second, score])[enough]
    kept = enough[_keep_best(pairs, len(usable), per_image)[0]]
    kept = kept[np.lexsort((second[kept], first[kept]))]
    return Pairs(usable[first[kept]], usable[second[kept]], orientation[kept])


class ScoredPairs(NamedTuple):
    """Pairs as in :class:`Pairs`, and the ``score`` (n,) int64 of the second sieve."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    orientation: NDArray[np.int64]
    score: NDArray[np.int64]


SMALL = ScoredPairs(np.int32, np.int32, np.int8, np.int32)  # type: ignore[arg-type]
"""Types that hold the columns, to keep many pairs in."""
_NO_PAIRS = tuple(np.empty(0, dtype) for dtype in SMALL)

Tables = Callable[[], Iterable[tuple[int, NDArray[np.int8]]]]
"""Gives coarse maps from the first on, part by part: index of the first of a part, and (k, 16, 16) int8."""


def find_partners(
    coarse: NDArray[np.int8], start: int, everything: Tables, *, minimum: float, shortlist: int, per_image: int
) -> ScoredPairs:
    """Propose pairs of some images with any other, so that several machines can share a search.

    What `choose_pairs` makes of the pairs of all images is what `find_candidates` gives. The machines need nothing of
    each other: each pair is looked at from both of its images, which doubles the work of the first sieve.

    Parameters
    ----------
    coarse
        (m, 16, 16) int8 coarse maps of the images.
    start
        Index of the first of them among all, which they follow.
    everything
        Gives all maps; called twice.
    minimum, shortlist, per_image
        As for `find_candidates`.

    Returns
    -------
    ScoredPairs
        Each pair once, ``first`` below ``second``, by their indices among all.
    """
    with threadpool_limits(1, user_api="blas"):
        own, partner = _find_shortlists(coarse, start, everything, shortlist)
        # Of a pair that is in the lists of both of its images, once is enough.
        first, second = np.minimum(own, partner), np.maximum(own, partner)
        _, once = np.unique(first << 31 | second, return_index=True)
        found = list(_look_closely(coarse, start, everything, own[once], partner[once], minimum))
    columns = [np.concatenate([np.empty(0, np.int64), *column]) for column in zip(*found, strict=True)]
    pairs = ScoredPairs(*columns) if columns else ScoredPairs(*(np.empty(0, np.int64) for _ in range(4)))
    return _some(pairs, _best_of_either(pairs, per_image))


def choose_pairs(found: Iterable[ScoredPairs], per_image: int) -> Pairs:
    """Choose among the pairs that `find_partners` proposed for all images; see `find_candidates`.

    The columns may be of smaller types. Takes about 70 bytes a pair beside them.
    """
    pairs = ScoredPairs(*(np.concatenate(column) for column in zip(_NO_PAIRS, *found, strict=True)))
    # Both of its images may have proposed a pair.
    _, once = np.unique(pairs.first.astype(np.int64) << 31 | pairs.second, return_index=True)
    pairs = _some(pairs, once)
    chosen = _some(pairs, _best_of_either(pairs, per_image))
    return Pairs(*(column.astype(np.int64) for column in chosen[:3]))


def turn(maps: NDArray[np.int8], orientation: NDArray[np.int64]) -> NDArray[np.int8]:
    """Bring each map (n, T, T) into its orientation (n,), coded as in :class:`Pairs`."""
    turned = maps.copy()
    for code in np.unique(orientation):
        chosen = maps[orientation == code]
        chosen = chosen.transpose(0, 2, 1) if code & 4 else chosen
        chosen = chosen[:, ::-1] if code & 2 else chosen
        turned[orientation == code] = chosen[:, :, ::-1] if code & 1 else chosen
    return turned


def _layout() -> tuple[NDArray[np.int64], NDArray[np.int64], list[slice]]:
    """Frequencies (y and x) of the descriptor's entries, ordered by parity, and the place of each parity."""
    y, x = (axis.ravel() for axis in np.mgrid[:_FREQUENCIES, :_FREQUENCIES])
    radius = np.hypot(y, x)
    used = np.flatnonzero((radius > 0) & (radius < _FREQUENCIES))
    parity = 2 * (y[used] % 2) + x[used] % 2
    used = used[np.argsort(parity, kind="stable")]
    bounds = np.cumsum([0, *np.bincount(parity, minlength=4)])
    return y[used], x[used], [slice(a, b) for a, b in pairwise(bounds)]


_Y, _X, _PARITIES = _layout()


@cache
def _transposition() -> NDArray[np.int64]:
    """Where each entry of the transposed image's descriptor stands in the image's own."""
    place = {(int(y), int(x)): k for k, (y, x) in enumerate(zip(_Y, _X, strict=True))}
    return np.array([place[int(x), int(y)] for y, x in zip(_Y, _X, strict=True)])


def _describe(maps: NDArray[np.int8]) -> NDArray[np.float32]:
    """Descriptors: whole numbers, nearly equal Euclidean norm."""
    position = (np.arange(COARSE_SIZE) + 0.5) / COARSE_SIZE
    basis = np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * position).astype(np.float32)
    radius = np.hypot(_Y, _X)
    weights = (radius * np.exp(-((radius / _FALL) ** 2))).astype(np.float32)
    descriptors = np.empty((len(maps), len(_Y)), np.float32)
    for start in range(0, len(maps), 4096):
        part = basis @ maps[start : start + 4096].astype(np.float32) @ basis.T
        chosen = part[:, _Y, _X] * weights
        norm = np.linalg.norm(chosen, axis=1, keepdims=True)
        descriptors[start : start + 4096] = np.rint(chosen * (_NORM / np.where(norm > 0, norm, 1)))
    return descriptors


def _shortlist(
    descriptors: NDArray[np.float32], limit: int, executor: ThreadPoolExecutor
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    count = len(descriptors)
    blocks = [slice(start, min(start + _BLOCK, count)) for start in range(0, count, _BLOCK)]
    lowest = int(np.ceil(_FLOOR * _NORM**2))
    # What an image's pair must reach: it rises as better ones are found, which keeps their number bounded.
    floors = np.full(count, lowest, np.int64)
    found = [np.empty((0, 3), np.int64)]
    settled = 0
    reported = time.monotonic()
    for number, block in enumerate(blocks):

        def compare(other: slice, block: slice = block, floors: NDArray[np.int64] = floors) -> NDArray[np.int64]:
            return _compare(descriptors, block, other, floors)

        found.extend(executor.map(compare, blocks[number:]))
        if sum(map(len, found)) > 1.3 * settled + 100_000 or number == len(blocks) - 1:
            pairs = np.concatenate(found)
            kept, floors = _keep_best(pairs, count, limit, lowest)
            found = [pairs[kept]]
            settled = len(found[0])
        if time.monotonic() - reported > 5:
            reported = time.monotonic()
            logger.info("compared %d of %d images with all others", block.stop, count)
    return found[0][:, 0], found[0][:, 1]


def _compare(
    descriptors: NDArray[np.float32], rows: slice, columns: slice, floors: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Pairs (row, column, score) of two blocks, row below column, scored by their best orientation."""
    best = _best_scores(descriptors[rows], descriptors[columns])
    enough = np.minimum(floors[rows, None].astype(np.float32), floors[columns].astype(np.float32))
    row, column = np.divmod(np.flatnonzero(best >= enough), best.shape[1])
    score = best[row, column].astype(np.int64)
    found = np.column_stack([row + rows.start, column + columns.start, score])
    return found[found[:, 0] < found[:, 1]] if rows == columns else found


def _best_scores(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score (n, m) of every pair of descriptors, in its best orientation."""
    best: NDArray[np.float32] | None = None
    for turned in (first, first[:, _transposition()]):
        even, odd_x, odd_y, odd = (turned[:, part] @ second[:, part].T for part in _PARITIES)
        # The largest of even ± odd_y ± odd_x ± odd, where the last sign is the product of the others.
        upper = np.abs(odd_x + odd)
        upper += even
        upper += odd_y
        odd_x -= odd
        np.abs(odd_x, out=odd_x)
        even -= odd_y
        even += odd_x
        np.maximum(upper, even, out=upper)
        best = upper if best is None else np.maximum(best, upper, out=best)
    assert best is not None
    return best


def _find_shortlists(
    coarse: NDArray[np.int8], start: int, everything: Tables, limit: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the best ``limit`` partners of every image: index of the image and of the partner, among all."""
    mine = _describe(coarse)
    floors = np.full(len(mine), np.ceil(_FLOOR * _NORM**2), np.float32)
    found = [np.empty((0, 3), np.int64)]
    waiting = settled = 0
    reported = time.monotonic()
    for origin, maps in everything():
        theirs = _describe(maps)
        for left in range(0, len(theirs), _BLOCK):
            for top in range(0, len(mine), _BLOCK):
                best = _best_scores(mine[top : top + _BLOCK], theirs[left : left + _BLOCK])
                row, column = np.divmod(np.flatnonzero(best >= floors[top : top + _BLOCK, None]), best.shape[1])
                score = best[row, column].astype(np.int64)
                pairs = np.column_stack([row + top, column + (left + origin), score])
                found.append(pairs[pairs[:, 0] + start != pairs[:, 1]])
                waiting += len(found[-1])
            if waiting > 0.3 * settled + 100_000:
                found, waiting = [_keep_shortlists(np.concatenate(found), limit, floors)], 0
                settled = len(found[0])
        if time.monotonic() - reported > 5:
            reported = time.monotonic()
            logger.info("compared %d images with %d others", len(mine), origin + len(theirs))
    kept = _keep_shortlists(np.concatenate(found), limit, floors)
    return kept[:, 0] + start, kept[:, 1]


def _keep_shortlists(pairs: NDArray[np.int64], limit: int, floors: NDArray[np.float32]) -> NDArray[np.int64]:
    """Keep the best ``limit`` pairs (row, column, score) of every row; raises the floors, in place."""
    order = np.lexsort((pairs[:, 1], -pairs[:, 2], pairs[:, 0]))
    pairs = pairs[order]
    rank = _ranks(pairs[:, 0])
    last = pairs[rank == limit - 1]
    floors[last[:, 0]] = last[:, 2]
    return pairs[rank < limit]


def _ranks(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many equal ones come before each of some sorted values."""
    begins = np.flatnonzero(np.diff(values, prepend=-1))
    return np.arange(len(values)) - np.repeat(begins, np.diff(begins, append=len(values)))


def _look_closely(
    coarse: NDArray[np.int8],
    start: int,
    everything: Tables,
    own: NDArray[np.int64],
    partner: NDArray[np.int64],
    minimum: float,
) -> Iterator[ScoredPairs]:
    """Put pairs through the second sieve, part of the partners by part."""
    used = np.unique(own) - start
    mine = coarse[used]
    descriptors, spectra = _describe(mine), _spectra(mine)
    for origin, maps in everything():
        here = np.flatnonzero((partner >= origin) & (partner < origin + len(maps)))
        here = here[np.argsort(partner[here], kind="stable")]
        for begin in range(0, len(here), _AT_ONCE):
            some = here[begin : begin + _AT_ONCE]
            theirs, of_partner = np.unique(partner[some] - origin, return_inverse=True)
            ours, of_own = np.unique(np.searchsorted(used, own[some] - start), return_inverse=True)
            both_descriptors = np.concatenate([descriptors[ours], _describe(maps[theirs])])
            both_spectra = np.concatenate([spectra[ours], _spectra(maps[theirs])])
            lower = own[some] < partner[some]
            a = np.where(lower, of_own, of_partner + len(ours))
            b = np.where(lower, of_partner + len(ours), of_own)
            first, second = np.minimum(own[some], partner[some]), np.maximum(own[some], partner[some])
            for batch in (slice(at, at + _BATCH) for at in range(0, len(some), _BATCH)):
                orientation = _orientations(both_descriptors[a[batch]], both_descriptors[b[batch]])
                correlation = _correlate(both_spectra, a[batch], b[batch], orientation)
                enough = np.flatnonzero(correlation >= minimum)
                score = _whole(correlation)[enough]
                yield ScoredPairs(first[batch][enough], second[batch][enough], orientation[enough], score)


def _whole(correlation: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.rint(correlation.clip(0, 1) * (1 << (_SCORE_BITS - 1))).astype(np.int64)


def _some(pairs: ScoredPairs, which: NDArray[np.int64] | NDArray[np.bool_]) -> ScoredPairs:
    return ScoredPairs(*(column[which] for column in pairs))


def _best_of_either(pairs: ScoredPairs, limit: int, at_once: int = _IMAGES_AT_ONCE) -> NDArray[np.bool_]:
    """Tell what `_keep_best` tells, for any number of images; so many of them at a time."""
    kept = np.zeros(len(pairs.first), bool)
    sides = [
        (own, partner, np.argsort(own, kind="stable"))
        for own, partner in ((pairs.first, pairs.second), (pairs.second, pairs.first))
    ]
    for start in range(0, int(pairs.second.max(initial=-1)) + 1, at_once):
        which, images, partners = [], [], []
        for own, partner, order in sides:
            begin, end = np.searchsorted(own, (start, start + at_once), sorter=order)
            which.append(order[begin:end])
            images.append(own[which[-1]])
            partners.append(partner[which[-1]])
        rows, of = np.concatenate(which), np.concatenate(images)
        best_first = np.lexsort((np.concatenate(partners), -pairs.score[rows], of))
        kept[rows[best_first[_ranks(of[best_first]) < limit]]] = True
    return kept


def _keep_best(
    pairs: NDArray[np.int64], count: int, limit: int, lowest: int = 0
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which pairs (row, column, score) are among the best ``limit`` of either of their images.

    Of equally good ones the lower partner comes first. Also the score (count,) that a further pair of an
    image must reach: at least ``lowest``.
    """
    lacking = (1 << _SCORE_BITS) - 1 - pairs[:, 2]
    quality = [lacking << _INDEX_BITS | pairs[:, 1], lacking << _INDEX_BITS | pairs[:, 0]]
    shift = _SCORE_BITS + _INDEX_BITS
    keys = np.concatenate([pairs[:, 0] << shift | quality[0], pairs[:, 1] << shift | quality[1]])
    keys.sort()
    number = np.bincount(pairs[:, :2].ravel(), minlength=count)
    full = np.flatnonzero(number >= limit)
    last = np.full(count, (1 << shift) - 1)
    last[full] = keys[(np.cumsum(number) - number)[full] + limit - 1] & ((1 << shift) - 1)
    floors = np.full(count, lowest)
    floors[full] = (1 << _SCORE_BITS) - 1 - (last[full] >> _INDEX_BITS)
    return (quality[0] <= last[pairs[:, 0]]) | (quality[1] <= last[pairs[:, 1]]), floors


def _orientations(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.int64]:
    """Best orientation (n,) of each pair, coded as in :class:`Pairs`; of equal ones the lowest."""
    scores = []
    for turned in (first, first[:, _transposition()]):
        product = turned * second
        even, odd_x, odd_y, odd = (product[:, part].sum(axis=1) for part in _PARITIES)
        for flip_y in (1, -1):
            for flip_x in (1, -1):
                scores.append(even + flip_x * odd_x + flip_y * odd_y + flip_x * flip_y * odd)
    return np.argmax(np.stack(scores), axis=0)


def _spectra(maps: NDArray[np.int8]) -> NDArray[np.complex64]:
    """Spectra (n, 2, 12, 7) of maps and of their transposes: low frequencies, weighted, of unit power."""
    hann = np.hanning(COARSE_SIZE + 2)[1:-1]
    window = np.sqrt(hann[:, None] * hann).astype(np.float32)
    rows, columns = np.fft.fftfreq(_BAND, 1 / _BAND).astype(np.int64), np.arange(_BAND // 2 + 1)
    radius = np.hypot(rows[:, None], columns)
    weight = (np.sqrt(radius) * np.exp(-((radius / 4) ** 2))).astype(np.float32)
    # The sign of the highest frequency is lost in so small a transform: leave it out.
    weight[_BAND // 2] = weight[:, _BAND // 2] = 0
    # Phases count from the centre of the map, so that reversing an axis only reverses its frequencies.
    phase = np.exp(1j * np.pi * (COARSE_SIZE - 1) / COARSE_SIZE * (rows[:, None] + columns))
    centred = (weight * phase).astype(np.complex64)
    counts = np.where(columns > 0, 2, 1).astype(np.float32)
    spectra = np.empty((len(maps), 2, *weight.shape), np.complex64)
    for start in range(0, len(maps), 1024):
        part = maps[start : start + 1024] * window
        for form, values in enumerate((part, part.transpose(0, 2, 1))):
            spectrum = fft.rfft2(values)[:, rows][:, :, columns] * centred
            power = np.sum((spectrum.real**2 + spectrum.imag**2) * counts, axis=(1, 2), keepdims=True)
            spectra[start : start + 1024, form] = spectrum * (_BAND / np.sqrt(power + 1e-6))
    return spectra


def _correlate(
    spectra: NDArray[np.complex64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    orientation: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Correlation coefficients (n,) at the best shift, ``first`` in its ``orientation``.

    Reversing an axis reverses its frequencies; negative frequencies of x are the conjugates of the opposite
    ones.
    """
    turned = spectra[first, orientation >> 2]
    reversed_rows = (orientation & 1) ^ (orientation >> 1 & 1) == 1
    turned[reversed_rows] = turned[reversed_rows][:, -np.arange(_BAND)]
    product = spectra[second, 0]
    # The product takes the conjugate of the first; a reversed x has taken it already.
    plain = (orientation & 1) == 0
    np.conj(turned, out=turned, where=plain[:, None, None])
    product *= turned
    return fft.irfft2(product, s=(_BAND, _BAND)).reshape(len(first), -1).max(axis=1)
