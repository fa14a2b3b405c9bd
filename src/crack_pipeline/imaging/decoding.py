"""Turn the bytes of a photograph into grey or colour pixels of 8 bits.

Reads JPEG, PNG, TIFF, BMP and WebP, whatever the file is called: 1, 8 and 16 bits, grey, palette, RGB, RGBA
and CMYK. What is done to the pixels is the same for training and for serving:

- the EXIF orientation is applied, so that the picture stands as the camera held it;
- 16 bits are scaled to 8 over their whole range (divided by 257), never clipped;
- transparent pixels become white, since black would read as a crack;
- grey is ITU-R BT.601 luma, taken from the decoded colours: a grey picture is exactly the grey of its colour
  picture;
- of several pages or frames the first is taken; colour profiles are ignored.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Mode = Literal["grey", "rgb"]

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP")
SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".tif", ".tiff", ".bmp", ".dib", ".webp"}
"""How the names of files of these formats end, in small letters."""
HARD_MAX_PIXELS = 178_956_970
"""Most pixels that Pillow ever decodes."""

_READ = "JPEG, PNG, TIFF, BMP and WebP are read"
_TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
_ORIENTATION = 274
_STRIP = 2**20  # px
_OTHER_KINDS = (
    (b"GIF8", "a GIF"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000"),
    (b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL ", "a JPEG XL"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"8BPS", "a Photoshop file"),
    (b"\x1aE\xdf\xa3", "a video"),
)
_BRANDS = {b"avif": "an AVIF", b"avis": "an AVIF", b"heic": "a HEIC", b"heix": "a HEIC", b"mif1": "a HEIC"}

# The size is checked here against the caller's limit, so Pillow's own warning would only say it twice.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

# Memory in pieces of more than 32 MiB goes back to the system at once. Of smaller ones the allocator keeps a stock for
# every thread: gigabytes, where photographs of 100 megapixels are decoded.
if "PILLOW_BLOCK_SIZE" not in os.environ:
    Image.core.set_block_size(2**26)


class Undecodable(ValueError):  # noqa: N818 - it names what the bytes are
    """The bytes give no picture.

    Parameters
    ----------
    kind
        One of a few short words, to count by: ``empty``, ``not an image``, ``damaged``, ``unsupported``,
        ``too many pixels``, ``too small``.
    reason
        One sentence for a reader.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind = kind
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


class Unreadable(Undecodable):
    """The file does not give its bytes to this machine, and may give them to another one."""


class StorageLostError(Exception):
    """Photographs cannot be read any more, whichever: that says nothing of one of them, and must end what is done."""


