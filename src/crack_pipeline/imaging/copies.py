"""Find the place in a set of photographs that a picture looks most like, to tell copies from new pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_SIDE = 32
_LEAST_CONTRAST = 1.0


class Nearest(NamedTuple):
    """Where a picture comes closest to the photographs."""

    row: int
    """Which photograph; -1 if there is none."""
    correlation: float
    """With the place there, from -1 to 1."""


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
    templates = [list(_turned(_shrunk(picture, 32 / size))) for picture in pictures]
    best = [Nearest(-1, -1.0)] * len(pictures)
    for row, photograph in photographs:
        scale = _SIDE / min(photograph.shape[:2]) if whole else _SIDE / size
        small = _shrunk(photograph, scale)
        if min(small.shape) < _SIDE:
            continue
        for number, turns in enumerate(templates):
            for template in turns:
                if template.std() < _LEAST_CONTRAST:
                    continue
                answer = cv2.matchTemplate(small, template, cv2.TM_CCOEFF_NORMED)
                found = float(np.nan_to_num(answer, posinf=0, neginf=0).max())
                if found > best[number].correlation:
                    best[number] = Nearest(row, min(found, 1.0))
    return best


def _shrunk(picture: NDArray[np.uint8], scale: float) -> NDArray[np.float32]:
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)


def _turned(picture: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    for quarter in range(4):
        turned = np.rot90(picture, quarter)
        yield np.ascontiguousarray(turned)
        yield np.ascontiguousarray(turned[:, ::-1])
