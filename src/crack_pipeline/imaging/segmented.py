"""What a segmentation gives of photographs, on its way to the disk, and pictures of it for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.imaging.records import Record

COLOUR = (255, 40, 40)
"""Red, green and blue of cracks in an overlay."""

OVERLAY_QUALITY = 88
"""Of overlays as JPEG files."""

_OPACITY = 0.65


@dataclass(frozen=True)
class SegmentedPhotograph:
    """One photograph and where its cracks are.

    Attributes
    ----------
    path
        Of the photograph, relative to the root, with ``/``.
    mask
        (H, W) uint8: 1 where there is a crack, else 0.
    overlay
        (h, w, 3) uint8, RGB: a picture for people, of any size (see `draw_overlay`); None for no such picture.
    probability
        (H, W) uint8: the probability of a crack in 256 levels; None to leave it out.
    facts
        What the table says of the photograph, such as the share of it that is cracked: JSON-like values by column.
    """

    path: str
    mask: NDArray[np.uint8]
    overlay: NDArray[np.uint8] | None = None
    probability: NDArray[np.uint8] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SegmentedChunk:
    """Some photographs of a segmentation on their way to the disk.

    Attributes
    ----------
    photographs
        In their order; each path comes once in all chunks. The files of a record are ``mask``, ``overlay`` and
        ``probability``, already encoded as they are written.
    rejected
        (path, kind, reason) of each photograph that could not be segmented.
    number
        0 for the first chunk, which begins a new segmentation.
    last
        Whether the segmentation is complete with it.
    """

    photographs: Sequence[SegmentedPhotograph | Record]
    rejected: Sequence[tuple[str, str, str]]
    number: int
    last: bool


class Segmentation(NamedTuple):
    """The tables of a segmentation."""

    photographs: pd.DataFrame
    """A row per photograph: ``path``, its facts, and ``mask``, ``overlay``, ``probability``: the files, or None."""
    rejected: pd.DataFrame
    """A row per photograph that was not segmented: ``path``, ``kind``, ``reason``."""


def draw_overlay(
    photograph: NDArray[np.uint8], mask: NDArray[np.uint8], longest: int = 2048, colour: tuple[int, int, int] = COLOUR
) -> NDArray[np.uint8]:
    """Draw cracks over a photograph, small enough to look at.

    What is larger is shrunk by averaging areas. A crack of one pixel of the photograph is then still drawn in full
    colour, so that thin cracks do not fade away.

    Parameters
    ----------
    photograph
        (H, W), (H, W, 1) or (H, W, 3) uint8.
    mask
        (H, W) uint8: 1 where there is a crack.
    longest
        Most px along the longer side of the overlay.
    colour
        Red, green and blue of cracks.

    Returns
    -------
    ndarray of uint8
        (h, w, 3), RGB.

    Raises
    ------
    ValueError
        If mask and photograph differ in size.

    Examples
    --------
    >>> draw_overlay(np.zeros((8, 4), np.uint8), np.eye(8, 4, dtype=np.uint8), longest=4).shape
    (4, 2, 3)
    """
    if photograph.shape[:2] != mask.shape:
        raise ValueError(f"the mask is {mask.shape}, the photograph {photograph.shape[:2]}")
    image = shrink_to(photograph, longest)
    if image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    crack = mask == 1
    factor = max(1.0, max(mask.shape) / longest)
    share = shrink_to(crack.view(np.uint8) * np.uint8(255), longest).astype(np.float32) / 255
    opacity = (np.minimum(share * factor, 1) * np.float32(_OPACITY))[..., None]
    blended = image * (1 - opacity) + np.array(colour, np.float32) * opacity
    return np.rint(blended).astype(np.uint8)


def shrink_to(picture: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """Shrink a picture by averaging areas, if it is larger than asked for.

    Parameters
    ----------
    picture
        (H, W), (H, W, 1) or (H, W, 3) uint8.
    longest
        Most px along its longer side.

    Returns
    -------
    ndarray of uint8
        (h, w) or (h, w, 3): grey has no third axis. The proportions stay, but no side gets shorter than 1 px.

    Raises
    ------
    ValueError
        If ``longest`` is not positive.
    """
    if longest < 1:
        raise ValueError(f"longest must be at least 1 px, not {longest}")
    flat = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    height, width = flat.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return flat
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(flat, size, interpolation=cv2.INTER_AREA), np.uint8)
