"""Surfaces as they would look without their cracks."""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator
from skimage.restoration import inpaint_biharmonic

from crack_pipeline.imaging.hole_windows import hole_windows
from crack_pipeline.imaging.texture_filling import fill_texture

Method = Literal["median", "telea", "navier_stokes", "biharmonic", "texture"]
METHODS: tuple[Method, ...] = get_args(Method)

_TILES = 32, 64, 128
"""Sides of the squares that medians are taken in at a time, px: whichever have the least to look at."""
_MARCHED, _EQUATIONS = 512, 128
"""Sides of the squares that are filled at a time, px."""
_OFF_BY = 0.05
"""Share of the sound pixels by which the rank of a median may be off."""
_AT_ONCE = 2**24


class Inpainting(BaseModel):
    """How a crack is filled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: Method = Field(
        "median",
        description="median: of the sound pixels around, as published; telea: marching inwards (A. Telea, Journal of "
        "Graphics Tools 9(1), 2004); navier_stokes: as a fluid flows (M. Bertalmio and others, CVPR 2001); biharmonic: "
        "the smoothest surface (S. B. Damelin and N. S. Hoang, 2018), slow where cracks are wide; texture: a smooth "
        "surface, and on it the grain of the concrete around",
    )
    window: int = Field(31, ge=3, le=255, description="median: side of the surroundings, px, odd")
    radius: float = Field(5.0, gt=0, le=100, description="telea, navier_stokes: how far they look, px")
    grain: float = Field(
        1.0, ge=0, le=2, description="texture: contrast of the grain; 1 as around, 0 for the smooth surface alone"
    )
    seed: int = Field(0, ge=0, description="texture: of the choice of the places that the grain is taken from")
    margin: int = Field(
        2, ge=0, le=50, description="px by which a crack is widened first, since its blurred edge is not sound"
    )

    @field_validator("window")
    @classmethod
    def _has_a_centre(cls, window: int) -> int:
        if window % 2 == 0:
            raise ValueError(f"window is {window}, and must be odd")
        return window


def inpaint(photograph: NDArray[np.uint8], crack: NDArray[np.bool_], how: Inpainting) -> NDArray[np.uint8]:
    """Fill the cracks of a photograph with what is around them.

    Parameters
    ----------
    photograph
        (H, W) or (H, W, 3).
    crack
        (H, W): where the cracks are.
    how
        The method.

    Returns
    -------
    ndarray of uint8
        Of the shape of the photograph; what is further than ``how.margin`` from a crack is as it was.

    Raises
    ------
    ValueError
        If the shapes do not belong together, or no pixel is sound.

    Examples
    --------
    >>> wall, crack = np.full((9, 9), 200, np.uint8), np.eye(9, dtype=bool)
    >>> bool((inpaint(np.where(crack, 30, wall).astype(np.uint8), crack, Inpainting(margin=0)) == wall).all())
    True
    """
    if crack.dtype != np.bool_ or photograph.dtype != np.uint8 or photograph.shape[:2] != crack.shape:
        raise ValueError(
            f"a photograph (H, W[, 3]) of uint8 and its cracks (H, W) of bool are needed, got {photograph.dtype} "
            f"{photograph.shape} and {crack.dtype} {crack.shape}"
        )
    unknown = widen(crack, how.margin)
    if unknown.all():
        raise ValueError(
            f"nothing of the photograph is sound, {how.margin} px around its cracks left out: there is nothing to fill "
            "them with"
        )
    if not unknown.any():
        return photograph.copy()
    if how.method == "median":
        return _median(photograph, unknown, how.window)
    if how.method == "texture":
        return fill_texture(photograph, unknown, grain=how.grain, seed=how.seed)
    return _in_windows(photograph, unknown, how)


def widen(crack: NDArray[np.bool_], margin: int) -> NDArray[np.bool_]:
    """Add what lies within a margin, in px, to cracks (H, W)."""
    if not margin:
        return crack
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    return cv2.dilate(crack.astype(np.uint8), disc).astype(np.bool_)


def _in_windows(photograph: NDArray[np.uint8], unknown: NDArray[np.bool_], how: Inpainting) -> NDArray[np.uint8]:
    """Fill window by window: none of these methods looks further than across a hole."""
    filled = photograph.copy()
    size = _EQUATIONS if how.method == "biharmonic" else _MARCHED
    for window in hole_windows(unknown, size=size, least=16 + round(how.radius), depths=2.0):
        surface, hole = photograph[window.around], unknown[window.around]
        if how.method == "biharmonic":
            colours = -1 if photograph.ndim == 3 else None
            values = inpaint_biharmonic(surface / 255.0, hole, split_into_regions=True, channel_axis=colours)
            levels = np.clip(np.rint(255.0 * values), 0, 255).astype(np.uint8)
        else:
            algorithm = cv2.INPAINT_TELEA if how.method == "telea" else cv2.INPAINT_NS
            levels = cv2.inpaint(np.ascontiguousarray(surface), hole.view(np.uint8), how.radius, algorithm)
        inside = unknown[window.core]
        filled[window.core][inside] = levels[window.inner][inside]
    return filled


def _median(photograph: NDArray[np.uint8], unknown: NDArray[np.bool_], window: int) -> NDArray[np.uint8]:
    """Fill from the edge inwards: what has too little that is sound around it waits for the next round."""
    filled, left = photograph.copy(), unknown.copy()
    reach, least, number = window // 2, window, int(np.count_nonzero(unknown))
    while number:
        # What lies beyond the photograph is unknown, too.
        ends = reach, reach + _TILES[-1], reach, reach + _TILES[-1]
        known = cv2.copyMakeBorder(filled, *ends, cv2.BORDER_CONSTANT, value=0)
        missing = cv2.copyMakeBorder(left.view(np.uint8), *ends, cv2.BORDER_CONSTANT, value=1)
        side, all_corners = _squares(left, reach)
        each = max(1, _AT_ONCE // ((side + 2 * reach) ** 2 * (known.size // missing.size)))
        for start in range(0, len(all_corners), each):
            corners = all_corners[start : start + each]
            surfaces, holes = (_cut(padded, corners, side + 2 * reach) for padded in (known, missing))
            inside = (np.array(left.shape) - corners)[..., None] > np.arange(side)
            wanted = holes[:, reach:-reach, reach:-reach].view(np.bool_) & inside[:, 0, :, None] & inside[:, 1, None, :]
            (square, row, column), values = _medians(surfaces, holes, wanted, window, least)
            at = corners[square, 0] + row, corners[square, 1] + column
            filled[at], left[at] = values, False
        before, number = number, int(np.count_nonzero(left))
        if number == before:
            least = 1
    return filled


def _squares(left: NDArray[np.bool_], reach: int) -> tuple[int, NDArray[np.int64]]:
    """Give the side and the upper left corners, (n, 2), of squares that hold all that is left."""
    found = []
    for side in _TILES:
        height, width = (-(-length // side) for length in left.shape)
        marked = np.zeros((height * side, width * side), np.bool_)
        marked[: left.shape[0], : left.shape[1]] = left
        found.append((side, side * np.argwhere(marked.reshape(height, side, width, side).any(axis=(1, 3)))))
    return min(found, key=lambda squares: len(squares[1]) * (squares[0] + 2 * reach) ** 2)


def _cut(picture: NDArray[np.uint8], corners: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    squares = np.empty((len(corners), size, size, *picture.shape[2:]), np.uint8)
    for square, (y, x) in zip(squares, corners.tolist(), strict=True):
        square[...] = picture[y : y + size, x : x + size]
    return squares


def _medians(
    known: NDArray[np.uint8],
    missing: NDArray[np.uint8],
    wanted: NDArray[np.bool_],
    window: int,
    least: int,
) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.uint8]]:
    """Give the medians around the wanted pixels that have enough sound ones around them, and where these are.

    Half of the missing pixels are made black and half white: the median of all is then that of the sound ones, and can
    be taken of whole squares at once (S. Perreault and P. Hébert, IEEE Transactions on Image Processing 16(9), 2007).
    Where the halves differ too much in a window, it is taken of its sound pixels alone.

    Parameters
    ----------
    known
        (n, S, S) or (n, S, S, C): squares.
    missing
        (n, S, S): 1 where they are not known.
    wanted
        (n, S - window + 1, S - window + 1): what is to be filled in their middles.
    window
        Side of the surroundings, px.
    least
        Sound pixels that are enough.

    Returns
    -------
    tuple of ndarray
        Square, row and column in its middle of each, (m,).
    ndarray of uint8
        (m,) or (m, C).
    """
    number, size = missing.shape[:2]
    # One tall grey picture: to call OpenCV for each square, and for colours at once, takes up to twice as long.
    tall = number * size, size
    places = np.flatnonzero(missing)
    # In turn along each row, which begins with either: then the halves differ little in any window.
    begin = np.random.default_rng(0).integers(2, size=tall[0])[places // size]
    white = (np.arange(len(places)) + begin) & 1
    signs = np.zeros((missing.size, 2), np.float32)
    signs[:, 0] = 1
    signs[places] = np.stack([np.zeros(len(places)), 2 * white - 1], axis=1)
    sums = cv2.boxFilter(signs.reshape(*tall, 2), -1, (window, window), normalize=False)
    reach = window // 2
    middle = slice(None), slice(reach, size - reach), slice(reach, size - reach)
    sound, surplus = np.moveaxis(np.rint(sums).astype(np.int64).reshape(number, size, size, 2)[middle], -1, 0)
    at = np.nonzero(wanted & (sound >= least))
    enough = sound[at]
    colours = known.reshape(missing.size, -1)
    values = np.empty((len(enough), colours.shape[1]), np.uint8)
    for colour, column in zip(colours.T, values.T, strict=True):
        balanced = colour.copy()
        balanced[places] = 255 * white
        column[...] = cv2.medianBlur(balanced.reshape(tall), window).reshape(missing.shape)[middle][at]
    uneven = np.flatnonzero(np.abs(surplus[at]) > 2 * _OFF_BY * enough)
    each = max(1, _AT_ONCE // (window**2 * colours.shape[1]))
    for start in range(0, len(uneven), each):
        part = uneven[start : start + each]
        values[part] = _of_sound_alone(known, missing, tuple(axis[part] for axis in at), enough[part], window)
    return at, values.reshape(-1, *known.shape[3:])


def _of_sound_alone(
    known: NDArray[np.uint8],
    missing: NDArray[np.uint8],
    places: tuple[NDArray[np.int64], ...],
    sound: NDArray[np.int64],
    window: int,
) -> NDArray[np.uint8]:
    """Give the medians of the sound pixels in the windows that begin at some places of squares: (m, C)."""
    number = len(sound)
    whole = np.where(missing.astype(np.bool_)[(...,) + (None,) * (known.ndim - 3)], np.uint8(255), known)
    values = sliding_window_view(whole, (window, window), axis=(1, 2))[places].reshape(number, -1, window * window)
    # The missing ones are among the highest, and the middle of the sound ones is where it would be without them.
    levels: NDArray[np.uint8] = np.sort(values, axis=-1)[np.arange(number), :, (sound - 1) // 2]
    return levels
