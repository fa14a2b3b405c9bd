"""Shapes drawn with sub-pixel precision.

A pixel is a square of side 1 whose centre lies at whole coordinates: the pixel in row 2 and column 5 covers
1.5 to 2.5 vertically and 4.5 to 5.5 horizontally. Points are (x, y).
"""

from __future__ import annotations

import math
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Points = NDArray[np.float64]
Image = TypeVar("Image", NDArray[np.uint8], NDArray[np.float32])
"""A picture: uint8 from 0 to 255 or float32 from 0 to 1; grey (H, W) or RGB (H, W, 3)."""

OVERSAMPLING = 4
"""Sub-pixels per pixel and direction: coverage comes in steps of 1/16."""


def to_subpixels(points: Points) -> NDArray[np.int32]:
    """Convert pixel coordinates to the fixed-point sub-pixel coordinates that OpenCV draws with.

    Parameters
    ----------
    points
        float64 (..., 2), px. Points further than 10,000 px from the picture are moved there.

    Returns
    -------
    numpy.ndarray
        int32 (..., 2), in 1/16 of a sub-pixel.
    """
    near = np.minimum(np.maximum(points, -1e4), 2e4)
    return np.rint(((near + 0.5) * OVERSAMPLING - 0.5) * (1 << SHIFT)).astype(np.int32)


SHIFT = 4
"""Fractional bits of the coordinates of `to_subpixels`."""


FULL = 240
"""Grey value of a full sub-pixel: divisible by 16, so that coverage is exact."""


def fill_polygons(shape: tuple[int, int], polygons: Points, values: NDArray[np.float64] | None = None) -> Field:
    """Fill polygons, later ones over earlier ones.

    Parameters
    ----------
    shape
        Height and width of the picture, px.
    polygons
        float64 (n, corners, 2), px.
    values
        float64 (n,), what each polygon is filled with, 0 to 1 in steps of 1/240; 1 for all where left out.

    Returns
    -------
    numpy.ndarray
        float32 (H, W): the mean over the pixel's square, 0 where nothing is drawn.
    """
    canvas = np.zeros((shape[0] * OVERSAMPLING, shape[1] * OVERSAMPLING), np.uint8)
    levels = np.full(len(polygons), 1.0) if values is None else np.clip(values, 0, 1)
    for polygon, level in zip(to_subpixels(polygons), np.rint(levels * FULL).tolist(), strict=True):
        cv2.fillPoly(canvas, [polygon], level, cv2.LINE_8, SHIFT)
    return shrink(canvas)


