"""Cracks as things that have a length, a width and a direction."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from crack_pipeline.imaging.crack_graph import Line, centrelines
from crack_pipeline.imaging.crack_width import centreline, crack_widths

_SMOOTH, _SMOOTHER = 1.5, 0.15
"""Deviation, in px and in widths of the crack, of what smooths a centreline: its steps are those of the pixels."""
_STEP = 0.25
"""Between places that are looked at, px."""
_BACK = 8
"""Pixels of a line that give its direction at an end."""
_BENT = 0.75
"""Widths from the end of a crack within which its line bends into a corner."""
_HOLE = 4
"""Pixels of a hole that is always filled."""
_BESIDE, _EDGE = 1.0, 0.5
"""How many widths a crack is looked for on each side of its line; what of a pixel its edge covers."""


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
    """

    box: tuple[int, int, int, int]
    area: int
    branches: tuple[Branch, ...]
    mean_width: float
    max_width: float

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

    Examples
    --------
    >>> wall = np.zeros((40, 120), bool)
    >>> wall[18:23, 10:110] = True
    >>> (found,) = find_cracks(wall)
    >>> round(found.length), round(found.mean_width, 1), round(found.orientation)
    (100, 5.0, 0)
    """
    whole, widths = _without_holes(crack)
    line = centreline(whole)
    labels, number = ndimage.label(whole, np.ones((3, 3), int))
    areas = np.bincount(labels[crack], minlength=number + 1)
    cracks = []
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        if areas[label] < least_pixels:
            continue
        mine = labels[where] == label
        box = (where[0].start, where[1].start, *mine.shape)
        lines = centrelines(line[where] & mine, widths[where]) or [_spot(mine)]
        cracks.append(_measure(mine, lines, widths[where], box, int(areas[label])))
    return sorted(cracks, key=lambda found: -found.length)


def _without_holes(crack: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Fill holes narrower than half of the crack around them, which make rings of its line; and say how wide it is."""
    widths = _width_map(crack)
    holes, number = ndimage.label(~crack)
    if number < 2:
        return crack, widths
    areas = np.bincount(holes.ravel(), minlength=number + 1)
    around = cv2.dilate(widths, np.ones((3, 3), np.uint8))
    highest = ndimage.maximum(around, holes, np.arange(number + 1))
    small = areas <= np.maximum(np.square(highest / 2), _HOLE)
    small[0] = False
    if not small.any():
        return crack, widths
    whole = crack | small[holes]
    return whole, _width_map(whole)


def _width_map(crack: NDArray[np.bool_]) -> NDArray[np.float32]:
    widths = np.zeros(crack.shape, np.float32)
    if crack.any():
        widths[crack] = crack_widths(crack)
    return widths


def _measure(
    crack: NDArray[np.bool_],
    lines: Iterable[Line],
    widths: NDArray[np.float32],
    box: tuple[int, int, int, int],
    area: int,
) -> Crack:
    # A border, so that what is looked at beside a crack is there.
    border = int(np.ceil(widths[crack].max())) + 4
    soft = cv2.copyMakeBorder(crack.astype(np.float32), *(border,) * 4, cv2.BORDER_CONSTANT, value=0)
    branches, counted, weights = [], [], []
    for line in lines:
        local = float(widths[tuple(line.pixels.T)].mean())
        path = _trimmed(line, widths).astype(np.float64) + border
        path = _smoothed(path, _SMOOTH + _SMOOTHER * local) if len(path) > 1 else _axis(crack, path[0])
        path = _to_the_ends(path, line.free, soft)
        # A single ragged pixel says nothing of the width.
        across = ndimage.median_filter(_across(path, soft, local), size=1 + 2 * int(local / 2), mode="nearest")
        inner, along = _inner(path, line.free, local)
        branches.append(Branch(path - border + np.array(box[:2], np.float64), across))
        counted.append(across[inner])
        weights.append(along[inner])
    every = np.concatenate(counted)
    mean = float(np.average(every, weights=np.concatenate(weights)))
    return Crack(box, area, tuple(branches), mean, float(every.max()))


def _trimmed(line: Line, widths: NDArray[np.float32]) -> NDArray[np.int64]:
    """Leave out where a line bends into a corner of the crack's end."""
    local = widths[tuple(line.pixels.T)]
    cuts = [_near(ends) if free else 0 for ends, free in zip((local, local[::-1]), line.free, strict=True)]
    left = len(line.pixels) - sum(cuts)
    return line.pixels[cuts[0] : len(line.pixels) - cuts[1]] if left > max(2, *cuts) else line.pixels


