"""Where the centrelines of cracks run between the pixels, and how wide the cracks are along them.

All lines of a photograph are worked on together: a bad mask has hundreds of thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

_SMOOTH, _SMOOTHER = 1.5, 0.15
"""Deviation, in px and in widths of the crack, of what smooths a centreline: its steps are those of the pixels."""
_FINE = 8
"""Deviations are multiples of a pixel by this."""
_STEP = 0.25
"""Between places that are looked at, px."""
_BACK = 8
"""Pixels of a line that give its direction at an end, or as many as the crack is wide."""
_BENT = 0.75
"""Widths from the end of a crack within which its line bends into a corner."""
_BESIDE, _EDGE = 1.0, 0.5
"""How many widths a crack is looked for on each side of its line; what of a pixel its edge covers."""
_END, _FORK = 0.5, 1.0
"""Widths from an end, and from a fork, within which its width is not that of the crack."""
_BEND = 1.15
"""How many times as wide as a disc that fits into it a crack may be across its line; more is a bend."""


@dataclass(frozen=True)
class Lines:
    """Lines of points, one after another in one array.

    Attributes
    ----------
    points
        (N, 2): y and x, px.
    lengths
        (n,): points of each line, at least 1.
    """

    points: _Floats
    lengths: _Ints

    @cached_property
    def first(self) -> _Ints:
        """(n,): where each line begins."""
        return np.cumsum(self.lengths) - self.lengths

    @cached_property
    def last(self) -> _Ints:
        """(n,): where each line ends, inclusive."""
        return self.first + self.lengths - 1

    @cached_property
    def line(self) -> _Ints:
        """(N,): to which line a point belongs."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def along(self) -> _Floats:
        """(N,): how far a point is from the begin of its line, px."""
        steps = np.zeros(len(self.points))
        steps[1:] = np.hypot(*np.diff(self.points, axis=0).T)
        steps[self.first] = 0
        total = np.cumsum(steps)
        return total - np.repeat(total[self.first], self.lengths)

    @cached_property
    def weights(self) -> _Floats:
        """(N,): how much of its line a point stands for, px."""
        middle = np.zeros(len(self.points) + 1)
        middle[1:-1] = np.diff(self.along) / 2
        middle[self.first] = 0
        middle[-1] = 0
        return np.maximum(middle[1:] + middle[:-1], 1e-9)


@dataclass(frozen=True)
class Picture:
    """Which crack each pixel belongs to.

    Attributes
    ----------
    labels
        (H, W): 0 for none; with a border of 0, at least 2 px.
    """

    labels: NDArray[np.integer]

    def share(self, places: _Floats, own: NDArray[np.integer]) -> NDArray[np.float32]:
        """Say how much of the crack ``own`` (n,) is at places (n, 2) between its pixels, 0 to 1."""
        height, width = self.labels.shape
        whole = np.floor(places)
        down, right = (places - whole).T.astype(np.float32)
        y, x = whole.T.astype(np.int64)
        corner = np.clip(y, 0, height - 2) * width + np.clip(x, 0, width - 2)
        flat = self.labels.reshape(-1)
        above = (flat[corner] == own) * (1 - right) + (flat[corner + 1] == own) * right
        below = (flat[corner + width] == own) * (1 - right) + (flat[corner + width + 1] == own) * right
        return np.asarray(above * (1 - down) + below * down, np.float32)


@dataclass(frozen=True)
class Profiles:
    """What has been measured along lines.

    Attributes
    ----------
    lines
        To the ends of the cracks.
    widths
        (N,): at right angles, px.
    counted
        (N,): false near the ends of the crack, whose corners may be round, near forks, where branches overlap, and in
        sharp bends, across which it is wider than a disc that fits into it.
    """

    lines: Lines
    widths: _Floats
    counted: NDArray[np.bool_]


