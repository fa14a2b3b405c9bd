"""Do two texture maps show the same place? They are laid over each other and compared patch by patch.

Every pair is first compared at half resolution, at the shift where its cross-correlation is largest; most
different places end there. For the others shift and scale, separately in y and x, are refined by
Gauss-Newton steps on the squared difference (Lucas and Kanade, 1981) until the pair is accepted or the
steps are used up.

A pair's similarity is the mean of two correlation coefficients over its overlap: that of all pixels and
that of the lower quartile of its 16 patches. A crack that happens to run alike gives a good whole but bad
patches beside it; fine grain that happens to agree in one corner gives a few good patches but a bad whole.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from crack_pipeline.imaging.duplicate_candidates import Pairs, turn

_BATCH = 128
_GRID = 4
_PROMISING = 0.36  # similarity at half resolution, before refinement: true pairs reach 0.39 on METU, 1 in 20 others do
_STEPS = 4
_LARGEST_SHIFT = 0.35  # of the side
_LARGEST_SCALE = 0.14
_SMALLEST_OVERLAP = 0.4
_FLAT = 0.15  # root mean square of a patch of the map (of about 1 where there is texture)
_FEWEST_PATCHES = 6

logger = logging.getLogger(__name__)

Maps = NDArray[np.float32]


def verify(
    pairs: Pairs, texture: Callable[[NDArray[np.int64]], NDArray[np.int8]], *, minimum: float, workers: int
) -> NDArray[np.bool_]:
    """Tell which pairs show the same place.

    Parameters
    ----------
    pairs
        The n pairs to judge, in the orientation to judge them in.
    texture
        Gives the texture maps (k, T, T) int8 of k images, T a multiple of 8; called from several threads.
    minimum
        Similarity from which a pair is accepted, in (0, 1].
    workers
        Threads.

    Returns
    -------
    ndarray
        (n,) bool.
    """
    accepted = np.zeros(len(pairs.first), bool)
    starts = range(0, len(accepted), _BATCH)

    def judge(start: int) -> NDArray[np.bool_]:
        part = slice(start, start + _BATCH)
        first = turn(texture(pairs.first[part]), pairs.orientation[part])
        return similar(first, texture(pairs.second[part]), minimum)

    reported = time.monotonic()
    with ThreadPoolExecutor(workers) as executor:
        for start, result in zip(starts, executor.map(judge, starts), strict=True):
            accepted[start : start + len(result)] = result
            if time.monotonic() - reported > 5:
                reported = time.monotonic()
                logger.info("compared %d of %d pairs", start + len(result), len(accepted))
    return accepted


def similar(first: NDArray[np.int8], second: NDArray[np.int8], minimum: float) -> NDArray[np.bool_]:
    """Tell which of n pairs of maps, (n, T, T) int8 each, reach the similarity ``minimum`` once aligned."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    a /= 127 / 2
    b /= 127 / 2
    coarse_a, coarse_b = _halve(a), _halve(b)
    shift = _best_shift(coarse_a, coarse_b)
    moved, valid = _move(coarse_b, shift)
    active = np.flatnonzero(_similarity(coarse_a, moved, valid) >= min(_PROMISING, minimum))
    accepted = np.zeros(len(a), bool)
    place = np.ones((len(active), 4), np.float32)  # shift and scale in y, then in x
    place[:, [0, 2]] = 2 * shift[active]
    for step in range(_STEPS + 1):
        if not len(active):
            break
        moved, valid = _warp(b[active], place)
        reached = _similarity(a[active], moved, valid) >= minimum
        accepted[active[reached]] = True
        active, place, moved, valid = active[~reached], place[~reached], moved[~reached], valid[~reached]
        if step < _STEPS and len(active):
            place = _improve(a[active], moved, valid, place)
    return accepted


def _halve(maps: Maps) -> Maps:
    rows = maps[:, ::2] + maps[:, 1::2]
    return (rows[:, :, ::2] + rows[:, :, 1::2]) * np.float32(0.25)