def decode(data: bytes, *, mode: Mode = "rgb", max_pixels: int = HARD_MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode a photograph.

    Parameters
    ----------
    data
        The whole file.
    mode
        ``grey`` or ``rgb``.
    max_pixels
        A picture with more is refused from its header, before anything is decoded.

    Returns
    -------
    ndarray of uint8
        (H, W) if grey, (H, W, 3) in the order red, green, blue otherwise; 0 to 255.

    Raises
    ------
    Undecodable
        If the bytes are empty, truncated, damaged, too large, or not a picture of a kind that is read.
    """
    image = _loaded(data, max_pixels)
    if image.mode.startswith("I;16"):
        return convert(_eight_bits(_pixels(image)), mode)
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        image = _on_white(image)
    if image.mode in ("1", "L"):
        return convert(_pixels(image if image.mode == "L" else image.convert("L")), mode)
    if image.mode not in ("RGB", "P", "CMYK", "RGBX", "YCbCr"):
        raise Undecodable("unsupported", _unsupported(image.mode))
    return convert(_pixels(image if image.mode == "RGB" else image.convert("RGB")), mode)


def decode_mask(data: bytes, *, max_pixels: int = HARD_MAX_PIXELS) -> tuple[NDArray[np.uint8], bool]:
    """Decode a mask to its values.

    Parameters
    ----------
    data
        The whole file.
    max_pixels
        A mask with more is refused from its header.

    Returns
    -------
    values : ndarray of uint8
        (H, W). A palette of different greys gives these, one of colours that begins with black its indices, as classes
        are shown; 1 bit gives 0 and 1, colours, and any other palette, their grey, 16 bits their values if none is
        above 255 and otherwise values divided by 257.
    lossy : bool
        Whether the format may have blurred the values (JPEG, WebP).

    Raises
    ------
    Undecodable
        As `decode`.
    """
    image = _loaded(data, max_pixels)
    lossy = image.format not in ("PNG", "TIFF", "BMP")
    if image.mode.startswith("I;16"):
        wide = _pixels(image)
        return wide.astype(np.uint8) if wide.max() <= 255 else _eight_bits(wide), lossy
    if image.mode == "P":
        values = _indexed(image)
    elif image.mode in ("1", "L"):
        values = _pixels(image).astype(np.uint8, copy=False)
    elif image.mode in ("LA", "PA"):
        values = np.asarray(image.getchannel(0))
    elif image.mode in ("RGB", "RGBA", "RGBX", "CMYK", "YCbCr"):
        values = convert(np.asarray(image.convert("RGB")), "grey")
    else:
        raise Undecodable("unsupported", _unsupported(image.mode))
    if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
        clear = np.asarray(image.convert("RGBA").getchannel("A")) < 255
        if clear.any() and (values[clear].any() or np.ptp(values) == 0):
            raise Undecodable("unsupported", "what it says may lie in its transparency: save it without alpha channel")
    return values, lossy


def is_turned(data: bytes) -> bool:
    """Whether the EXIF orientation of a file says that its pixels do not stand as the camera held it."""
    try:
        return _has_turn(Image.open(io.BytesIO(data), formats=FORMATS))
    except Exception:  # damaged EXIF says nothing about the pixels
        return False


def header_size(data: bytes) -> tuple[int, int] | None:
    """Read width and height in px, before any EXIF rotation, from a picture's header; None if they cannot be told."""
    try:
        return _webp_size(data) or Image.open(io.BytesIO(data), formats=FORMATS).size
    except Exception:  # what is wrong with it, decode says
        return None


def prepare(image: NDArray[np.uint8], size: int | None, mode: Mode) -> NDArray[np.uint8]:
    """Bring a decoded picture to the form that the networks take.

    Parameters
    ----------
    image
        (H, W) grey, (H, W, 3) RGB, or (H, W, 4) RGBA, uint8.
    size
        Side of the square that it is scaled to, in px, whatever its own shape: by area where it shrinks (no
        pixel is skipped, so that thin cracks darken the result instead of vanishing), linearly where it
        grows. None leaves the size.
    mode
        ``grey`` or ``rgb``.

    Returns
    -------
    ndarray of uint8
        (size, size) or (size, size, 3), contiguous.

    Raises
    ------
    ValueError
        If the shape or the dtype is another.

    Examples
    --------
    >>> prepare(np.full((227, 227, 3), 90, np.uint8), 128, "grey").shape
    (128, 128)
    """
    image = convert(image, mode)
    if size is None:
        return image
    if size < 1:
        raise ValueError(f"size must be at least 1 px, not {size}")
    height, width = image.shape[:2]
    if height > size or width > size:
        image = np.asarray(
            cv2.resize(image, (min(width, size), min(height, size)), interpolation=cv2.INTER_AREA), np.uint8
        )
    if image.shape[:2] != (size, size):
        image = np.asarray(cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)
    return image


def convert(image: NDArray[np.uint8], mode: Mode) -> NDArray[np.uint8]:
    """Convert between grey and colour.

    Parameters
    ----------
    image
        (H, W) grey, (H, W, 3) RGB, or (H, W, 4) RGBA, uint8.
    mode
        ``grey`` or ``rgb``.

    Returns
    -------
    ndarray of uint8
        (H, W) or (H, W, 3), contiguous.

    Raises
    ------
    ValueError
        If the shape or the dtype is another.
    """
    if mode not in ("grey", "rgb"):
        raise ValueError(f"mode must be 'grey' or 'rgb', not {mode!r}")
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
        raise ValueError(f"a picture is uint8 of (H, W), (H, W, 3) or (H, W, 4), not {image.dtype} of {image.shape}")
    if image.ndim == 3 and image.shape[2] == 4:
        image = np.asarray(_on_white(Image.fromarray(image)))
    if image.ndim == 3 and mode == "grey":
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    elif image.ndim == 2 and mode == "rgb":
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), np.uint8)
    return np.ascontiguousarray(image)