def measure(lines: Lines, free: NDArray[np.bool_], rough: _Floats, own: _Ints, picture: Picture) -> Profiles:
    """Measure cracks along their lines.

    Parameters
    ----------
    lines
        Pixels, one after another.
    free
        (n, 2): whether the crack ends at the first, and at the last point of a line.
    rough
        (N,): about how wide the crack is there, px.
    own
        (n,): to which crack of the picture each line belongs.
    picture
        The cracks.
    """
    local = np.bincount(lines.line, rough, minlength=len(own)) / lines.lengths
    lines, rough = _trimmed(lines, free, rough)
    lines, rough = _to_the_ends(_smoothed(lines, local), local, rough, free, own, picture)
    widths = _filtered(_across(lines, local, rough, own, picture), lines, 1 + 2 * (local / 2).astype(np.int64))
    straight = widths <= _BEND * rough + 1
    return Profiles(lines, widths, _counted(lines, free, local, own, straight))


def _trimmed(lines: Lines, free: NDArray[np.bool_], rough: _Floats) -> tuple[Lines, _Floats]:
    """Leave out where a line bends into a corner of the crack's end."""
    position = np.arange(len(lines.points)) - lines.first[lines.line]
    cuts = []
    for end, place in enumerate((position, (lines.lengths - 1)[lines.line] - position)):
        near = np.where((place < _BENT * rough) & free[lines.line, end], place + 1, 0)
        cuts.append(np.maximum.reduceat(near, lines.first) if len(near) else near)
    left = lines.lengths - cuts[0] - cuts[1]
    enough = left > np.maximum(2, np.maximum(*cuts))
    before, after = np.where(enough, cuts[0], 0), np.where(enough, cuts[1], 0)
    keep = (position >= before[lines.line]) & (position < (lines.lengths - after)[lines.line])
    return Lines(lines.points[keep], lines.lengths - before - after), rough[keep]


def _smoothed(lines: Lines, local: _Floats) -> Lines:
    """Smooth lines of pixels, whose ends stay where they are."""
    wanted = _SMOOTH + _SMOOTHER * local
    reach = np.minimum(lines.lengths - 1, np.ceil(3 * wanted).astype(np.int64))
    deviation = np.floor(np.minimum(wanted, reach / 3) * _FINE).astype(np.int64)
    deviation[lines.lengths < 3] = 0

    def smooth(points: _Floats, key: int) -> _Floats:
        return ndimage.gaussian_filter1d(points, key / _FINE, axis=0, mode="nearest", radius=_reach(key))

    # Turned about its ends a line goes on as it is.
    return Lines(_by_line(lines.points, lines, deviation, _reach, smooth, turned=True), lines.lengths)


def _reach(deviation: int) -> int:
    return int(np.floor(3 * deviation / _FINE))


def _filtered(widths: _Floats, lines: Lines, sizes: _Ints) -> _Floats:
    """Take medians along the lines: a single ragged pixel says nothing of the width."""

    def median(values: _Floats, size: int) -> _Floats:
        return ndimage.median_filter(values, size=size, mode="nearest")

    return _by_line(widths, lines, np.where(sizes > 1, sizes, 0), lambda size: size // 2, median, turned=False)


def _by_line(
    values: _Floats,
    lines: Lines,
    keys: _Ints,
    reach: Callable[[int], int],
    work: Callable[[_Floats, int], _Floats],
    *,
    turned: bool,
) -> _Floats:
    """Filter the values (N, ...) of lines, those of the same key (n,) in one go; where it is 0, not at all.

    Beyond its ends, as far as the filter reaches, a line has the value of the end or is turned about it.
    """
    result = values.copy()
    for key in np.unique(keys[keys > 0]).tolist():
        mine, wide = np.flatnonzero(keys == key), reach(key)
        lengths = lines.lengths[mine] + 2 * wide
        position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) - wide
        first, last = np.repeat(lines.first[mine], lengths), np.repeat(lines.last[mine], lengths)
        place = first + position
        inside = np.clip(place, first, last)
        longer = values[inside]
        if turned:
            longer = 2 * longer - values[2 * inside - place]
        kept = inside == place
        result[place[kept]] = work(longer, key)[kept]
    return result


