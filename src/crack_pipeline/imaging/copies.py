"""Find the place in a set of photographs that a picture looks most like, to tell copies from new pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_SIDE = 32
_LEAST_CONTRAST = 1.0
_AT_ONCE = 2048


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


def find_nearest(
    pictures: NDArray[np.uint8], photographs: Iterable[tuple[int, NDArray[np.uint8]]], *, whole: bool = False
) -> list[Nearest]:
    """Look for every picture in all photographs, at any place and in the eight ways in which it can lie.

    Pictures are compared shrunk to 32 px, without regard to brightness and contrast: what is left is where dark and
    light lie. Grain does not hide a copy, and does not make one.

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
    turned = np.stack([turn for picture in pictures for turn in _turned(_shrunk(picture, _SIDE / size))])
    templates = _standardised(turned.reshape(len(turned), -1))
    uneven = templates.any(axis=1).reshape(len(pictures), -1).any(axis=1)
    best = [Nearest(-1, -1.0)] * len(pictures)
    for row, photograph in photographs:
        scale = _SIDE / min(photograph.shape[:2]) if whole else _SIDE / size
        small = _shrunk(photograph, scale)
        if min(small.shape) < _SIDE:
            continue
        across = small.shape[1] - _SIDE + 1
        for start, places in _places(small):
            answers = (templates @ places.T).reshape(len(pictures), -1, len(places)).max(axis=1)
            which = answers.argmax(axis=1)
            for number in np.flatnonzero(uneven):
                found = float(answers[number, which[number]])
                if found > best[number].correlation:
                    y, x = divmod(start + int(which[number]), across)
                    corner = (round(y / scale), round(x / scale))
                    best[number] = Nearest(row, min(found, 1.0), corner, round(_SIDE / scale))
    return best


def _places(small: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Give the squares at all places, row by row, some at a time: number of the first, and (k, 1024)."""
    windows = sliding_window_view(small, (_SIDE, _SIDE))
    across = windows.shape[1]
    rows = max(1, _AT_ONCE // across)
    for top in range(0, len(windows), rows):
        yield top * across, _standardised(windows[top : top + rows].reshape(-1, _SIDE * _SIDE))


def _standardised(squares: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give every row mean 0 and length 1; an even one becomes 0."""
    squares = squares - squares.mean(axis=1, keepdims=True)
    length = np.linalg.norm(squares, axis=1, keepdims=True)
    even = length < _LEAST_CONTRAST * _SIDE
    return np.asarray(np.where(even, 0, squares / np.maximum(length, 1e-9)), np.float32)


def _shrunk(picture: NDArray[np.uint8], scale: float) -> NDArray[np.float32]:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)


def _turned(picture: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for quarter in range(4):
        turned = np.rot90(picture, quarter)
        yield np.ascontiguousarray(turned)
        yield np.ascontiguousarray(turned[:, ::-1])