def _near(widths: NDArray[np.float32]) -> int:
    """Count the pixels of a line that are nearer to its end than three quarters of the width there."""
    near = np.flatnonzero(np.arange(len(widths)) < _BENT * widths)
    return int(near[-1]) + 1 if len(near) else 0


def _smoothed(path: NDArray[np.float64], deviation: float) -> NDArray[np.float64]:
    """Smooth a line of pixels, (n, 2), whose ends stay where they are."""
    if len(path) < 3:
        return path
    # Turned about its ends a line goes on as it is.
    number = min(len(path) - 1, int(np.ceil(3 * deviation)))
    before, after = 2 * path[0] - path[number:0:-1], 2 * path[-1] - path[-2 : -number - 2 : -1]
    longer = np.concatenate([before, path, after])
    smooth = ndimage.gaussian_filter1d(longer, min(deviation, number / 3), axis=0, mode="nearest")
    return np.asarray(smooth[number : number + len(path)])


def _spot(crack: NDArray[np.bool_]) -> Line:
    """Give the middle of a crack that thinning has left nothing of."""
    inside = cv2.distanceTransform(np.pad(crack, 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return Line(np.array([np.unravel_index(inside.argmax(), crack.shape)]), (True, True))


def _axis(crack: NDArray[np.bool_], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give a short line in the direction in which a spot is longest."""
    places = np.argwhere(crack)
    towards = np.linalg.svd(places - places.mean(axis=0), full_matrices=False)[2][0]
    return centre + np.array([[-0.5], [0.0], [0.5]]) * towards


def _to_the_ends(path: NDArray[np.float64], free: tuple[bool, bool], soft: NDArray[np.float32]) -> NDArray[np.float64]:
    """Lengthen a line straight on to where the crack ends: thinning stops about half a width before."""
    for first, wanted in ((True, free[0]), (False, free[1])):
        if not wanted:
            continue
        ordered = path if first else path[::-1]
        back = ordered[min(len(ordered) - 1, _BACK)]
        towards = ordered[0] - back
        length = float(np.hypot(*towards))
        if not length:
            continue
        steps = np.arange(0, max(soft.shape), _STEP)[:, None] * (towards / length) + ordered[0]
        outside = np.flatnonzero(_sample(soft, steps) < _EDGE)
        if not len(outside) or not outside[0]:
            continue
        end = steps[outside[0] - 1]
        added = np.linspace(end, ordered[0], max(2, int(np.hypot(*(end - ordered[0]))) + 1))[:-1]
        ordered = np.concatenate([added, ordered])
        path = ordered if first else ordered[::-1]
    return path


def _across(path: NDArray[np.float64], soft: NDArray[np.float32], local: float) -> NDArray[np.float64]:
    """Measure at right angles to a line how far the crack reaches on both sides of it, px."""
    if len(path) < 2:
        return np.full(len(path), local)
    number = max(1, round(local / 4))
    ahead, behind = (
        np.minimum(np.arange(len(path)) + number, len(path) - 1),
        np.maximum(np.arange(len(path)) - number, 0),
    )
    along = path[ahead] - path[behind]
    normal = along[:, ::-1] * (-1.0, 1.0) / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    reach = np.arange(0, _BESIDE * local + 2, _STEP)
    total = np.zeros(len(path))
    for side in (-1, 1):
        seen = _sample(soft, path[:, None] + side * reach[None, :, None] * normal[:, None])
        # Not further than the first pixel beside the crack: beyond it may be another branch.
        inside = np.logical_and.accumulate(seen > 0, axis=1)
        total += (seen * inside).sum(axis=1) * _STEP - seen[:, 0] * _STEP / 2
    return total


def _inner(
    path: NDArray[np.float64], free: tuple[bool, bool], local: float
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Say which points lie half a width from the ends of the crack, and how much of the line each stands for."""
    steps = np.hypot(*np.diff(path, axis=0).T) if len(path) > 1 else np.ones(0)
    place = np.concatenate([[0.0], np.cumsum(steps)])
    weights = np.convolve(np.concatenate([[0.0], steps, [0.0]]), [0.5, 0.5], mode="valid") if len(steps) else np.ones(1)
    inner = np.ones(len(path), np.bool_)
    if free[0]:
        inner &= place >= local / 2
    if free[1]:
        inner &= place <= place[-1] - local / 2
    if not inner.any():
        inner[len(path) // 2] = True
    return inner, np.maximum(weights, 1e-9)


def _sample(soft: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Read a picture between its pixels: places (..., 2) as y and x."""
    return np.asarray(ndimage.map_coordinates(soft, np.moveaxis(places, -1, 0), order=1, mode="constant"), np.float64)
