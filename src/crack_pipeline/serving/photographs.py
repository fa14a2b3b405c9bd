"""From what a request holds to the pixels of a photograph."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from crack_pipeline.imaging.decoding import HARD_MAX_PIXELS, Mode, Undecodable, convert, decode


class Limits(BaseModel):
    """What a served model accepts."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    max_pixels: int = Field(
        150_000_000, ge=1, le=HARD_MAX_PIXELS, description="a picture with more is refused from its header"
    )
    max_bytes: int = Field(2**29, ge=1, description="a picture whose file is larger is refused undecoded")
    min_side: int = Field(16, ge=1, description="a picture that is shorter on one side, in px, is refused")
    max_images: int = Field(256, ge=1, description="pictures in one request")
    at_once: int = Field(
        1, ge=1, description="requests whose pictures go through the network at a time; the others wait"
    )


def read_photograph(value: Any, mode: Mode, limits: Limits) -> NDArray[np.uint8]:
    """Give the pixels of a photograph, however it was sent.

    Parameters
    ----------
    value
        The file in base64, with or without ``data:image/…;base64,`` before it, or its bytes; or pixels, whole numbers
        from 0 to 255, as an array or nested lists: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA.
    mode
        ``grey`` or ``rgb``.
    limits
        The limits.

    Returns
    -------
    ndarray of uint8
        (H, W) if grey, (H, W, 3) otherwise.

    Raises
    ------
    Undecodable
        If it is no photograph, or one beyond the limits; the message is for who sent it.
    """
    if isinstance(value, str):
        value = _from_base64(value, limits)
    if isinstance(value, bytes | bytearray | memoryview):
        pixels = _decoded(bytes(value), mode, limits)
    elif isinstance(value, list | tuple | np.ndarray):
        pixels = convert(_from_numbers(value, limits), mode)
    else:
        raise Undecodable("not an image", f"a picture is base64 or pixels, not {_named(value)}")
    height, width = pixels.shape[:2]
    if min(height, width) < limits.min_side:
        raise Undecodable("too small", f"{width} × {height} px; at least {limits.min_side} px each way are needed")
    return pixels


def _from_base64(text: str, limits: Limits) -> bytes:
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    if len(text) // 4 * 3 > limits.max_bytes + 2:
        raise Undecodable("too many bytes", _too_many_bytes(len(text) // 4 * 3, limits))
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise Undecodable("not an image", f"not base64: {error}") from None


def _decoded(data: bytes, mode: Mode, limits: Limits) -> NDArray[np.uint8]:
    if len(data) > limits.max_bytes:
        raise Undecodable("too many bytes", _too_many_bytes(len(data), limits))
    try:
        return decode(data, mode=mode, max_pixels=limits.max_pixels)
    except Undecodable:
        raise
    except MemoryError:
        raise Undecodable("too many pixels", "it does not fit in memory") from None
    except Exception as error:  # as for files: one odd picture must not end the server
        raise Undecodable("damaged", f"cannot be decoded: {error}") from None


def _from_numbers(value: Any, limits: Limits) -> NDArray[np.uint8]:
    try:
        # An array whose elements are arrays, as tables hold it, is made of lists first.
        numbers = np.asarray(value.tolist() if isinstance(value, np.ndarray) and value.dtype == object else value)
    except ValueError:
        raise Undecodable("not an image", "pixels in rows of different lengths") from None
    if numbers.ndim not in (2, 3) or (numbers.ndim == 3 and numbers.shape[2] not in (1, 3, 4)) or 0 in numbers.shape:
        raise Undecodable("not an image", f"pixels are (H, W), (H, W, 3) or (H, W, 4), not {numbers.shape}")
    if numbers.shape[0] * numbers.shape[1] > limits.max_pixels:
        size = f"{numbers.shape[1]} × {numbers.shape[0]} px"
        raise Undecodable("too many pixels", f"{size} are more than the {limits.max_pixels:,} px allowed")
    if numbers.dtype != np.uint8:
        if numbers.dtype.kind not in "iuf" or not ((numbers >= 0) & (numbers <= 255) & (numbers % 1 == 0)).all():
            raise Undecodable("not an image", "pixels are whole numbers from 0 to 255")
        numbers = numbers.astype(np.uint8)
    return np.ascontiguousarray(numbers[..., 0] if numbers.ndim == 3 and numbers.shape[2] == 1 else numbers)


def _too_many_bytes(number: int, limits: Limits) -> str:
    return f"{number:,} bytes are more than the {limits.max_bytes:,} allowed"


def _named(value: Any) -> str:
    # Tables hold NaN where there is nothing.
    return "nothing" if value is None or value != value else type(value).__name__
