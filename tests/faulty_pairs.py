"""Make folders of photographs and masks that do not fit each other, one of each kind, among healthy pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hostile import SIDE, encoded, photograph

FAULTS = {
    # name of the photograph: its path in the quarantine, the kind, a part of the reason
    "without mask": ("images/without mask.png", "no mask", "looked for masks/without mask.*"),
    "of another size": (
        "images/of another size.png", "mask size", f"its mask is {SIDE} × 32 px, the photograph {SIDE} × {SIDE} px"
    ),
    "turned": ("images/turned.png", "mask size", f"its mask is {SIDE} × 32 px, the photograph 32 × {SIDE} px"),
    "damaged": ("images/damaged.png", "unreadable mask", "its mask: truncated or damaged"),
    "text": ("images/text.png", "unreadable mask", "its mask: not an image"),
    "grey": ("images/grey.png", "mask values", "its mask holds 0, 90, 255, not only 0 and 1, or 0 and 255"),
    "blurred": ("images/blurred.png", "mask values", "7 cannot be told from crack there; save it in a lossless"),
    "empty": ("images/empty.png", "empty mask", "its mask holds no crack pixel"),
    "ignored": ("images/ignored.png", "ignored mask", "every pixel is to be ignored"),
    "two masks": ("images/two masks.png", "ambiguous mask", "masks/two masks.bmp, masks/two masks_mask.png"),
    "shared": ("images/shared.png", "ambiguous mask", "its mask masks/shared.png is that of another"),
    "shared as JPEG": ("images/shared.jpg", "ambiguous mask", "its mask masks/shared.png is that of another"),
    "tiny": ("images/tiny.png", "too small", "8 × 8 px; at least 16 px"),
    "a line": ("images/a line.png", "too small", f"1 × {SIDE} px"),
    "broken photograph": ("images/broken photograph.png", "damaged", "truncated or damaged"),
    "orphan": ("masks/orphan.png", "orphan mask", "a mask without a photograph"),
}  # fmt: skip
HEALTHY = (
    "one bit.png",
    "ones.png",
    "white.jpg",
    "with suffix.png",
    "partly ignored.png",
    "all crack.png",
)


def make(root: Path) -> None:
    """Write ``root`` with ``images`` and ``masks``; 7 in a mask says nothing."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    seeds = {path: seed for seed, (path, _, _) in enumerate(FAULTS.values())}
    for path, seed in seeds.items():
        if path.startswith("images"):
            _write(root / path, photograph(seed))
    for seed, name in enumerate(HEALTHY, 100):
        _write(root / "images" / name, photograph(seed))
    _write(root / "images/turned.png", photograph(50).crop((0, 0, 32, SIDE)))
    _write(root / "images/tiny.png", photograph(51).crop((0, 0, 8, 8)))
    _write(root / "images/a line.png", photograph(52).crop((0, 0, 1, SIDE)))
    broken = root / "images/broken photograph.png"
    broken.write_bytes(broken.read_bytes()[:200])

    masks = root / "masks"
    good = mask()
    for name in ("two masks.bmp", "two masks_mask.png", "shared.png", "orphan.png", "broken photograph.png"):
        _write(masks / name, Image.fromarray(good))
    _write(masks / "of another size.png", Image.fromarray(good[:32]))
    _write(masks / "turned.png", Image.fromarray(good[:32]))
    (masks / "damaged.png").write_bytes(encoded(Image.fromarray(good), "PNG")[:60])
    (masks / "text.png").write_text("this was to be drawn later")
    _write(masks / "grey.png", Image.fromarray(_with(good, 90)))
    _write(masks / "empty.png", Image.fromarray(good * 0))
    _write(masks / "ignored.png", Image.fromarray(good * 0 + 7))
    _write(masks / "tiny.png", Image.fromarray(good[:8, :8]))
    _write(masks / "a line.png", Image.fromarray(good[:, :1]))
    _write(masks / "blurred.jpg", Image.fromarray(good))

    _write(masks / "one bit.png", Image.fromarray(good > 0))
    _write(masks / "ones.png", Image.fromarray(good // 255))
    _write(masks / "white.png", Image.fromarray(good))
    _write(masks / "with suffix_mask.tif", Image.fromarray(good))
    _write(masks / "partly ignored.png", Image.fromarray(_with(good, 7)))
    _write(masks / "all crack.png", Image.fromarray(good * 0 + 255))


def mask(value: int = 255) -> np.ndarray:
    """A mask with a crack of 4 px across, not on the blocks of a JPEG."""
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[30:34] = value
    return pixels


def _with(pixels: np.ndarray, value: int) -> np.ndarray:
    pixels = pixels.copy()
    pixels[:5] = value
    return pixels


def _write(path: Path, image: Image.Image) -> None:
    kind = {".png": "PNG", ".jpg": "JPEG", ".bmp": "BMP", ".tif": "TIFF"}[path.suffix]
    path.write_bytes(encoded(image, kind))
