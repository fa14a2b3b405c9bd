"""A simulated camera: optics, sensor, tone curve and JPEG, over a whole picture at once.

It comes last, after the crack and everything else has been drawn. Noise, blur and compression are then the
same inside and outside the crack, and a network can only find a crack by what makes it one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.drawing import Image, check_image
from crack_pipeline.imaging.noise import nearly_normal

Photograph = NDArray[np.uint8]


@dataclass(frozen=True)
class Camera:
    """What a camera does to a picture. Grey values are relative to white."""

    blur: float = 0.6
    """Deviation of the optical blur, px; 0 is sharp."""
    exposure: float = 1.0
    """Factor on the light."""
    gamma: float = 1.0
    """Exponent of the tone curve; above 1 is darker."""
    vignetting: float = 0.05
    """Share of the light that is lost in the corners."""
    shot_noise: float = 0.008
    """Deviation of the light-dependent noise at white; it grows with the root of the light."""
    read_noise: float = 0.004
    """Deviation of the constant noise."""
    noise_grain: float = 0.4
    """Deviation of the blur of the noise itself (demosaicing), px; 0 is white noise."""
    sharpening: float = 0.3
    """Strength of the unsharp mask that cameras apply, 0 to 3."""
    jpeg_quality: int | None = 90
    """Quality of the JPEG round trip, 1 to 100; None leaves it out."""

    def __post_init__(self) -> None:
        ranges = {
            "blur": (0, 20),
            "exposure": (0.01, 10),
            "gamma": (0.1, 10),
            "vignetting": (0, 1),
            "shot_noise": (0, 1),
            "read_noise": (0, 1),
            "noise_grain": (0, 10),
            "sharpening": (0, 3),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} of a camera must lie between {low:g} and {high:g}, got {value!r}")
        if self.jpeg_quality is not None:
            check_quality(self.jpeg_quality)


def choose_camera(
    rng: np.random.Generator, difficulty: float = 0.5, jpeg_quality: tuple[int, int] | None = (75, 95)
) -> Camera:
    """Choose a camera and its settings at random.

    Parameters
    ----------
    rng
        Source of randomness.
    difficulty
        0 (sharp, little noise) to 1 (soft and noisy).
    jpeg_quality
        Lowest and highest quality of the JPEG round trip; None leaves it out.

    Returns
    -------
    Camera
    """
    quality = None if jpeg_quality is None else int(rng.integers(jpeg_quality[0], jpeg_quality[1] + 1))
    return Camera(
        blur=float(rng.uniform(0.3, 0.7 + 0.6 * difficulty)),
        exposure=float(np.exp(rng.normal(0, 0.06))),
        gamma=float(np.exp(rng.normal(0, 0.1))),
        vignetting=float(rng.uniform(0, 0.08)),
        shot_noise=float(rng.uniform(0.002, 0.008 + 0.014 * difficulty)),
        read_noise=float(rng.uniform(0.001, 0.003 + 0.008 * difficulty)),
        noise_grain=float(rng.uniform(0.3, 0.7)),
        sharpening=float(rng.uniform(0, 0.6)),
        jpeg_quality=quality,
    )


def photograph(image: Image, rng: np.random.Generator, camera: Camera | None = None) -> Photograph:
    """Take a photograph of a picture.

    Parameters
    ----------
    image
        uint8 (0 to 255) or float32 (0 to 1), (H, W) or (H, W, 3) in RGB order.
    rng
        Source of randomness.
    camera
        The camera and its settings; chosen at random (`choose_camera`) where left out.

    Returns
    -------
    numpy.ndarray
        uint8, of the same shape.

    Raises
    ------
    TypeError, ValueError
        If the array is not a picture.
    """
    check_image(image)
    if camera is None:
        camera = choose_camera(rng)
    scale = camera.exposure / 255 if image.dtype == np.uint8 else camera.exposure
    light = np.multiply(image, np.float32(scale), dtype=np.float32)
    np.maximum(light, 0, out=light)
    if camera.blur:
        light = cv2.GaussianBlur(light, (0, 0), camera.blur, borderType=cv2.BORDER_REFLECT_101)
    if camera.vignetting:
        _darken_corners(light, camera.vignetting)
    if camera.gamma != 1:
        light = cv2.pow(light, camera.gamma)
    light += _sensor_noise(light, rng, camera)
    soft = light
    if camera.sharpening:
        soft = cv2.GaussianBlur(light, (0, 0), 1.0, borderType=cv2.BORDER_REFLECT_101)
    gain, loss = 255 * (1 + camera.sharpening), -255 * camera.sharpening
    # OpenCV rounds, and keeps what is too dark or too bright at 0 and 255
    picture = np.asarray(cv2.addWeighted(light, gain, soft, loss, 0, dtype=cv2.CV_8U), np.uint8)
    if camera.jpeg_quality is None:
        return picture
    return decode(encode_jpeg(picture, camera.jpeg_quality), colour=picture.ndim == 3)


def _darken_corners(light: NDArray[np.float32], vignetting: float) -> None:
    """Let the light fall off with the square of the distance from the middle, in place."""
    height, width = light.shape[:2]
    y = 1 - np.float32(vignetting / 2) * np.linspace(-1, 1, height, dtype=np.float32) ** 2
    x = 1 - np.float32(vignetting / 2) * np.linspace(-1, 1, width, dtype=np.float32) ** 2
    rows = light.reshape(height, -1)
    rows *= y[:, None]
    rows *= np.repeat(x, rows.shape[1] // width)


def _sensor_noise(light: NDArray[np.float32], rng: np.random.Generator, camera: Camera) -> NDArray[np.float32]:
    noise = nearly_normal(light.shape, rng)
    if camera.noise_grain:
        # blurring takes deviation away, which the gain gives back
        reach = math.ceil(3 * camera.noise_grain)
        kernel = cv2.getGaussianKernel(2 * reach + 1, camera.noise_grain, cv2.CV_32F)
        kernel /= np.sqrt((kernel**2).sum())
        noise = cv2.sepFilter2D(noise, -1, kernel, kernel)
    if camera.shot_noise:
        variance = light * np.float32(camera.shot_noise**2)
        variance += np.float32(camera.read_noise**2)
        noise *= np.sqrt(variance, out=variance)
    else:
        noise *= np.float32(camera.read_noise)
    return noise


def check_quality(quality: int) -> None:
    """Make sure that a JPEG quality is one.

    Raises
    ------
    ValueError
        If it is outside 1 to 100.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality must lie between 1 and 100, got {quality!r}")


