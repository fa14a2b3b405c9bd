"""Cracks as things that have a length, a width and a direction."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.crack_graph import centrelines
from crack_pipeline.imaging.crack_profiles import Lines, Picture, Profiles, measure
from crack_pipeline.imaging.crack_thinning import thin

_BORDER = 3
"""Around the picture, so that what is looked at beside a crack is there, px."""
_HOLE = 4
"""Pixels of a hole that is always filled."""
_WIDEST = 128
"""Half width from which on a crack is measured at half the resolution, px."""
_TILE, _ROWS = 2048, 256
"""Side of the squares in which distances are measured, and rows that are renumbered, one at a time, px."""


@dataclass(frozen=True)
class Branch:
    """A piece of a crack between ends and forks.

    Attributes
    ----------
    path
        (n, 2): y and x along the centreline to the ends of the crack, px; whole numbers are the middle of a pixel.
    widths
        (n,): how wide it is there at right angles, px.
    """

    path: NDArray[np.float64]
    widths: NDArray[np.float64]

    @property
    def length(self) -> float:
        """Of the centreline, px."""
        return float(np.hypot(*np.diff(self.path, axis=0).T).sum())


@dataclass(frozen=True)
class Crack:
    """What hangs together.

    Attributes
    ----------
    box
        y, x, height and width of what surrounds it, px.
    area
        Pixels.
    branches
        At least one.
    mean_width, max_width
        Along the centreline, px.
    widest
        y and x on the centreline where it is that wide.
    runs
        (m, 3): y, first x and the x after the last of every row of its pixels, from the top.
    """

    box: tuple[int, int, int, int]
    area: int
    branches: tuple[Branch, ...]
    mean_width: float
    max_width: float
    widest: tuple[float, float]
    runs: NDArray[np.int32]

    @property
    def length(self) -> float:
        """Of all branches, px."""
        return sum(branch.length for branch in self.branches)

    @property
    def orientation(self) -> float:
        """Mean direction, degrees from 0 to 180: 0 from left to right, 45 from the upper left to the lower right."""
        steps = np.concatenate([np.diff(branch.path, axis=0) for branch in self.branches])
        # Directions that differ by half a turn are the same: twice the angle makes them so.
        angles, lengths = np.arctan2(steps[:, 0], steps[:, 1]), np.hypot(steps[:, 0], steps[:, 1])
        total = (lengths * np.exp(2j * angles)).sum()
        return float(np.degrees(np.angle(total) / 2) % 180)

    def pixels(self) -> NDArray[np.bool_]:
        """Give the box with the pixels of this crack alone."""
        y, x, height, width = self.box
        turns = np.zeros((height, width + 1), np.int8)
        turns[self.runs[:, 0] - y, self.runs[:, 1] - x] = 1
        turns[self.runs[:, 0] - y, self.runs[:, 2] - x] = -1
        return np.cumsum(turns[:, :-1], axis=1, dtype=np.int8).astype(np.bool_)


def find_cracks(crack: NDArray[np.bool_], *, least_pixels: int = 20) -> list[Crack]:
    """Measure every crack of a mask.

    Parameters
    ----------
    crack
        (H, W).
    least_pixels
        Smaller ones are left out.

    Returns
    -------
    list of Crack
        The longest first. A side branch that is shorter than the crack is wide where it begins is roughness of the
        edge, not a branch. Where the photograph ends, so does a crack.

    Raises
    ------
    ValueError
        If the mask is none.

    Notes
    -----
    Time and memory grow with the picture and with the pixels of the cracks. What is wider than 256 px is measured at
    half the resolution, and its thin branches may be lost.

    Examples
    --------
    >>> wall = np.zeros((40, 120), bool)
    >>> wall[18:23, 10:110] = True
    >>> (found,) = find_cracks(wall)
    >>> round(found.length), round(found.mean_width, 1), round(found.orientation)
    (100, 5.0, 0)
    """
    if crack.ndim != 2 or crack.dtype != np.bool_:
        raise ValueError(f"a crack is a bool array (H, W), got {crack.dtype} of shape {crack.shape}: compare the mask")
    if not crack.any():
        return []
    labels, runs, boxes = _apart(_without_holes(crack), crack, least_pixels)
    squares = _squared_distances(labels[_BORDER:-_BORDER, _BORDER:-_BORDER])
    wide = _too_wide(labels[_BORDER:-_BORDER, _BORDER:-_BORDER], squares, len(runs))
    found = [_at_half_the_resolution(labels, int(label), boxes[label - 1], runs[label - 1]) for label in wide]
    lines, free, rough, own = _lines(labels, squares, runs, wide)
    del squares
    if len(own):
        found += _measured(measure(lines, free, rough, own, Picture(labels)), own, boxes, runs)
    return sorted(found, key=lambda one: -one.length)


def _too_wide(labels: NDArray[np.integer], squares: NDArray[np.uint16], number: int) -> NDArray[np.int64]:
    found = np.zeros(number + 1, np.bool_)
    for top in range(0, len(labels), _ROWS):
        rows = np.s_[top : top + _ROWS]
        found[labels[rows][squares[rows] >= _WIDEST**2]] = True
    found[0] = False
    return np.flatnonzero(found)


def _without_holes(crack: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Fill holes narrower than half of the crack around them, which make rings of its line.

    Returns
    -------
    ndarray of uint8
        (H + 2 * _BORDER, W + 2 * _BORDER): 1 in the crack.
    """
    _, holes, about, _ = cv2.connectedComponentsWithStats((~crack).view(np.uint8), connectivity=4)
    areas = about[:, cv2.CC_STAT_AREA].astype(np.int64)
    left, top, width, height = about[:, :4].T
    # What reaches the end of the picture makes no ring.
    closed = (left > 0) & (top > 0) & (left + width < crack.shape[1]) & (top + height < crack.shape[0])
    closed &= areas <= _WIDEST**2
    closed[0] = False  # the crack
    holes = _renamed(holes, closed)
    areas, about = areas[closed], about[closed]
    whole = cv2.copyMakeBorder(crack.view(np.uint8), *(_BORDER,) * 4, cv2.BORDER_CONSTANT, value=0)
    inside = whole[_BORDER:-_BORDER, _BORDER:-_BORDER]
    small = areas <= _HOLE
    _fill(inside, holes, small)
    if small.all():
        return whole
    squares = _squared_distances(inside)
    for hole in np.flatnonzero((areas > _HOLE) & (areas <= int(squares.max(initial=0)))).tolist():
        area, reach = int(areas[hole]), int(np.sqrt(areas[hole])) + 2
        x, y, wide, tall = about[hole, :4].tolist()
        window = np.s_[max(0, y - reach) : y + tall + reach, max(0, x - reach) : x + wide + reach]
        enough = squares[window] >= area
        if enough.any():
            away = cv2.distanceTransform((~enough).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            small[hole] = away[holes[window] == hole + 1].min() < np.sqrt(area) + 1
    small &= areas > _HOLE
    _fill(inside, holes, small)
    return whole


def _renamed(labels: NDArray[np.int32], keep: NDArray[np.bool_]) -> NDArray[np.integer]:
    """Give labels that are kept numbers from 1 on, others 0, in as few bytes as that takes."""
    names = (np.cumsum(keep) * keep).astype(np.uint16 if keep.sum() < 2**16 else np.int32)
    renamed = np.empty(labels.shape, names.dtype)
    # Not at once: numpy makes indices of 8 bytes of them.
    for top in range(0, len(labels), _ROWS):
        renamed[top : top + _ROWS] = names[labels[top : top + _ROWS]]
    return renamed


def _fill(crack: NDArray[np.uint8], holes: NDArray[np.integer], which: NDArray[np.bool_]) -> None:
    """Put the holes ``which`` (n,), numbered from 1, to the crack."""
    if which.any():
        names = np.concatenate([[False], which]).view(np.uint8)
        for top in range(0, len(crack), _ROWS):
            crack[top : top + _ROWS] |= names[holes[top : top + _ROWS]]


def _squared_distances(crack: NDArray[np.integer]) -> NDArray[np.uint16]:
    """Measure how far it is, up to _WIDEST, to what is not crack; what lies beyond the picture is unknown."""
    squares = np.zeros(crack.shape, np.uint16)
    furthest = min(float(_WIDEST), max(1.0, max(crack.shape, default=0) / 2))
    for top in range(0, crack.shape[0], _TILE):
        for left in range(0, crack.shape[1], _TILE):
            core = np.s_[top : top + _TILE, left : left + _TILE]
            if crack[core].any():
                above, before = min(top, _WIDEST), min(left, _WIDEST)
                window = crack[top - above : top + _TILE + _WIDEST, left - before : left + _TILE + _WIDEST]
                distance = cv2.distanceTransform((window > 0).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
                distance = np.minimum(distance[above : above + _TILE, before : before + _TILE], furthest)
                squares[core] = np.rint(np.square(distance))
    return squares


def _apart(
    whole: NDArray[np.uint8], crack: NDArray[np.bool_], least_pixels: int
) -> tuple[NDArray[np.integer], list[NDArray[np.int32]], list[tuple[int, int, int, int]]]:
    """Tell cracks apart: labels from 1 in the shape of ``whole``, and runs and box of each."""
    number, every, about, _ = cv2.connectedComponentsWithStats(whole, connectivity=8)
    del whole
    runs = _runs(crack)
    which = every[runs[:, 0] + _BORDER, runs[:, 1] + _BORDER]
    areas = np.bincount(which, runs[:, 2] - runs[:, 1], minlength=number)
    keep = areas >= max(1, least_pixels)
    labels = _renamed(every, keep)
    which = labels[runs[:, 0] + _BORDER, runs[:, 1] + _BORDER]
    order = np.argsort(which, kind="stable")[(which == 0).sum() :]
    ends = np.cumsum(np.bincount(which[order], minlength=1)[1:])
    boxes = about[keep][:, [cv2.CC_STAT_TOP, cv2.CC_STAT_LEFT, cv2.CC_STAT_HEIGHT, cv2.CC_STAT_WIDTH]]
    boxes = boxes - (_BORDER, _BORDER, 0, 0)
    return labels, np.split(runs[order], ends[:-1]) if len(ends) else [], [tuple(box) for box in boxes.tolist()]


def _runs(crack: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Give y, the first x and the x after the last of what hangs together in a row."""
    runs = []
    for top in range(0, len(crack), _TILE):
        rows = np.pad(crack[top : top + _TILE], ((0, 0), (1, 1))).view(np.uint8)
        places = np.flatnonzero(rows.reshape(-1)[1:] != rows.reshape(-1)[:-1])
        y, x = np.divmod(places, rows.shape[1])
        runs.append(np.stack([y[::2] + top, x[::2], x[1::2]], axis=1).astype(np.int32))
    return np.concatenate(runs) if runs else np.zeros((0, 3), np.int32)


def _at_half_the_resolution(
    labels: NDArray[np.integer], label: int, box: tuple[int, int, int, int], runs: NDArray[np.int32]
) -> Crack:
    """Measure what is too wide for thinning, whose time grows with the width."""
    bounds = []
    for start, length, size in zip(box[:2], box[2:], labels.shape, strict=True):
        # Beside the crack there is nothing, beyond the picture it may go on.
        first, last = max(start - 2, 0), min(start + length + 2, size - 2 * _BORDER)
        bounds.append((first, last))
    (top, bottom), (left, right) = bounds
    mine = labels[top + _BORDER : bottom + _BORDER, left + _BORDER : right + _BORDER] == label
    odd = (0, mine.shape[0] % 2, 0, mine.shape[1] % 2)
    mine = cv2.copyMakeBorder(mine.view(np.uint8), *odd, cv2.BORDER_REPLICATE)
    share = mine[::2, ::2] + mine[1::2, ::2] + mine[::2, 1::2] + mine[1::2, 1::2]
    del mine
    pieces = find_cracks(share >= 2, least_pixels=1)
    corner = np.array([top + 0.5, left + 0.5])
    branches = tuple(
        Branch(branch.path * 2 + corner, branch.widths * 2) for piece in pieces for branch in piece.branches
    )
    mean = np.average([piece.mean_width for piece in pieces], weights=[piece.length for piece in pieces]) * 2
    widest = max(pieces, key=lambda piece: piece.max_width)
    y, x = (np.array(widest.widest) * 2 + corner).tolist()
    return Crack(box, _area(runs), branches, float(mean), widest.max_width * 2, (y, x), runs)


def _area(runs: NDArray[np.int32]) -> int:
    return int((runs[:, 2] - runs[:, 1]).sum(dtype=np.int64))


def _lines(
    labels: NDArray[np.integer], squares: NDArray[np.uint16], runs: list[NDArray[np.int32]], wide: NDArray[np.int64]
) -> tuple[Lines, NDArray[np.bool_], NDArray[np.float64], NDArray[np.int64]]:
    """Give the lines of all cracks but those that are too wide, crack by crack.

    Returns
    -------
    Lines
        Pixels of the picture with its border.
    ndarray of bool
        (n, 2): whether a line is free at its first and last point.
    ndarray of float64
        (N,): about how wide the crack is at each point, px.
    ndarray of int64
        (n,): the crack of each line.
    """
    taken, thinned = np.zeros(labels.shape, np.uint8), np.ones(len(runs) + 1, np.uint8)
    thinned[0], thinned[wide] = 0, 0
    for top in range(0, len(labels), _ROWS):
        taken[top : top + _ROWS] = thinned[labels[top : top + _ROWS]]
    places, stride = thin(taken), labels.shape[1]
    del taken
    y, x = np.divmod(places, stride)
    widths = _rough_widths(squares, y - _BORDER, x - _BORDER)
    lines = [line for line in centrelines(places, stride, widths) if len(line.pixels) > 1]
    own = labels.reshape(-1)[places[np.array([line.pixels[0] for line in lines], np.int64)]].astype(np.int64)
    points = [np.stack([y[line.pixels], x[line.pixels]], axis=1).astype(np.float64) for line in lines]
    rough = [widths[line.pixels].astype(np.float64) for line in lines]
    free = [line.free for line in lines]
    # A round spot may be thinned to one pixel.
    spots = np.setdiff1d(np.arange(1, len(runs) + 1), np.concatenate([own, wide]))
    for spot in spots.tolist():
        short, width = _spot(runs[spot - 1])
        points.append(short + _BORDER)
        rough.append(np.full(len(short), width))
        free.append((True, True))
    own = np.concatenate([own, spots])
    order = np.argsort(own, kind="stable").tolist()
    lengths = np.array([len(points[index]) for index in order], np.int64)
    if not order:
        return Lines(np.zeros((0, 2)), lengths), np.zeros((0, 2), np.bool_), np.zeros(0), own
    together = Lines(np.concatenate([points[index] for index in order]), lengths)
    return together, np.array(free)[order], np.concatenate([rough[index] for index in order]), own[order]


def _rough_widths(squares: NDArray[np.uint16], y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[np.float32]:
    """Say, to about half a pixel, how wide cracks are at the pixels of their lines; discs are drawn into ``squares``.

    It is the diameter of the largest disc around a pixel of a line that covers the pixel: near ends and corners the
    distance to the edge is less than half the width.
    """
    found = squares[y, x]
    order = np.argsort(found, kind="stable")
    radii = np.ceil(np.sqrt(found[order].astype(np.float64))).astype(np.int64) - 1
    for row, column, radius, value in zip(
        y[order].tolist(), x[order].tolist(), radii.tolist(), found[order].tolist(), strict=True
    ):
        cv2.circle(squares, (column, row), radius, value, cv2.FILLED)
    widths = 2 * np.sqrt(squares[y, x].astype(np.float32)) - 0.5
    return np.maximum(widths, 1).astype(np.float32)


def _spot(runs: NDArray[np.int32]) -> tuple[NDArray[np.float64], float]:
    """Give a short line, (3, 2), in the direction in which a spot is longest, and its width."""
    lengths = runs[:, 2] - runs[:, 1]
    y = np.repeat(runs[:, 0], lengths)
    x = np.arange(lengths.sum()) + np.repeat(runs[:, 1] - (np.cumsum(lengths) - lengths), lengths)
    centre = np.array([y.mean(), x.mean()])
    variances, directions = np.linalg.eigh(np.cov(np.stack([y, x]), bias=True))
    return centre + np.array([[-0.5], [0.0], [0.5]]) * directions[:, 1], float(np.sqrt(12 * max(variances[0], 0) + 1))


def _measured(
    profiles: Profiles, own: NDArray[np.int64], boxes: list[tuple[int, int, int, int]], runs: list[NDArray[np.int32]]
) -> list[Crack]:
    """Put together what has been measured along the lines of each crack."""
    lines, found = profiles.lines, []
    first = np.flatnonzero(np.diff(own, prepend=0)).tolist()
    for begin, end in zip(first, [*first[1:], len(own)], strict=True):
        crack = int(own[begin]) - 1
        branches = tuple(
            Branch(lines.points[part] - _BORDER, profiles.widths[part])
            for part in (slice(lines.first[line], lines.last[line] + 1) for line in range(begin, end))
        )
        every = slice(lines.first[begin], lines.last[end - 1] + 1)
        counted = profiles.counted[every]
        widths = profiles.widths[every][counted]
        mean = float(np.average(widths, weights=lines.weights[every][counted]))
        widest = np.flatnonzero(widths >= widths.max() - 1e-6)
        y, x = (lines.points[every][counted][widest[len(widest) // 2]] - _BORDER).tolist()
        box, mine = boxes[crack], runs[crack]
        found.append(Crack(box, _area(mine), branches, mean, float(widths.max()), (y, x), mine))
    return found
