"""Holes in a photograph of a surface, filled with a surface that has the grain of the one around.

A smooth fill alone is seen as a smear, since concrete has grain. Here it is only half of the answer. The other half is
what it misses elsewhere: at a place close by that is sound, a hole of the same form is filled in the same way, and what
this is wrong by is added. So the grain has the spectrum, the contrast and the colours of the surface around, and fades
out towards the edge of the hole as the error of the smooth fill does, so that no edge is seen. Where the fill is linear
this is conditional simulation by kriging (A. G. Journel, Economic Geology 69(5), 1974), with a piece of the photograph
in the place of a simulated field, and also the membrane interpolation of seamless cloning (Z. Farbman and others, ACM
Transactions on Graphics 28(3), 2009).

Pieces are small squares, each from the place whose surroundings fit best; where they overlap, they are added so that
the contrast of the grain stays (E. Heitz and F. Neyret, Proceedings of the ACM on Computer Graphics 1(2), 2018).
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.hole_windows import Box, hole_windows

Field = NDArray[np.float32]

_FINE, _COARSE = (3.0, 1.5), (3.0,)
"""Deviations of the Gaussians that a smooth fill averages with, px: in full size, and in each half of a size."""
_ENOUGH = 0.4
"""Share of a Gaussian that must be known for its average to count in full."""
_HALVINGS, _LOCAL_HALVINGS, _SMALLEST = 5, 3, 4
_CORE, _HALO, _DEPTHS = 512, 64, 3.0
_TILE, _BLEND, _EDGE = 32, 8, 5
"""Side of a piece, how far it reaches into the next ones, and how far around a hole surroundings are compared, px."""
_REACH, _FURTHEST = 64, 512
"""How far a piece is looked for, px; further off, up to a distance, where there is none."""
_LOOKED_AT = 0.25
"""Share of the places that are looked at: with all of them the same place would be taken again and again."""
_LEAST = 8
_AROUND = 32


def fill_texture(
    photograph: NDArray[np.uint8], unknown: NDArray[np.bool_], *, grain: float = 1.0, seed: int = 0
) -> NDArray[np.uint8]:
    """Fill holes with a surface that goes on from their edges and has the grain of what is around.

    Parameters
    ----------
    photograph
        (H, W) or (H, W, C).
    unknown
        (H, W): the holes; at least one pixel must be none.
    grain
        Its contrast: 1 as around, 0 for the smooth fill alone.
    seed
        Of the choice of the places that the grain is taken from.

    Returns
    -------
    ndarray of uint8
        Of the shape of the photograph, changed only where it was unknown. Memory beyond that does not grow with the
        photograph.

    Examples
    --------
    >>> wall, hole = np.random.default_rng(0).integers(90, 110, (64, 64)).astype(np.uint8), np.zeros((64, 64), bool)
    >>> hole[28:36] = True
    >>> filled = fill_texture(np.where(hole, 0, wall).astype(np.uint8), hole)
    >>> bool(abs(filled[hole].std() / wall[~hole].std() - 1) < 0.15)
    True
    """
    pixels = photograph if photograph.ndim == 3 else photograph[..., None]
    filled = pixels.copy()
    for window in hole_windows(unknown, size=_CORE, least=_HALO, depths=_DEPTHS):
        surface = pixels[window.around].astype(np.float32)
        fill = smooth_fill(surface, ~unknown[window.around])[window.inner]
        if grain:
            fill = fill + np.float32(grain) * _grain(pixels, unknown, window.core, seed)
        levels = np.clip(np.rint(fill), 0, 255).astype(np.uint8)
        hole = unknown[window.core]
        filled[window.core][hole] = levels[hole]
    return filled.reshape(photograph.shape)


def smooth_fill(surface: Field, known: NDArray[np.bool_], halvings: int = _HALVINGS) -> Field:
    """Average what is known around each pixel, with the narrowest Gaussian that finds enough of it.

    Parameters
    ----------
    surface
        (H, W, C).
    known
        (H, W); what the surface is elsewhere does not matter.
    halvings
        How often the size is halved for wider Gaussians.

    Returns
    -------
    ndarray of float32
        (H, W, C): a smooth surface, linear in what is known, also where it is known.
    """
    weight = known.astype(np.float32)
    return _smooth(np.where(known[..., None], surface, np.float32(0)), weight, _FINE, halvings)


def _smooth(weighted: Field, weight: Field, deviations: tuple[float, ...], halvings: int) -> Field:
    height, width = weight.shape
    if halvings and min(height, width) >= _SMALLEST:
        half = -(-width // 2), -(-height // 2)
        small = _channels(cv2.resize(weighted, half, interpolation=cv2.INTER_AREA))
        coarse = _smooth(small, cv2.resize(weight, half, interpolation=cv2.INTER_AREA), _COARSE, halvings - 1)
        fill = _channels(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))
    else:
        fill = np.broadcast_to(weighted.sum(axis=(0, 1)) / max(float(weight.sum()), 1e-6), weighted.shape)
    for deviation in deviations:
        total = _channels(cv2.GaussianBlur(weighted, (0, 0), deviation))
        share = cv2.GaussianBlur(weight, (0, 0), deviation)
        counts = np.clip(share / np.float32(_ENOUGH), 0, 1) / np.maximum(share, np.float32(1e-6))
        fill = fill + counts[..., None] * (total - share[..., None] * fill)
    return np.asarray(fill, np.float32)


def _grain(pixels: NDArray[np.uint8], unknown: NDArray[np.bool_], core: Box, seed: int) -> Field:
    """Give what the smooth fill misses in the holes of a part of a photograph: (h, w, C)."""
    rows, columns = core
    shape = rows.stop - rows.start, columns.stop - columns.start
    grain, power = np.zeros((*shape, pixels.shape[2]), np.float32), np.zeros(shape, np.float32)
    # Pieces lie as they do for the parts beside this one, so that no seam is seen.
    for top in range((rows.start - _BLEND) // _TILE * _TILE, rows.stop + _BLEND, _TILE):
        for left in range((columns.start - _BLEND) // _TILE * _TILE, columns.stop + _BLEND, _TILE):
            piece = _piece(pixels, unknown, top, left, seed)
            if piece is None:
                continue
            place, missed = piece
            fades = [
                _fade(np.arange(side.start, side.stop), start) for side, start in zip(place, (top, left), strict=True)
            ]
            weight = fades[0][:, None] * fades[1]
            both = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(place, core, strict=True)]
            if any(start >= stop for start, stop in both):
                continue
            to = tuple(slice(a - b.start, z - b.start) for (a, z), b in zip(both, core, strict=True))
            of = tuple(slice(a - b.start, z - b.start) for (a, z), b in zip(both, place, strict=True))
            grain[to] += weight[of][..., None] * missed[of]
            power[to] += np.square(weight[of])
    grain /= np.sqrt(np.maximum(power, np.float32(1e-6)))[..., None]
    return grain


def _fade(at: NDArray[np.int64], start: int) -> Field:
    """Weights that rise over the edge of a piece and fall over the other one."""
    inside = np.minimum(at - (start - _BLEND), start + _TILE + _BLEND - 1 - at) + 0.5
    return np.clip(inside / (2 * _BLEND), 0, 1).astype(np.float32)


def _piece(
    pixels: NDArray[np.uint8], unknown: NDArray[np.bool_], top: int, left: int, seed: int
) -> tuple[Box, Field] | None:
    """Give the grain of one piece and where it lies; None where there is nothing to fill."""
    place = _inside((top, left), _TILE, _BLEND, unknown.shape)
    hole = unknown[place]
    if not hole.any():
        return None
    # Negative numbers are no seeds.
    down, across = _offset(pixels, unknown, place, np.random.default_rng([seed, top + _TILE, left + _TILE]))
    height, width = unknown.shape
    rows, columns = (
        slice(max(0, side.start - _AROUND, -shift), min(length, side.stop + _AROUND, length - shift))
        for side, shift, length in zip(place, (down, across), (height, width), strict=True)
    )
    source = slice(rows.start + down, rows.stop + down), slice(columns.start + across, columns.stop + across)
    inner = tuple(
        slice(side.start - around.start, side.stop - around.start)
        for side, around in zip(place, (rows, columns), strict=True)
    )
    sound = ~unknown[source]
    known = sound.copy()
    near = tuple(slice(max(0, side.start - _BLEND), side.stop + _BLEND) for side in inner)
    known[near] &= ~unknown[rows, columns][near]
    surface = pixels[source].astype(np.float32)
    missed = surface - smooth_fill(surface, known if known.any() else sound, _LOCAL_HALVINGS)
    return place, np.where(sound[..., None], missed, np.float32(0))[inner]


class _Scores(NamedTuple):
    """How well the places fit that a piece could come from."""

    first: tuple[int, int]
    """Offset of the first place, px."""
    unlike: Field
    """Sum of squared differences of the surroundings, apart from that of their means."""
    spoilt: Field
    """Number of wanted pixels that are unknown there, too."""


def _offset(
    pixels: NDArray[np.uint8], unknown: NDArray[np.bool_], place: Box, rng: np.random.Generator
) -> tuple[int, int]:
    """Choose where to take the grain from, as rows and columns to go from a place."""
    reach = _REACH
    while True:
        scores = _compare(pixels, unknown, place, reach)
        fits = scores.spoilt < 0.5
        if fits.any() or reach >= _FURTHEST:
            break
        reach *= 2
    if not fits.any():
        fits = scores.spoilt < scores.spoilt.min() + 0.5
    drawn = fits & (rng.random(fits.shape, np.float32) < _LOOKED_AT)
    unlike = np.where(drawn if drawn.any() else fits, scores.unlike, np.inf)
    # Where nothing is to be compared, all are alike, and any will do.
    best = rng.choice(np.flatnonzero(unlike <= unlike.min()))
    down, across = np.unravel_index(int(best), unlike.shape)
    return scores.first[0] + int(down), scores.first[1] + int(across)


def _compare(pixels: NDArray[np.uint8], unknown: NDArray[np.bool_], place: Box, reach: int) -> _Scores:
    hole = unknown[place]
    wide = cv2.dilate(hole.view(np.uint8), np.ones((2 * _EDGE + 1, 2 * _EDGE + 1), np.uint8)).astype(np.bool_)
    edge = (wide & ~hole).astype(np.float32)
    rows, columns = (
        slice(max(0, side.start - reach), min(length, side.stop + reach))
        for side, length in zip(place, unknown.shape, strict=True)
    )
    first = rows.start - place[0].start, columns.start - place[1].start
    missing = unknown[rows, columns]
    spoilt = _correlate(missing.astype(np.float32), wide.astype(np.float32))
    number = float(edge.sum())
    if number < _LEAST:
        return _Scores(first, np.zeros_like(spoilt), spoilt)
    grey = pixels[rows, columns].mean(axis=2, dtype=np.float32)
    grey = np.where(missing, np.float32(0), grey - grey[~missing].mean())
    inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(place, (rows, columns), strict=True))
    wanted = grey[inner] * edge
    difference = _correlate(grey, edge) - wanted.sum()
    squares = _correlate(grey * grey, edge) - 2 * _correlate(grey, wanted) + np.square(wanted).sum()
    return _Scores(first, squares - np.square(difference) / number, spoilt)


def _correlate(picture: Field, template: Field) -> Field:
    return np.asarray(cv2.matchTemplate(picture, np.ascontiguousarray(template), cv2.TM_CCORR), np.float32)


def _inside(corner: tuple[int, int], size: int, margin: int, shape: tuple[int, ...]) -> Box:
    rows, columns = (
        slice(max(0, start - margin), max(0, min(length, start + size + margin)))
        for start, length in zip(corner, shape, strict=True)
    )
    return rows, columns


def _channels(field: Field) -> Field:
    """Give the third axis back that OpenCV drops where it has length 1."""
    return field if field.ndim == 3 else field[..., None]
