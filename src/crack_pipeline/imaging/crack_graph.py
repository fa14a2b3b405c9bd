"""The lines that a thinned crack consists of, between its ends and forks."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_AROUND = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1))

_Pixel = tuple[int, int]


class Line(NamedTuple):
    """Pixels one after another."""

    pixels: NDArray[np.int64]
    """(n, 2): y and x."""
    free: tuple[bool, bool]
    """Whether the first, and the last, is an end of the crack."""


def centrelines(line: NDArray[np.bool_], widths: NDArray[np.float32]) -> list[Line]:
    """Take a thinned crack apart at its forks, without the spurs that a ragged edge grows.

    Parameters
    ----------
    line
        (H, W), 1 px wide (:func:`crack_pipeline.imaging.crack_width.centreline`).
    widths
        (H, W): how wide the crack is there, px. A line from a fork to a free end that is shorter than that at the fork
        is a spur; where there is nothing else, the two longest stay.

    Returns
    -------
    list of Line
        None is empty.
    """
    lines = _taken_apart(line)
    while True:
        ends = Counter(end for pixels in lines for end in _ends(pixels))
        spurs = [pixels for pixels in lines if _is_spur(pixels, ends, widths)]
        keep = {id(pixels) for pixels in lines} - {id(pixels) for pixels in spurs}
        for fork in {_root(pixels, ends) for pixels in spurs}:
            here = [pixels for pixels in lines if fork in _ends(pixels)]
            if not any(id(pixels) in keep for pixels in here):
                keep |= {id(pixels) for pixels in sorted(here, key=len)[-2:]}
        kept = [pixels for pixels in lines if id(pixels) in keep]
        if len(kept) == len(lines):
            break
        lines = _joined(kept)
    return [Line(np.array(pixels, np.int64), _free(pixels, ends)) for pixels in lines]


def _taken_apart(line: NDArray[np.bool_]) -> list[list[_Pixel]]:
    """Follow the pixels from fork to fork."""
    pixels = {(int(y), int(x)) for y, x in np.argwhere(line)}
    beside = {pixel: _beside(pixel, pixels) for pixel in pixels}
    nodes = [pixel for pixel in sorted(pixels) if len(beside[pixel]) != 2]
    lines: list[list[_Pixel]] = []
    used: set[tuple[_Pixel, _Pixel]] = set()
    followed: set[_Pixel] = set()

    def follow(first: _Pixel, second: _Pixel) -> None:
        path = [first, second]
        while len(beside[path[-1]]) == 2 and path[-1] != first:
            onwards, other = beside[path[-1]]
            path.append(onwards if onwards != path[-2] else other)
        used.update([(path[0], path[1]), (path[-1], path[-2])])
        followed.update(path)
        lines.append(path)

    for node in nodes:
        followed.add(node)
        if not beside[node]:
            lines.append([node])
        for neighbour in beside[node]:
            if (node, neighbour) not in used:
                follow(node, neighbour)
    for pixel in sorted(pixels):  # rings
        if pixel not in followed:
            follow(pixel, beside[pixel][0])
    return lines


def _beside(pixel: _Pixel, pixels: set[_Pixel]) -> list[_Pixel]:
    """Give the pixels that a line goes on with: across a corner only where it cannot go around it."""
    y, x = pixel
    return [
        (y + down, x + right)
        for down, right in _AROUND
        if (y + down, x + right) in pixels
        and not (down and right and ((y + down, x) in pixels or (y, x + right) in pixels))
    ]


def _ends(pixels: list[_Pixel]) -> tuple[_Pixel, ...]:
    return pixels[0], pixels[-1]


def _free(pixels: list[_Pixel], ends: Counter[_Pixel]) -> tuple[bool, bool]:
    if len(pixels) == 1:
        return True, True
    return ends[pixels[0]] == 1, ends[pixels[-1]] == 1


def _root(pixels: list[_Pixel], ends: Counter[_Pixel]) -> _Pixel:
    return max(_ends(pixels), key=lambda end: ends[end])


def _is_spur(pixels: list[_Pixel], ends: Counter[_Pixel], widths: NDArray[np.float32]) -> bool:
    free = min(ends[end] for end in _ends(pixels)) == 1
    root = _root(pixels, ends)
    length = float(np.hypot(*np.subtract(pixels[0], pixels[-1])))
    return free and ends[root] > 2 and length < float(widths[root])


def _joined(lines: list[list[_Pixel]]) -> list[list[_Pixel]]:
    """Join the lines that are left alone with each other at what was a fork."""
    lines = list(lines)
    while True:
        at: dict[_Pixel, list[list[_Pixel]]] = {}
        for pixels in lines:
            for end in _ends(pixels):
                at.setdefault(end, []).append(pixels)
        for end, (one, *others) in at.items():
            if len(others) == 1 and others[0] is not one:
                other = others[0]
                first = one if one[-1] == end else one[::-1]
                second = other if other[0] == end else other[::-1]
                lines = [pixels for pixels in lines if pixels is not one and pixels is not other]
                lines.append(first + second[1:])
                break
        else:
            return lines