def _to_the_ends(
    lines: Lines, local: _Floats, rough: _Floats, free: NDArray[np.bool_], own: _Ints, picture: Picture
) -> tuple[Lines, _Floats]:
    """Lengthen lines straight on to where the crack ends: thinning stops about half a width before."""
    back = np.minimum(np.maximum(_BACK, np.rint(local).astype(np.int64)), lines.lengths - 1)
    added: list[tuple[_Floats, _Floats, _Ints]] = []
    for end, (at, inwards) in enumerate(((lines.first, lines.first + back), (lines.last, lines.last - back))):
        start = lines.points[at]
        towards = start - lines.points[inwards]
        length = np.hypot(*towards.T)
        towards /= np.maximum(length, 1e-9)[:, None]
        steps = np.zeros(len(own), np.int64)
        active = np.flatnonzero(free[:, end] & (length > 0))
        for step in range(int(sum(picture.labels.shape) / _STEP)):
            active = active[picture.share(start[active] + step * _STEP * towards[active], own[active]) >= _EDGE]
            if not len(active):
                break
            steps[active] = step
        distance = steps * _STEP
        number = np.where(distance > 0, np.maximum(1, distance.astype(np.int64)), 0)
        added.append((start, towards * distance[:, None], number))
    (start, before, more), (stop, after, yet_more) = added
    lengths = lines.lengths + more + yet_more
    longer = Lines(np.empty((int(lengths.sum()), 2)), lengths)
    position = np.arange(len(longer.points)) - longer.first[longer.line] - more[longer.line]
    line = longer.line
    beyond = position - lines.lengths[line] + 1
    inside = (position >= 0) & (beyond <= 0)
    longer.points[inside] = lines.points
    for where, how_far, (ends, reach, number) in (
        (position < 0, -position, (start, before, more)),
        (beyond > 0, beyond, (stop, after, yet_more)),
    ):
        which = line[where]
        longer.points[where] = ends[which] + reach[which] * (how_far[where] / number[which])[:, None]
    nearest = lines.first[line] + np.clip(position, 0, lines.lengths[line] - 1)
    return longer, rough[nearest]


def _across(lines: Lines, local: _Floats, rough: _Floats, own: _Ints, picture: Picture) -> _Floats:
    """Measure at right angles to lines how far the crack reaches on both sides, px."""
    line, number = lines.line, np.maximum(1, np.rint(local / 4)).astype(np.int64)
    here = np.arange(len(lines.points))
    ahead = np.minimum(here + number[line], lines.last[line])
    behind = np.maximum(here - number[line], lines.first[line])
    along = lines.points[ahead] - lines.points[behind]
    normal = along[:, ::-1] * (-1.0, 1.0) / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    furthest = _BESIDE * rough + 2
    mine = own[line]
    total = np.zeros(len(here))
    for side in (-_STEP, _STEP):
        active = here
        for step in range(int(furthest.max(initial=0) / _STEP) + 1):
            seen = picture.share(lines.points[active] + step * side * normal[active], mine[active])
            total[active] += seen * (_STEP if step else _STEP / 2)
            # Not further than the first pixel beside the crack: beyond it may be another branch.
            active = active[(seen > 0) & (furthest[active] >= (step + 1) * _STEP)]
            if not len(active):
                break
    return total


def _counted(
    lines: Lines, free: NDArray[np.bool_], local: _Floats, own: _Ints, straight: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Say which points lie away from the ends, forks and sharp bends of the crack, at least one of each crack."""
    far = np.where(free, _END, _FORK) * local[:, None]
    ring = (lines.points[lines.first] == lines.points[lines.last]).all(axis=1) & (lines.lengths > 1)
    far[ring] = 0
    line, before = lines.line, lines.along
    after = (before[lines.last])[line] - before
    counted = (before >= far[line, 0]) & (after >= far[line, 1]) & straight
    none = np.bincount(own[line], counted, minlength=int(own.max(initial=0)) + 1) == 0
    counted[(lines.first + lines.lengths // 2)[none[own]]] = True
    return counted