def shrink(canvas: NDArray[np.uint8]) -> Field:
    """Average an oversampled canvas down to pixels.

    Parameters
    ----------
    canvas
        uint8 (OVERSAMPLING * H, OVERSAMPLING * W), 0 to `FULL`.

    Returns
    -------
    numpy.ndarray
        float32 (H, W), 0 to 1.
    """
    small = canvas
    # halving twice is three times faster than quartering once
    for _ in range(OVERSAMPLING // 2):
        size = (small.shape[1] // 2, small.shape[0] // 2)
        small = np.asarray(cv2.resize(small, size, interpolation=cv2.INTER_AREA), np.uint8)
    return small * np.float32(1 / FULL)


def irregular_outlines(
    centres: Points,
    radii: NDArray[np.float64],
    rng: np.random.Generator,
    elongation: float = 1.0,
    irregularity: float = 0.2,
) -> Points:
    """Draw the outlines of pebbles, pores or blots.

    Parameters
    ----------
    centres
        float64 (n, 2), (x, y), px.
    radii
        float64 (n,), geometric means of the half-axes, px.
    rng
        Source of randomness.
    elongation
        Largest long axis over short axis, at least 1.
    irregularity
        Deviation of the radius along an outline, relative to it.

    Returns
    -------
    numpy.ndarray
        float64 (n, 12, 2), the corners' (x, y) in px.
    """
    number = len(centres)
    stretch = np.sqrt(rng.uniform(1, elongation, (number, 1)))
    angle = rng.uniform(0, math.pi, (number, 1))
    rough = radii[:, None] * np.maximum(1 + irregularity * rng.standard_normal((number, 12)), 0.3)
    along, across = np.cos(_TURN) * rough * stretch, np.sin(_TURN) * rough / stretch
    x = centres[:, :1] + along * np.cos(angle) - across * np.sin(angle)
    y = centres[:, 1:] + along * np.sin(angle) + across * np.cos(angle)
    return np.stack([x, y], axis=2)


_TURN = np.linspace(0, 2 * math.pi, 12, endpoint=False)


def shifted(field: Field, dx: float, dy: float) -> Field:
    """Move a field by a fraction of pixels; what comes in from outside repeats the border.

    Parameters
    ----------
    field
        float32 (H, W).
    dx, dy
        Way to the right and down, px.

    Returns
    -------
    numpy.ndarray
        float32 (H, W).
    """
    right, down = math.floor(dx), math.floor(dy)
    height, width = field.shape
    margin = max(abs(right), abs(down)) + 1
    padded = cv2.copyMakeBorder(field, margin, margin, margin, margin, cv2.BORDER_REPLICATE)
    top, left = margin - down, margin - right
    part = padded[top - 1 : top + height, left - 1 : left + width]
    rows = part[1:] + np.float32(dy - down) * (part[:-1] - part[1:])
    moved = rows[:, 1:] + np.float32(dx - right) * (rows[:, :-1] - rows[:, 1:])
    return np.asarray(moved, np.float32)


_SHARP = 0.35
"""Deviation of a blur, px, below which it changes nothing that could be seen."""


def soften(field: Field, deviation: float) -> Field:
    """Blur with a Gaussian, one of several px at a resolution that is enough for it.

    Parameters
    ----------
    field
        float32 (H, W) or (H, W, C); what lies outside mirrors what is inside.
    deviation
        Of the Gaussian, px.

    Returns
    -------
    numpy.ndarray
        float32, of the same shape; the field itself where the blur would not be seen.
    """
    if deviation < _SHARP:
        return field
    shrunk = max(1, int(deviation / 1.5))
    height, width = field.shape[:2]
    if shrunk > 1:
        field = cv2.resize(field, (-(-width // shrunk), -(-height // shrunk)), interpolation=cv2.INTER_AREA)
    field = cv2.GaussianBlur(field, (0, 0), deviation / shrunk, borderType=cv2.BORDER_REFLECT_101)
    if shrunk > 1:
        field = cv2.resize(field, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(field, np.float32)


def check_image(image: NDArray[np.uint8] | NDArray[np.float32]) -> None:
    """Make sure that an array is a picture that can be drawn on.

    Raises
    ------
    TypeError
        If it is neither uint8 nor float32.
    ValueError
        If it is neither grey (H, W) nor RGB (H, W, 3), or smaller than 8 x 8 px.
    """
    if image.dtype not in (np.uint8, np.float32):
        raise TypeError(f"a picture must be uint8 (0 to 255) or float32 (0 to 1), got {image.dtype}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise ValueError(f"a picture must be grey (H, W) or RGB (H, W, 3), got the shape {image.shape}")
    if min(image.shape[:2]) < 8:
        raise ValueError(f"a picture must have at least 8 x 8 px, got the shape {image.shape}")


def thrice(field: Field) -> Field:
    """Repeat (H, W) for three channels; NumPy's broadcasting over so few is several times slower."""
    return np.asarray(cv2.merge([field] * 3), np.float32)


def multiplied(one: Field, other: Field) -> Field:
    """Multiply two fields, each (H, W) or (H, W, 3); the product has three channels if one of them has."""
    if one.ndim != other.ndim:
        one, other = (field if field.ndim == 3 else thrice(field) for field in (one, other))
    return one * other


def change_light(image: Image, factor: Field) -> Image:
    """Multiply a picture's light.

    Parameters
    ----------
    image
        uint8 (0 to 255) or float32 (0 to 1), (H, W) or (H, W, 3) in RGB order. Not changed.
    factor
        float32 (H, W), or (H, W, 3) to change the colours too; for a grey picture their mean is taken.

    Returns
    -------
    numpy.ndarray
        A new picture of the same shape and dtype, rounded (uint8) and kept in its range.
    """
    if image.ndim == 2 and factor.ndim == 3:
        factor = factor.mean(axis=2)
    elif image.ndim == 3 and factor.ndim == 2:
        factor = thrice(factor)
    depth = cv2.CV_8U if image.dtype == np.uint8 else cv2.CV_32F
    changed = cv2.multiply(image, factor, dtype=depth)
    return changed if image.dtype == np.uint8 else np.clip(changed, 0, 1, out=changed)
