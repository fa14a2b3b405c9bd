"""Find the place in a set of photographs that a picture looks most like, to tell copies from new pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_SIDE = 32
_LARGEST = 256
"""Side, px, to which larger places are shrunk before they are compared."""
_LEAST_CONTRAST = 1.0
_AT_ONCE = 2048
_PROMISING = 4
"""Places per picture that are looked at closely."""


class Nearest(NamedTuple):
    """Where a picture comes closest to the photographs."""

    row: int
    """Which photograph; -1 if there is none."""
    correlation: float
    """With the place there, from -1 to 1."""
    corner: tuple[int, int] = (0, 0)
    """Upper and left side of the place, px of the photograph."""
    side: int = 0
    """Of the place, px of the photograph."""


class _Promising(NamedTuple):
    """A place that resembles a picture at half the resolution, and what lies around it."""

    correlation: float
    row: int
    around: NDArray[np.float32]
    corner: tuple[int, int]
    """Of what lies around it, px of the photograph as it is compared."""
    scale: float
    """Px there per px of the photograph."""


def find_nearest(
    pictures: NDArray[np.uint8], photographs: Iterable[tuple[int, NDArray[np.uint8]]], *, whole: bool = False
) -> list[Nearest]:
    """Look for every picture in all photographs, at any place and in the eight ways in which it can lie.

    Pictures are compared shrunk to 32 px, without regard to brightness and contrast: what is left is where dark and
    light lie. Grain does not hide a copy, and does not make one. The places that resemble a picture most when both are
    shrunk to 16 px are then compared at every offset, since a grain that is cut through looks like another.

    Parameters
    ----------
    pictures
        (n, S, S) or (n, S, S, 3).
    photographs
        Row and pixels, (H, W) or (H, W, 3), of each; read once.
    whole
        Whether pictures were made of whole photographs, shrunk, instead of places in them at their own scale.

    Returns
    -------
    list of Nearest
        One a picture.
    """
    size = pictures.shape[1]
    side = min(size, _LARGEST)
    turned = np.stack([turn for picture in pictures for turn in _turned(_resized(_grey(picture), _SIDE, _SIDE))])
    exact = _standardised(turned.reshape(len(turned), -1)).reshape(len(pictures), -1, _SIDE**2)
    rough = _standardised(_halved(turned)[:, ::2, ::2].reshape(len(turned), -1))
    uneven = np.flatnonzero(exact.any(axis=(1, 2)))
    promising: list[list[_Promising]] = [[] for _ in pictures]
    for row, photograph in photographs:
        scale = side / (min(photograph.shape[:2]) if whole else size)
        fine = _grey(photograph)
        if scale != 1:
            fine = _resized(fine, *(max(1, round(length * scale)) for length in fine.shape))
        small = _resized(fine, *(max(1, round(length * _SIDE / side)) for length in fine.shape))
        if min(small.shape) < _SIDE or min(fine.shape) < side:
            continue
        across = small.shape[1] - _SIDE + 1
        for start, places in _places(small):
            answers = (rough @ places.T).reshape(len(pictures), -1, len(places)).max(axis=1)
            which = answers.argmax(axis=1)
            for number in uneven.tolist():
                found, kept = float(answers[number, which[number]]), promising[number]
                if len(kept) == _PROMISING and found <= kept[-1].correlation:
                    continue
                corner = (np.array(divmod(start + int(which[number]), across)) * side / _SIDE).round().astype(int)
                kept.append(_Promising(found, row, *_around(fine, corner, side), scale))
                kept.sort(key=lambda place: -place.correlation)
                del kept[_PROMISING:]
    return [
        max(
            (_closely(place, templates, side) for place in places),
            key=lambda nearest: nearest.correlation,
            default=Nearest(-1, -1.0),
        )
        for places, templates in zip(promising, exact, strict=True)
    ]


def _around(
    fine: NDArray[np.float32], corner: NDArray[np.int64], side: int
) -> tuple[NDArray[np.float32], tuple[int, int]]:
    """Cut a place with as much around it as it may be off by, and give its corner."""
    margin = math.ceil(side / _SIDE)
    top, left = np.clip(corner - margin, 0, np.array(fine.shape) - side).tolist()
    return fine[top : corner[0] + side + margin, left : corner[1] + side + margin].copy(), (top, left)


def _closely(place: _Promising, templates: NDArray[np.float32], side: int) -> Nearest:
    """Compare a picture, lying in each way, (8, 1024), with squares at every offset."""
    offsets = list(np.ndindex(place.around.shape[0] - side + 1, place.around.shape[1] - side + 1))
    squares = [_resized(place.around[y : y + side, x : x + side], _SIDE, _SIDE) for y, x in offsets]
    answers = (_standardised(np.stack(squares).reshape(len(squares), -1)) @ templates.T).max(axis=1)
    at = int(answers.argmax())
    top, left = (round((start + offset) / place.scale) for start, offset in zip(place.corner, offsets[at], strict=True))
    return Nearest(place.row, min(float(answers[at]), 1.0), (top, left), round(side / place.scale))


def _places(small: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Give the squares at all places, row by row, some at a time: number of the first, and (k, 256)."""
    windows = sliding_window_view(_halved(small[None])[0], (_SIDE - 1, _SIDE - 1))[:, :, ::2, ::2]
    across = windows.shape[1]
    rows = max(1, _AT_ONCE // across)
    for top in range(0, len(windows), rows):
        yield top * across, _standardised(windows[top : top + rows].reshape(-1, (_SIDE // 2) ** 2))


def _halved(pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the means of 2 x 2 px at every place, (n, H - 1, W - 1)."""
    across = pictures[:, :, :-1] + pictures[:, :, 1:]
    return np.asarray((across[:, :-1] + across[:, 1:]) / 4, np.float32)


def _standardised(squares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give every row mean 0 and length 1; an even one becomes 0."""
    squares = squares - squares.mean(axis=1, keepdims=True)
    length = np.linalg.norm(squares, axis=1, keepdims=True)
    even = length < _LEAST_CONTRAST * math.sqrt(squares.shape[1])
    return np.asarray(np.where(even, 0, squares / np.maximum(length, 1e-9)), np.float32)


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    return np.asarray(grey, np.float32)


def _resized(picture: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def _turned(picture: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for quarter in range(4):
        turned = np.rot90(picture, quarter)
        yield np.ascontiguousarray(turned)
        yield np.ascontiguousarray(turned[:, ::-1])
