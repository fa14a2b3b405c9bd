"""Photographs of many sizes and formats, as files."""

from __future__ import annotations

import base64
import io

import cv2
import numpy as np
from PIL import Image

from crack_pipeline.imaging.scenes import render_scene


def scene(height: int, width: int, seed: int = 1) -> np.ndarray:
    """A rendered photograph with a crack: (H, W, 3) uint8."""
    image = render_scene((height, width), np.random.default_rng(seed), 0.5, True).image
    image = image if image.dtype == np.uint8 else (image * 255).astype(np.uint8)
    return image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)


def files() -> dict[str, bytes]:
    """The same kind of photograph in every format, in different sizes, shapes and depths of colour."""
    found = {}
    for name, (height, width) in {"jpg": (200, 130), "png": (64, 64), "webp": (97, 211), "bmp": (32, 35)}.items():
        _, data = cv2.imencode(f".{name}", scene(height, width)[..., ::-1])
        found[name] = data.tobytes()
    _, wide = cv2.imencode(".tif", scene(120, 90)[..., 0].astype(np.uint16) * 257)
    found["tif of 16 bits"] = wide.tobytes()
    stream = io.BytesIO()
    Image.fromarray(scene(140, 100)).save(stream, "JPEG", exif=_turned())
    found["turned jpg"] = stream.getvalue()
    stream = io.BytesIO()
    Image.fromarray(scene(70, 110)).convert("L").save(stream, "PNG")
    found["grey png"] = stream.getvalue()
    return found


def text(data: bytes) -> str:
    """In base64."""
    return base64.b64encode(data).decode()


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    return exif
