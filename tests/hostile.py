"""Make a folder of hostile files of named kinds among healthy photographs, some of them unusual."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 64


def photograph(seed: int, mode: str = "RGB") -> Image.Image:
    """A small picture of noise, another one for every seed."""
    pixels = np.random.default_rng(seed).integers(60, 200, (SIDE, SIDE, 3), np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose header promises a size, with next to no data."""

    def block(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", pixels) + block(b"IEND", b"")


def _jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(encoded(photograph(100), "JPEG"))
    at = data.find(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _webp_of_size(side: int) -> bytes:
    data = bytearray(encoded(photograph(101), "WEBP", lossless=True))
    data[21:25] = struct.pack("<I", (side - 1) | (side - 1) << 14 | 1 << 28)
    return bytes(data)


def _flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def _tiff_that_loops() -> bytes:
    data = bytearray(encoded(photograph(102), "TIFF"))
    first = struct.unpack("<I", data[4:8])[0]
    entries = struct.unpack("<H", data[first : first + 2])[0]
    for entry in range(entries):  # the strips lie beyond the end, and the next page is this one
        at = first + 2 + 12 * entry
        if struct.unpack("<H", data[at : at + 2])[0] == 273:
            data[at + 8 : at + 12] = struct.pack("<I", 2**31)
    end = first + 2 + 12 * entries
    data[end : end + 4] = struct.pack("<I", first)
    return bytes(data)


def _half(data: bytes) -> bytes:
    return data[: len(data) // 2]


_JPEG = encoded(photograph(1), "JPEG")
_PNG = encoded(photograph(2), "PNG")

CONTENTS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    # kind: file under Positive/, its bytes, the word it is quarantined under
    "empty": ("empty.jpg", lambda: b"", "empty"),
    "truncated JPEG": ("truncated.jpg", lambda: _half(_JPEG), "damaged"),
    "JPEG whose second half is zeros": (
        "zeros.jpg",
        lambda: _half(_JPEG) + bytes(len(_JPEG) // 2),
        "damaged",
    ),
    "JPEG of a header only": ("header.jpg", lambda: _JPEG[:20], "damaged"),
    "truncated PNG": ("truncated.png", lambda: _half(_PNG), "damaged"),
    "PNG with a flipped byte": ("flipped.png", lambda: _flipped(_PNG, len(_PNG) // 2), "damaged"),
    "truncated TIFF": ("truncated.tif", lambda: _half(encoded(photograph(3), "TIFF")), "damaged"),
    "TIFF that points beyond its end and to itself": ("loop.tif", _tiff_that_loops, "damaged"),
    "truncated WebP": ("truncated.webp", lambda: _half(encoded(photograph(4), "WEBP")), "damaged"),
    "truncated BMP": ("truncated.bmp", lambda: _half(encoded(photograph(5), "BMP")), "damaged"),
    "text": ("text.jpg", lambda: b"these are not the pixels you are looking for\n" * 20, "not an image"),
    "web page saved as JPEG": ("page.jpg", lambda: b"<!DOCTYPE html><html>404</html>", "not an image"),
    "random bytes": (
        "random.png",
        lambda: np.random.default_rng(0).integers(0, 256, 5000, np.uint8).tobytes(),
        "not an image",
    ),
    "GIF named JPEG": ("gif.jpg", lambda: encoded(photograph(6), "GIF"), "unsupported"),
    "PDF": ("report.pdf", lambda: encoded(photograph(7), "PDF"), "unsupported"),
    "zip archive named PNG": ("archive.png", lambda: b"PK\x03\x04" + bytes(100), "unsupported"),
    "TIFF of 32-bit floats": (
        "float.tif",
        lambda: encoded(Image.fromarray(np.zeros((SIDE, SIDE), np.float32)), "TIFF"),
        "unsupported",
    ),
    "TIFF in CIELAB colours": ("lab.tif", lambda: encoded(photograph(8, "LAB"), "TIFF"), "unsupported"),
    "PNG bomb of 60,000 × 60,000 px": ("bomb.png", lambda: png_of_size(60_000, 60_000), "too many pixels"),
    "JPEG that claims 65,000 × 65,000 px": (
        "claims.jpg",
        lambda: _jpeg_of_size(65_000, 65_000),
        "too many pixels",
    ),
    "WebP that claims 16,000 × 16,000 px": ("claims.webp", lambda: _webp_of_size(16_000), "too many pixels"),
    "picture of one pixel": (
        "pixel.png",
        lambda: encoded(photograph(9).crop((0, 0, 1, 1)), "PNG"),
        "too small",
    ),
}

OTHERS = {
    # kind: path, the word it is quarantined under
    "link to a file outside the root": ("Positive/link.jpg", "outside the root"),
    "link to a folder outside the root": ("Positive/folder_link", "outside the root"),
    "link that points to itself": ("Positive/self.jpg", "not a file"),
    "named pipe": ("Positive/pipe.jpg", "not a file"),
    "socket": ("Positive/socket.jpg", "not a file"),
    "file of 600 MiB": ("Positive/huge.jpg", "too large"),
    "name that is not UTF-8": ("Positive/caf\\xe9.jpg", "unreadable"),
    "folder that names no class": ("Holidays/beach.jpg", "unknown class"),
    "photograph in no folder": ("stray.jpg", "unknown class"),
    "byte copy of another photograph": ("Positive/zz copy.jpg", "copy"),
    "same bytes in the other class": ("Positive/both.jpg", "conflict"),
    "same bytes in the other class, its twin": ("Negative/both.jpg", "conflict"),
    "mask of another size": ("Positive/mask size.png", "mask size"),
    "damaged mask": ("Positive/mask damaged.png", "unreadable mask"),
}
KINDS = {**{kind: (f"Positive/{name}", word) for kind, (name, _, word) in CONTENTS.items()}, **OTHERS}


def _rotated() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return encoded(photograph(20), "JPEG", exif=exif)


HEALTHY: dict[str, Callable[[], bytes]] = {
    "plain.jpg": lambda: encoded(photograph(10), "JPEG"),
    "CAPITALS.JPEG": lambda: encoded(photograph(11), "JPEG"),
    "cmyk.jpg": lambda: encoded(photograph(12, "CMYK"), "JPEG"),
    "rotated.jpg": _rotated,
    "png named.jpg": lambda: encoded(photograph(13), "PNG"),
    "no ending": lambda: encoded(photograph(14), "PNG"),
    "palette.png": lambda: encoded(photograph(15).quantize(16), "PNG"),
    "transparent.png": lambda: encoded(photograph(16, "RGBA"), "PNG"),
    "one bit.png": lambda: encoded(photograph(17, "1"), "PNG"),
    "sixteen bit.png": lambda: encoded(
        Image.fromarray(np.random.default_rng(18).integers(0, 65536, (SIDE, SIDE), np.uint16)), "PNG"
    ),
    "pages.tif": lambda: encoded(photograph(19), "TIFF", save_all=True, append_images=[photograph(21), photograph(22)]),
    "animated.webp": lambda: encoded(photograph(23), "WEBP", save_all=True, append_images=[photograph(24)]),
    "bitmap.bmp": lambda: encoded(photograph(25), "BMP"),
    "Riß im Beton – 裂缝.jpg": lambda: encoded(photograph(26), "JPEG"),
    "two\nlines, “quoted”.jpg": lambda: encoded(photograph(27), "JPEG"),
}


def make(root: Path) -> dict[str, tuple[str, str]]:
    """Write the folder ``root`` and, beside it, what links out of it lead to.

    Returns
    -------
    dict
        For each kind of hostile file its path, as the quarantine names it, and its word there.
    """
    crack, sound, masks, outside = (
        root / "Positive",
        root / "Negative",
        root / "masks",
        root.with_name("outside"),
    )
    for folder in (crack, sound, masks, root / "Holidays", outside):
        folder.mkdir(parents=True)
    for name, make_bytes in HEALTHY.items():
        (crack / name).write_bytes(make_bytes())
    for number in range(30):
        (sound / f"{number:05d}.png").write_bytes(encoded(photograph(1000 + number), "PNG"))
    for name, make_bytes, _ in CONTENTS.values():
        (crack / name).write_bytes(make_bytes())

    (outside / "secret.jpg").write_bytes(encoded(photograph(30), "JPEG"))
    (crack / "link.jpg").symlink_to(outside / "secret.jpg")
    (crack / "folder_link").symlink_to(outside)
    (crack / "self.jpg").symlink_to(crack / "self.jpg")
    os.mkfifo(crack / "pipe.jpg")
    _bind(crack / "socket.jpg")
    with (crack / "huge.jpg").open("wb") as huge:
        huge.truncate(600 * 2**20)
    Path(os.fsdecode(os.fsencode(crack) + b"/caf\xe9.jpg")).write_bytes(encoded(photograph(31), "JPEG"))
    (root / "Holidays" / "beach.jpg").write_bytes(encoded(photograph(32), "JPEG"))
    (root / "stray.jpg").write_bytes(encoded(photograph(33), "JPEG"))
    (crack / "zz copy.jpg").write_bytes((crack / "plain.jpg").read_bytes())
    for folder in (crack, sound):
        (folder / "both.jpg").write_bytes(encoded(photograph(34), "JPEG"))
    for seed, name in ((35, "mask size.png"), (36, "mask damaged.png")):
        (crack / name).write_bytes(encoded(photograph(seed), "PNG"))
    (masks / "mask size.png").write_bytes(encoded(Image.new("1", (SIDE, SIDE // 2)), "PNG"))
    (masks / "mask damaged.png").write_bytes(_half(_PNG))
    (root / ".DS_Store").write_bytes(b"clutter")
    (crack / "Thumbs.db").write_bytes(b"clutter")
    return KINDS


def _bind(path: Path) -> None:
    """A socket in the file system; its address is short whatever the folder's length."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)