def _best_shift(a: Maps, b: Maps) -> NDArray[np.int64]:
    """Whole-pixel shift (n, 2), y and x, at which ``b[p + shift]`` correlates best with ``a[p]``."""
    size = a.shape[1]
    window = np.hanning(size + 2)[1:-1].astype(np.float32) ** 0.5
    window = window[:, None] * window
    spectrum = fft.rfft2(b * window) * np.conj(fft.rfft2(a * window))
    peak = np.argmax(fft.irfft2(spectrum, s=(size, size)).reshape(len(a), -1), axis=1)
    return (np.column_stack(np.divmod(peak, size)) + size // 2) % size - size // 2


def _move(maps: Maps, shift: NDArray[np.int64]) -> tuple[Maps, NDArray[np.float32]]:
    size = maps.shape[1]
    source = np.arange(size)[None, :, None] + shift[:, None, :]
    inside = ((source >= 0) & (source < size)).astype(np.float32)
    source = source.clip(0, size - 1)
    moved = maps[np.arange(len(maps))[:, None, None], source[:, :, None, 0], source[:, None, :, 1]]
    return moved, inside


def _warp(maps: Maps, place: NDArray[np.float32]) -> tuple[Maps, NDArray[np.float32]]:
    """Sample maps at ``scale * (p - centre) + centre + shift``; (n, T, 2) says which y and x are inside."""
    size = maps.shape[1]
    pixel = np.arange(size, dtype=np.float32)
    centre = (size - 1) / 2
    source = place[:, None, 1::2] * (pixel[None, :, None] - centre) + centre + place[:, None, 0::2]
    inside = ((source >= -0.25) & (source <= size - 0.75)).astype(np.float32)
    weights = np.maximum(0, 1 - np.abs(source[:, :, None] - pixel[None, None, :, None]))
    across = np.ascontiguousarray(weights[..., 1].transpose(0, 2, 1))
    return np.ascontiguousarray(weights[..., 0]) @ maps @ across, inside


def _similarity(a: Maps, b: Maps, inside: NDArray[np.float32]) -> NDArray[np.float32]:
    n, size, _ = a.shape
    cell = size // _GRID
    # Sums over patches of the overlap, as matrix products: what is outside has the weight 0.
    patch = np.repeat(np.eye(_GRID, dtype=np.float32), cell, axis=1)
    down = patch * inside[:, None, :, 0]
    across = (patch * inside[:, None, :, 1]).transpose(0, 2, 1)

    def patches(values: Maps) -> Maps:
        return (down @ values @ across).reshape(n, _GRID**2)

    area = (down.sum(2)[:, :, None] * across.sum(1)[:, None, :]).reshape(n, _GRID**2)
    product, energy_a, energy_b = patches(a * b), patches(a * a), patches(b * b)
    whole = product.sum(1) / np.sqrt(energy_a.sum(1) * energy_b.sum(1) + 1e-6)
    # A patch without texture in both maps is no evidence; in one of the two it is evidence against.
    textured = np.maximum(energy_a, energy_b) > _FLAT**2 * np.maximum(area, 1)
    usable = (area > cell * cell / 2) & textured
    count = usable.sum(1)
    each = np.where(usable, product / np.sqrt(energy_a * energy_b + 1e-6), np.inf)
    lower = np.take_along_axis(np.sort(each, axis=1), (count // 4).clip(max=_GRID**2 - 1)[:, None], axis=1)[:, 0]
    judged = (count >= _FEWEST_PATCHES) & (area.sum(1) >= _SMALLEST_OVERLAP * size * size)
    return np.where(judged, (whole + np.where(judged, lower, 0)) / 2, -1).astype(np.float32)


def _improve(a: Maps, moved: Maps, inside: NDArray[np.float32], place: NDArray[np.float32]) -> NDArray[np.float32]:
    n, size, _ = a.shape
    radius = ((np.arange(size) - (size - 1) / 2) / ((size - 1) / 2)).astype(np.float32)
    valid = inside[:, :, None, 0] * inside[:, None, :, 1]
    slope_y, slope_x = np.zeros_like(moved), np.zeros_like(moved)
    slope_y[:, 1:-1] = (moved[:, 2:] - moved[:, :-2]) / 2
    slope_x[:, :, 1:-1] = (moved[:, :, 2:] - moved[:, :, :-2]) / 2
    slope_y *= valid
    slope_x *= valid
    slopes = np.stack([slope_y, slope_y * radius[:, None], slope_x, slope_x * radius], axis=1).reshape(n, 4, -1)
    a, moved = a * valid, moved * valid
    gain = np.linalg.norm(moved, axis=(1, 2)) / (np.linalg.norm(a, axis=(1, 2)) + 1e-6)
    error = (a * gain[:, None, None] - moved).reshape(n, -1, 1)
    damping = 1e-4 * valid.sum((1, 2))[:, None, None] * np.eye(4, dtype=np.float32)
    step = np.linalg.solve(slopes @ slopes.transpose(0, 2, 1) + damping, slopes @ error)[:, :, 0]
    step[:, 1::2] /= (size - 1) / 2
    step[:, 0::2] = step[:, 0::2].clip(-2, 2)
    step[:, 1::2] = step[:, 1::2].clip(-0.04, 0.04)
    better = place + step
    better[:, 0::2] = better[:, 0::2].clip(-_LARGEST_SHIFT * size, _LARGEST_SHIFT * size)
    better[:, 1::2] = better[:, 1::2].clip(1 - _LARGEST_SCALE, 1 + _LARGEST_SCALE)
    return better
