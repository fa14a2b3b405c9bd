"""What a photograph's mask says, and whether it can be believed."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging import tiling
from crack_pipeline.imaging.decoding import Undecodable, decode_mask, header_size
from crack_pipeline.imaging.photograph_stack import CRACK, IGNORED
from crack_pipeline.pipelines.ingestion.listing import MASK
from crack_pipeline.pipelines.ingestion.parameters import MaskValues, Preset, Reading, Tiling

MASK_SIZE, MASK_VALUES = "mask size", "mask values"
CONTRADICTION, EMPTY_MASK, IGNORED_MASK = "contradiction", "empty mask", "ignored mask"

_SHOWN = 6


def read_mask(data: bytes, shape: tuple[int, int], values: MaskValues, reading: Reading) -> NDArray[np.uint8]:
    """Decode a mask and translate its values.

    Parameters
    ----------
    data
        The mask's file.
    shape
        Height and width of its photograph, in px.
    values
        What the values of the file mean.
    reading
        The limits.

    Returns
    -------
    ndarray of uint8
        (H, W) of `BACKGROUND`, `CRACK` and `IGNORED`.

    Raises
    ------
    Undecodable
        If it is no picture, of another size, or holds a value that means nothing.
    """
    said = header_size(data)
    if said is not None and said[0] * said[1] != shape[0] * shape[1]:
        raise _of_another_size((said[1], said[0]), shape)
    try:
        mask, lossy = decode_mask(data, max_pixels=reading.max_pixels)
    except Undecodable as why:
        raise Undecodable(MASK, f"its mask: {why.reason}") from None
    if mask.shape != shape:
        raise _of_another_size((mask.shape[0], mask.shape[1]), shape)
    counts = cv2.calcHist([mask], [0], None, [256], [0, 256]).ravel()
    meaning = _translate(set(np.flatnonzero(counts).tolist()), values, lossy=lossy)
    return np.asarray(cv2.LUT(mask, meaning), np.uint8)


def check_mask(mask: NDArray[np.uint8], label: str | None, preset: Preset, *, stored: bool) -> None:
    """Refuse a mask that contradicts what else is known of its photograph, or says nothing.

    Parameters
    ----------
    mask
        As `read_mask` gives it.
    label
        What the photograph's folder says: normal, crack, or None.
    preset
        Whether the label comes from the mask, and whether a mask without a crack is to be believed.
    stored
        Whether the mask itself is wanted; otherwise only a label that would be guessed is refused.

    Raises
    ------
    Undecodable
        Of the kind ``ignored mask``, ``contradiction`` or ``empty mask``.
    """
    gives_label = preset.label_from == "mask" and preset.tiling is None
    if (stored or gives_label) and (mask == IGNORED).all():
        raise Undecodable(IGNORED_MASK, "its mask says nothing: every pixel is to be ignored")
    if not stored:
        return
    cracked = int(np.count_nonzero(mask == CRACK))
    if label == "crack" and not cracked:
        raise Undecodable(CONTRADICTION, "its folder says crack, its mask holds no crack pixel")
    if label == "normal" and cracked:
        raise Undecodable(CONTRADICTION, f"its folder says normal, its mask holds {cracked:,} crack pixels")
    if preset.label_from == "mask" and not cracked and preset.empty_masks != "sound":
        raise Undecodable(
            EMPTY_MASK, "its mask holds no crack pixel: if such photographs are sound, say empty_masks: sound"
        )


def clear_tiles(
    mask: NDArray[np.uint8], corners: NDArray[np.int64], cutting: Tiling
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Say which tiles are clearly sound or clearly cracked, and how much of each is crack.

    Parameters
    ----------
    mask
        (H, W) of `BACKGROUND`, `CRACK` and `IGNORED`.
    corners
        (n, 2): y and x of the upper left corners of the tiles.
    cutting
        Their size, and what is clear.

    Returns
    -------
    keep : ndarray of bool
        (n,): False for doubtful tiles.
    inside : ndarray of int64
        (n,): crack pixels; a tile that is kept is cracked where there are any.
    """
    crack = mask == CRACK
    inside = tiling.count(crack, corners, cutting.size)
    around = tiling.count(crack, corners, cutting.size, cutting.margin)
    unknown = tiling.count(mask == IGNORED, corners, cutting.size) > cutting.max_ignored_share * cutting.size**2
    return ~unknown & ((around == 0) | (inside >= cutting.min_crack_pixels)), inside


def _of_another_size(mask: tuple[int, int], photograph: tuple[int, int]) -> Undecodable:
    sizes = f"its mask is {mask[1]} × {mask[0]} px, the photograph {photograph[1]} × {photograph[0]} px"
    turned = ", seen upright (is it turned by its EXIF orientation, and the mask is not?)"
    return Undecodable(MASK_SIZE, sizes + (turned if mask == photograph[::-1] else ""))


def _translate(found: set[int], values: MaskValues, *, lossy: bool) -> NDArray[np.uint8]:
    """(256,): what each value of a mask means; raises Undecodable if one of those found means nothing."""
    ignored, background = set(values.ignored), set(values.background)
    if values.crack is not None:
        crack = set(values.crack)
        unknown = found - crack - background - ignored
        if unknown:
            blurred = " (in a format that blurs them)" if lossy else ""
            raise Undecodable(
                MASK_VALUES,
                f"its mask holds {_listed(unknown)}{blurred}, and mask_values gives a meaning only to crack "
                f"{_listed(crack)}, background {_listed(background)}, ignored {_listed(ignored)}",
            )
    elif lossy and (background - {0} or ignored):
        raise Undecodable(
            MASK_VALUES,
            f"its mask is in a format that blurs values: {_listed((background - {0}) | ignored)} cannot be told from "
            "crack there; save it in a lossless format (PNG)",
        )
    elif lossy and 0 < max(found) < values.threshold:
        raise Undecodable(
            MASK_VALUES,
            f"its mask, in a format that blurs values, holds {_listed(found)}, which could be anything: save it in a "
            "lossless format (PNG), or set mask_values.threshold",
        )
    elif lossy or (values.threshold_lossless and not _is_binary(found - background - ignored)):
        crack = set(range(values.threshold, 256)) - background
    elif _is_binary(found - background - ignored):
        crack = {1, 255} - background
    else:
        raise Undecodable(
            MASK_VALUES,
            f"its mask holds {_listed(found)}, not only 0 and 1, or 0 and 255: name their meaning in mask_values "
            "(crack, background, ignored), or set threshold_lossless there",
        )
    meaning = np.zeros(256, np.uint8)
    meaning[sorted(crack)] = CRACK
    meaning[sorted(ignored)] = IGNORED
    return meaning


def _is_binary(found: set[int]) -> bool:
    return found <= {0, 1} or found <= {0, 255}


def _listed(values: Iterable[int]) -> str:
    ordered = sorted(values)
    if len(ordered) > _SHOWN:
        return f"{', '.join(map(str, ordered[:_SHOWN]))}, … ({len(ordered)} values)"
    return ", ".join(map(str, ordered)) or "no value"