def _loaded(data: bytes, max_pixels: int) -> Image.Image:
    """Decode with Pillow, upright, every way to fail turned into a reason."""
    if not data:
        raise Undecodable("empty", "the file is empty")
    _refuse_large(_webp_size(data), max_pixels)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        told = re.search(r"\((\d+) pixels\)", str(error))
        size = f"{int(told[1]):,} px are " if told else ""
        reason = f"{size}more than the {HARD_MAX_PIXELS:,} px that are ever decoded: cut it into pieces"
        raise Undecodable("too many pixels", reason) from None
    except Exception:
        raise _unopened(data) from None
    _refuse_large(image.size, max_pixels)
    if image.format in ("JPEG", "MPO") and not _jpeg_ends(data):
        raise Undecodable("damaged", "truncated or damaged: the JPEG has no end")
    try:
        image.load()
    except Exception as error:  # Pillow's plugins raise anything from OSError to SyntaxError and struct.error
        raise Undecodable("damaged", f"truncated or damaged: {error}") from None
    return _upright(image)


def _pixels(image: Image.Image) -> NDArray[Any]:
    """Copy the pixels by strips, since Pillow hands them over as a copy of a copy."""
    if image.width * image.height <= _STRIP:
        return np.asarray(image)
    like = np.asarray(image.crop((0, 0, 1, 1)))
    pixels = np.empty((image.height, image.width, *like.shape[2:]), like.dtype)
    for rows in _strips(image.height, image.width):
        pixels[rows] = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
    return pixels


def _indexed(image: Image.Image) -> NDArray[np.uint8]:
    """Give the greys of a palette, whose order means nothing, or the indices, if they are classes shown in colours.

    Classes begin with black for the background. Where another colour comes first, a program has ordered the colours by
    how often it found them, and the indices mean nothing.
    """
    indices = np.asarray(_pixels(image), np.uint8)
    palette = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
    if (palette != palette[:, :1]).any():
        return convert(np.asarray(image.convert("RGB")), "grey") if palette[0].any() else indices
    greys = np.zeros(256, np.uint8)
    greys[: len(palette)] = palette[:, 0]
    used = np.flatnonzero(cv2.calcHist([indices], [0], None, [256], [0, 256]))
    if len(np.unique(greys[used])) < len(used):
        return indices
    return np.asarray(cv2.LUT(indices, greys), np.uint8)


def _eight_bits(wide: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """Scale 16 bits to 8, by strips, since that takes 32 bits in between."""
    narrow = np.empty(wide.shape, np.uint8)
    for rows in _strips(*wide.shape):
        narrow[rows] = (wide[rows].astype(np.uint32) + 128) // 257
    return narrow


def _strips(height: int, width: int) -> list[slice]:
    step = max(1, _STRIP // width)
    return [slice(top, min(top + step, height)) for top in range(0, height, step)]


def _refuse_large(size: tuple[int, int] | None, max_pixels: int) -> None:
    if size is not None and size[0] * size[1] > max_pixels:
        raise Undecodable("too many pixels", f"{size[0]} × {size[1]} px are more than the {max_pixels:,} px allowed")


def _has_turn(image: Image.Image) -> bool:
    return image.getexif().get(_ORIENTATION, 1) not in (None, 1)


def _upright(image: Image.Image) -> Image.Image:
    try:
        upright = ImageOps.exif_transpose(image) if _has_turn(image) else image
    except Exception:  # damaged EXIF says nothing about the pixels
        return image
    upright.format = image.format
    return upright


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("L" if image.mode in ("L", "LA", "La") else "RGB")


def _unsupported(mode: str) -> str:
    if mode in ("I", "F"):
        return "pixels of 32 bits or with a sign have no agreed range: save it with 8 or 16 bits"
    return f"colours of the kind {mode} are not read: save it as grey or RGB"


def _unopened(data: bytes) -> Undecodable:
    """Say what the bytes are that Pillow did not open."""
    head = data[:64]
    brand = _BRANDS.get(head[8:12]) if head[4:8] == b"ftyp" else None
    if head[4:8] == b"ftyp" and brand is None:
        brand = "a video"
    kind = next((kind for magic, kind in _OTHER_KINDS if head.startswith(magic)), brand)
    if kind:
        return Undecodable("unsupported", f"{kind} file: {_READ}")
    pictures = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"MM\x00*", b"BM")
    if head.startswith(pictures) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return Undecodable("damaged", "truncated or damaged: its header cannot be read")
    return Undecodable("not an image", f"not an image: {_READ}")


def _jpeg_ends(data: bytes) -> bool:
    """Whether the end marker follows the pixels; libjpeg accepts zeros, in which half-written files end."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return data.find(b"\xff\xd9", at) >= 0
        if marker == 0xFF:
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return data.rfind(b"\xff\xd9") >= 0


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Size from the header of a WebP, since Pillow sets its memory aside before it can be asked."""
    if data[:4] != b"RIFF" or data[8:12] != b"WEBP" or len(data) < 30:
        return None
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if data[12:16] == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None
