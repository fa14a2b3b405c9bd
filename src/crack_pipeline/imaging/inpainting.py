"""Surfaces as they would look without their cracks."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator
from skimage.restoration import inpaint_biharmonic

Method = Literal["median", "telea", "navier_stokes", "biharmonic"]

_TILE = 128
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
        "the smoothest surface (S. B. Damelin and N. S. Hoang, 2018), slow where cracks are wide",
    )
    window: int = Field(31, ge=3, le=255, description="median: side of the surroundings, px, odd")
    radius: float = Field(5.0, gt=0, le=100, description="telea, navier_stokes: how far they look, px")
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
    unknown = _widened(crack, how.margin)
    if unknown.all():
        raise ValueError(
            f"nothing of the photograph is sound, {how.margin} px around its cracks left out: there is nothing to fill "
            "them with"
        )
    if not unknown.any():
        return photograph.copy()
    if how.method == "median":
        return _median(photograph, unknown, how.window)
    if how.method == "biharmonic":
        colours = -1 if photograph.ndim == 3 else None
        filled = inpaint_biharmonic(photograph / 255.0, unknown, split_into_regions=True, channel_axis=colours)
        levels = np.clip(np.rint(255.0 * filled), 0, 255).astype(np.uint8)
    else:
        algorithm = cv2.INPAINT_TELEA if how.method == "telea" else cv2.INPAINT_NS
        levels = cv2.inpaint(photograph, unknown.astype(np.uint8), how.radius, algorithm)
    return np.where(unknown if photograph.ndim == 2 else unknown[..., None], levels, photograph)


def _widened(crack: NDArray[np.bool_], margin: int) -> NDArray[np.bool_]:
    if not margin:
        return crack
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    return cv2.dilate(crack.astype(np.uint8), disc).astype(np.bool_)


def _median(photograph: NDArray[np.uint8], unknown: NDArray[np.bool_], window: int) -> NDArray[np.uint8]:
    """Fill from the edge inwards: what has too little that is sound around it waits for the next round."""
    filled, left = photograph.copy(), unknown.copy()
    reach, least, number = window // 2, window, int(np.count_nonzero(unknown))
    while number:
        # What lies beyond the photograph is unknown, too.
        known = cv2.copyMakeBorder(filled, *(reach,) * 4, cv2.BORDER_CONSTANT, value=0)
        missing = cv2.copyMakeBorder(left.astype(np.uint8), *(reach,) * 4, cv2.BORDER_CONSTANT, value=1)
        height, width = left.shape
        for top in range(0, height, _TILE):
            for side in range(0, width, _TILE):
                core = slice(top, top + _TILE), slice(side, side + _TILE)
                here = left[core].copy()
                if here.any():
                    around = (
                        slice(top, top + here.shape[0] + 2 * reach),
                        slice(side, side + here.shape[1] + 2 * reach),
                    )
                    left[core] &= ~_medians(filled[core], known[around], missing[around], here, window, least)
        before, number = number, int(np.count_nonzero(left))
        if number == before:
            least = 1
    return filled


def _medians(
    filled: NDArray[np.uint8],
    known: NDArray[np.uint8],
    missing: NDArray[np.uint8],
    wanted: NDArray[np.bool_],
    window: int,
    least: int,
) -> NDArray[np.bool_]:
    """Fill, in place, the wanted pixels that have enough sound ones around them, and say which these are.

    Half of the missing pixels are made black and half white: the median of all is then that of the sound ones, and can
    be taken of a whole square at once (S. Perreault and P. Hébert, IEEE Transactions on Image Processing 16(9), 2007).
    Where the halves differ too much in a window, it is taken of its sound pixels alone.
    """
    reach = window // 2
    inner = slice(reach, -reach), slice(reach, -reach)
    places = np.flatnonzero(missing)
    # In turn along each row, which begins with either: then the halves differ little in any window.
    begin = np.random.default_rng(0).integers(2, size=len(missing))[places // missing.shape[1]]
    white = ((np.arange(len(places)) + begin) & 1).astype(np.int16)
    balanced, excess = known.copy(), np.zeros(missing.size, np.int16)
    balanced.reshape(missing.size, -1)[places] = (255 * white).astype(np.uint8)[:, None]
    excess[places] = 2 * white - 1
    surplus = np.abs(_sum_around(excess.reshape(missing.shape), window)[inner])
    sound = _sum_around(1 - missing.astype(np.int16), window)[inner]
    done: NDArray[np.bool_] = wanted & (sound >= least)
    even = done & (surplus <= 2 * _OFF_BY * sound)
    if even.any():
        filled[even] = cv2.medianBlur(balanced, window)[inner][even]
    rows, columns = np.nonzero(done & ~even)
    each = max(1, _AT_ONCE // (window * window * (known.size // missing.size)))
    for start in range(0, len(rows), each):
        part = rows[start : start + each], columns[start : start + each]
        filled[part] = _of_sound_alone(known, missing, part, sound[part], window)
    return done


def _of_sound_alone(
    known: NDArray[np.uint8],
    missing: NDArray[np.uint8],
    places: tuple[NDArray[np.int64], NDArray[np.int64]],
    sound: NDArray[np.int64],
    window: int,
) -> NDArray[np.uint8]:
    """Give the medians of the sound pixels in the windows that begin at some places: (n,) or (n, C)."""
    number = len(sound)
    whole = np.where(missing.astype(np.bool_)[(...,) + (None,) * (known.ndim - 2)], np.uint8(255), known)
    values = sliding_window_view(whole, (window, window), axis=(0, 1))[places].reshape(number, -1, window * window)
    # The missing ones are among the highest, and the middle of the sound ones is where it would be without them.
    middle = np.sort(values, axis=-1)[np.arange(number), :, (sound - 1) // 2]
    return middle.reshape(number, *known.shape[2:])


def _sum_around(values: NDArray[np.int16], window: int) -> NDArray[np.int64]:
    return cv2.boxFilter(values.astype(np.float32), -1, (window, window), normalize=False).astype(np.int64)
