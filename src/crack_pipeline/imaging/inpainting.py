"""Surfaces as they would look without their cracks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

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

_WIDTHS = 16, 32, 64, 128
"""Of the strips that medians are taken in, px: whichever have the least to look at."""
_MARCHED, _EQUATIONS = 512, 128
"""Sides of the squares that are filled at a time, px."""
_OFF_BY = 0.05
"""Share of the sound pixels by which the rank of a median may be off."""
_DEEPEST = 32
"""Depth of a hole, px, from which on no equations are solved."""
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
        if how.method == "biharmonic" and _is_deep(hole):
            levels = fill_texture(np.ascontiguousarray(surface), hole, grain=0.0)
        elif how.method == "biharmonic":
            colours = -1 if photograph.ndim == 3 else None
            values = inpaint_biharmonic(surface / 255.0, hole, split_into_regions=True, channel_axis=colours)
            levels = np.clip(np.rint(255.0 * values), 0, 255).astype(np.uint8)
        else:
            algorithm = cv2.INPAINT_TELEA if how.method == "telea" else cv2.INPAINT_NS
            levels = cv2.inpaint(np.ascontiguousarray(surface), hole.view(np.uint8), how.radius, algorithm)
        inside = unknown[window.core]
        filled[window.core][inside] = levels[window.inner][inside]
    return filled


def _is_deep(hole: NDArray[np.bool_]) -> bool:
    """Say whether equations for all of a hole (H, W) would take minutes."""
    return bool(cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, 3).max() > _DEEPEST)


class _Strip(NamedTuple):
    """A part of a photograph, as wide as others."""

    top: int
    bottom: int
    left: int


def _median(photograph: NDArray[np.uint8], unknown: NDArray[np.bool_], window: int) -> NDArray[np.uint8]:
    """Fill from the edge inwards: what has too little that is sound around it waits for the next round."""
    filled, left = photograph.copy(), unknown.copy()
    reach, least, number = window // 2, window, int(np.count_nonzero(unknown))
    while number:
        # What lies beyond the photograph is unknown, too.
        ends = reach, reach, reach, reach + _WIDTHS[-1]
        known = cv2.copyMakeBorder(filled, *ends, cv2.BORDER_CONSTANT, value=0)
        missing = cv2.copyMakeBorder(left.view(np.uint8), *ends, cv2.BORDER_CONSTANT, value=1)
        width, strips = _strips(left, reach)
        for some in _groups(strips, _AT_ONCE // ((width + 2 * reach) * (known.size // missing.size)), reach):
            # All are looked at as one tall picture, since to call OpenCV for each takes as long again.
            boxes = [np.s_[top : bottom + 2 * reach, side : side + width + 2 * reach] for top, bottom, side in some]
            picture, holes = (np.concatenate([padded[box] for box in boxes]) for padded in (known, missing))
            rows = np.concatenate([np.arange(strip.top - reach, strip.bottom + reach) for strip in some])
            sides = np.repeat([strip.left for strip in some], [strip.bottom - strip.top + 2 * reach for strip in some])
            wanted = np.zeros(holes.shape, np.bool_)
            start = 0
            for top, bottom, side in some:
                inner = left[top:bottom, side : side + width]
                wanted[start + reach : start + reach + bottom - top, reach : reach + inner.shape[1]] = inner
                start += bottom - top + 2 * reach
            at, values = _medians(picture, holes, wanted, window, least)
            places = rows[at[0]], sides[at[0]] + at[1] - reach
            filled[places], left[places] = values, False
        before, number = number, int(np.count_nonzero(left))
        if number == before:
            least = 1
    return filled


def _strips(left: NDArray[np.bool_], reach: int) -> tuple[int, list[_Strip]]:
    """Give the width, px, and the place of strips that hold all that is left and little else."""
    found: list[tuple[int, list[_Strip]]] = []
    for width in _WIDTHS:
        sides = np.arange(0, left.shape[1], width)
        strips = []
        for side, marked in zip(sides.tolist(), np.logical_or.reduceat(left, sides, axis=1).T, strict=True):
            rows = np.flatnonzero(marked)
            # Two whose surroundings overlap are better one.
            runs = np.split(rows, np.flatnonzero(np.diff(rows) > 2 * reach) + 1) if len(rows) else []
            strips += [_Strip(int(run[0]), int(run[-1]) + 1, side) for run in runs]
        found.append((width, strips))
    return min(found, key=lambda some: (some[0] + 2 * reach) * sum(s.bottom - s.top + 2 * reach for s in some[1]))


def _groups(strips: list[_Strip], most: int, reach: int) -> Iterator[list[_Strip]]:
    """Group strips, with no more than some rows in a group of several."""
    group: list[_Strip] = []
    rows = 0
    for strip in strips:
        more = strip.bottom - strip.top + 2 * reach
        if group and rows + more > most:
            yield group
            group, rows = [], 0
        group.append(strip)
        rows += more
    yield group


def _medians(
    known: NDArray[np.uint8],
    missing: NDArray[np.uint8],
    wanted: NDArray[np.bool_],
    window: int,
    least: int,
) -> tuple[tuple[NDArray[np.int64], ...], NDArray[np.uint8]]:
    """Give the medians around the wanted pixels that have enough sound ones around them, and where these are.

    Half of the missing pixels are made black and half white: the median of all is then that of the sound ones, and can
    be taken of the whole picture at once (S. Perreault and P. Hébert, IEEE Transactions on Image Processing 16(9),
    2007). Where the halves differ too much in a window, it is taken of its sound pixels alone.

    Parameters
    ----------
    known
        (H, W) or (H, W, C).
    missing
        (H, W): 1 where it is not known.
    wanted
        (H, W): what is to be filled, nothing of it so near an edge that a window would not fit.
    window
        Side of the surroundings, px.
    least
        Sound pixels that are enough.

    Returns
    -------
    tuple of ndarray
        Rows and columns, (n,).
    ndarray of uint8
        (n,) or (n, C).
    """
    begin = np.random.default_rng(0).integers(2, size=len(missing), dtype=np.uint8)[:, None]
    # In turn along each row, which begins with either: then the halves differ little in any window.
    white = missing & (np.cumsum(missing, axis=1, dtype=np.uint8) ^ begin)
    holes, whites = (
        cv2.boxFilter(one, cv2.CV_16U, (window, window), normalize=False, borderType=cv2.BORDER_CONSTANT)
        for one in (missing, white)
    )
    at = np.nonzero(wanted & (holes <= window**2 - least))
    unknown = holes[at].astype(np.int64)
    enough = window**2 - unknown
    white *= np.uint8(255)
    # Colour by colour, which takes less time than all at once.
    planes = cv2.split(known)
    values = np.empty((len(enough), len(planes)), np.uint8)
    for plane, column in zip(planes, values.T, strict=True):
        column[...] = cv2.medianBlur(cv2.copyTo(white, missing, plane), window)[at]
    uneven = np.flatnonzero(np.abs(2 * whites[at].astype(np.int64) - unknown) > 2 * _OFF_BY * enough)
    each = max(1, _AT_ONCE // (window**2 * len(planes)))
    for start in range(0, len(uneven), each):
        part = uneven[start : start + each]
        values[part] = _of_sound_alone(known, missing, at[0][part], at[1][part], enough[part], window)
    return at, values.reshape(-1, *known.shape[2:])


def _of_sound_alone(
    known: NDArray[np.uint8],
    missing: NDArray[np.uint8],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
    sound: NDArray[np.int64],
    window: int,
) -> NDArray[np.uint8]:
    """Give the medians of the sound pixels in the windows around some pixels: (n, C)."""
    places = rows - window // 2, columns - window // 2
    values, holes = (
        sliding_window_view(picture, (window, window), axis=(0, 1))[places].reshape(len(sound), -1, window**2)
        for picture in (known, missing)
    )
    # The missing ones are among the highest, and the middle of the sound ones is where it would be without them.
    ordered = np.sort(np.where(holes == 1, np.uint8(255), values), axis=-1)
    return np.asarray(ordered[np.arange(len(sound)), :, (sound - 1) // 2])
