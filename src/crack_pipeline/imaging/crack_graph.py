"""The lines that a thinned crack consists of, between its ends and forks."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_Indices = NDArray[np.int64]


class Line(NamedTuple):
    """Pixels one after another."""

    pixels: NDArray[np.int64]
    """(n,): which of the pixels."""
    free: tuple[bool, bool]
    """Whether the first, and the last, is an end of the crack."""


def centrelines(places: _Indices, stride: int, widths: NDArray[np.float32]) -> list[Line]:
    """Take thinned cracks apart at their forks, without the spurs that a ragged edge grows.

    Parameters
    ----------
    places
        (n,), ascending: where in the flat picture the lines of 1 px are (:func:`.crack_thinning.thin`); none
        is at its border.
    stride
        Width of the picture, px.
    widths
        (n,): how wide the crack is there, px. A line from a fork to a free end that is shorter than that at the fork
        is a spur; where there is nothing else, the two longest stay.

    Returns
    -------
    list of Line
        A crack whose line is one pixel gives a line of one pixel. None is empty.
    """
    lines = _taken_apart(_neighbours(places, stride))
    while True:
        ends = np.array([(line[0], line[-1]) for line in lines], np.int64).reshape(-1, 2)
        meeting = np.bincount(ends.ravel(), minlength=len(places))
        spurs = _spurs(lines, ends, meeting, places, stride, widths)
        if not spurs.any():
            break
        lines = _joined([line for line, spur in zip(lines, spurs.tolist(), strict=True) if not spur])
    lonely = np.array([len(line) == 1 for line in lines], np.bool_)
    free = (meeting[ends] == 1) | lonely[:, None]
    return [
        Line(np.asarray(line, np.int64), (first, last))
        for line, (first, last) in zip(lines, free.tolist(), strict=True)
    ]


def _neighbours(places: _Indices, stride: int) -> NDArray[np.int64]:
    """Give the pixels (n, 8) that a line goes on with, -1 for none: across a corner only if it cannot go around it."""
    found = {}
    for name, step in {"right": 1, "down": stride, "left": -1, "up": -stride}.items():
        found[name] = _find(places, places + step)
    straight = [found["right"], found["down"], found["left"], found["up"]]
    corners = []
    for (first, second), step in {
        (0, 1): stride + 1,
        (1, 2): stride - 1,
        (2, 3): -stride - 1,
        (3, 0): 1 - stride,
    }.items():
        corner = _find(places, places + step)
        corner[(straight[first] >= 0) | (straight[second] >= 0)] = -1
        corners.append(corner)
    return np.stack(straight + corners, axis=1)


def _find(places: _Indices, wanted: _Indices) -> _Indices:
    """Say which of the places is the wanted one, or -1."""
    if not len(places):
        return np.zeros(0, np.int64)
    index = np.minimum(np.searchsorted(places, wanted), len(places) - 1)
    return np.where(places[index] == wanted, index, -1)


def _taken_apart(neighbours: NDArray[np.int64]) -> list[list[int]]:
    """Follow the pixels from fork to fork."""
    number = (neighbours >= 0).sum(axis=1)
    between = number == 2
    # In the middle of a line, the next pixel is the sum of the neighbours less the one that we come from.
    both = np.where(between, np.where(neighbours >= 0, neighbours, 0).sum(axis=1), -1).tolist()
    followed = [False] * len(neighbours)
    lines: list[list[int]] = []

    def follow(first: int, second: int) -> None:
        line = [first, second]
        while both[second] >= 0 and second != line[0]:
            followed[second] = True
            first, second = second, both[second] - first
            line.append(second)
        lines.append(line)

    forks = np.flatnonzero(~between)
    for fork, beside in zip(forks.tolist(), neighbours[forks].tolist(), strict=True):
        if max(beside) < 0:
            lines.append([fork])
        for second in beside:
            # Both ends of a line find it: it is followed from the first.
            if second >= 0 and (not followed[second] if both[second] >= 0 else second > fork):
                follow(fork, second)
    rings = np.flatnonzero(between)
    for pixel, second in zip(rings.tolist(), neighbours[rings].max(axis=1).tolist(), strict=True):
        if not followed[pixel]:
            followed[pixel] = True
            follow(pixel, second)
    return lines


def _spurs(
    lines: list[list[int]],
    ends: NDArray[np.int64],
    meeting: NDArray[np.int64],
    places: _Indices,
    stride: int,
    widths: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Say which lines are spurs; ``meeting`` is how many lines end at a pixel."""
    root = np.where(meeting[ends[:, 0]] >= meeting[ends[:, 1]], ends[:, 0], ends[:, 1])
    down, right = np.diff(places[ends] // stride, axis=1)[:, 0], np.diff(places[ends] % stride, axis=1)[:, 0]
    spurs = (meeting[ends].min(axis=1) == 1) & (meeting[root] > 2) & (np.hypot(down, right) < widths[root])
    # Where all lines of a fork are spurs, the two longest are the crack.
    lost = np.bincount(root[spurs], minlength=len(places)) == meeting
    here: dict[int, list[int]] = {}
    for index in np.flatnonzero(spurs & lost[root]).tolist():
        here.setdefault(int(root[index]), []).append(index)
    for indices in here.values():
        spurs[sorted(indices, key=lambda index: len(lines[index]))[-2:]] = False
    return spurs


def _joined(lines: list[list[int]]) -> list[list[int]]:
    """Join the lines that are left alone with each other at what was a fork."""
    at: dict[int, list[int]] = {}
    for index, line in enumerate(lines):
        at.setdefault(line[0], []).append(index)
        at.setdefault(line[-1], []).append(index)
    whole: dict[int, list[int]] = dict(enumerate(lines))
    for end, indices in at.items():
        if len(indices) != 2 or indices[0] == indices[1]:
            continue
        one, other = indices
        first, second = whole[one], whole.pop(other)
        first = first if first[-1] == end else first[::-1]
        second = second if second[0] == end else second[::-1]
        whole[one] = first + second[1:]
        far = at[second[-1]]
        far[far.index(other)] = one
    return list(whole.values())