def encode_jpeg(image: Photograph, quality: int = 90) -> bytes:
    """Compress a photograph.

    Parameters
    ----------
    image
        uint8 (H, W) or (H, W, 3) in RGB order.
    quality
        1 (small) to 100 (good).

    Returns
    -------
    bytes
        A JPEG file (ITU-T T.81), without metadata: the same photograph gives the same bytes.
    """
    check_quality(quality)
    return _encode(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality])


def encode_png(image: Photograph | NDArray[np.bool_]) -> bytes:
    """Compress a photograph or a mask without loss.

    Parameters
    ----------
    image
        uint8 (H, W) or (H, W, 3) in RGB order, or bool (H, W): True is white, False black.

    Returns
    -------
    bytes
        A PNG file.
    """
    picture = image.astype(np.uint8) * np.uint8(255) if image.dtype == np.bool_ else image
    return _encode(picture, ".png", [cv2.IMWRITE_PNG_COMPRESSION, 6])


def _encode(image: NDArray[np.generic], kind: str, options: list[int]) -> bytes:
    stored = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    succeeded, data = cv2.imencode(kind, stored, options)
    if not succeeded:
        raise ValueError(f"OpenCV could not write a {kind} of the shape {image.shape}")
    return bytes(data)


def decode(data: bytes, colour: bool = True) -> Photograph:
    """Decompress what `encode_jpeg` or `encode_png` wrote.

    Parameters
    ----------
    data
        A JPEG or PNG file.
    colour
        Whether RGB (H, W, 3) is wanted, or grey (H, W).

    Returns
    -------
    numpy.ndarray
        uint8.

    Raises
    ------
    ValueError
        If it is neither.
    """
    flag = cv2.IMREAD_COLOR_RGB if colour else cv2.IMREAD_GRAYSCALE
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    if decoded is None:
        raise ValueError(f"{len(data)} bytes that are no JPEG or PNG file")
    return np.asarray(decoded, np.uint8)
