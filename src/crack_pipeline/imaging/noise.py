"""Random fields: smooth noise, several octaves of it, lit reliefs and speckles."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Cell = float | tuple[float, float]


def nearly_normal(shape: tuple[int, ...], rng: np.random.Generator) -> Field:
    """Draw white noise several times faster than normal deviates.

    Parameters
    ----------
    shape
        Of the field.
    rng
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        float32, of mean 0 and deviation 1: sums of three bytes (Irwin and Hall), none further than 3 from 0.
    """
    size = math.prod(shape)
    words = rng.integers(0, 2**64, -(-3 * size // 8), dtype=np.uint64)
    parts = words.view(np.uint8)[: 3 * size].reshape(3, *shape)
    total = cv2.add(cv2.add(parts[0], parts[1], dtype=cv2.CV_16S), parts[2], dtype=cv2.CV_16S)
    gain = 1 / math.sqrt(3 * (256**2 - 1) / 12)
    noise = np.multiply(total, np.float32(gain), dtype=np.float32)
    noise -= np.float32(382.5 * gain)
    return noise


def value_noise(shape: tuple[int, int], cell: Cell, rng: np.random.Generator) -> Field:
    """Draw smooth noise: normal deviates on a grid, between them bicubic interpolation.

    Parameters
    ----------
    shape
        Height and width of the field, px.
    cell
        Distance of the grid's points, px: one number, or (vertical, horizontal) for streaks and grain.
        Below 1.5 px the noise is white in that direction.
    rng
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        float32 (H, W), of mean 0 and deviation 1 over many draws.

    Raises
    ------
    ValueError
        If a cell is not positive.
    """
    cells = cell if isinstance(cell, tuple) else (cell, cell)
    if min(cells) <= 0:
        raise ValueError(f"cell must be greater than 0 px, got {cell}")
    if max(cells) < 1.5:
        return rng.standard_normal(shape, dtype=np.float32)
    # Weights, not matrices: a product of small matrices on every core takes longer than it does on one.
    down, across = (_Interpolation(n, step, rng.random()) for n, step in zip(shape, cells, strict=True))
    points = rng.standard_normal((down.points, across.points), dtype=np.float32)
    return down(across(points.T).T)


class _Interpolation:
    """Bicubic interpolation (Catmull-Rom) along the rows of a field whose points are ``step`` px apart.

    The weights are brought to length 1, so that the noise deviates as much between the points as on them.
    """

    def __init__(self, length: int, step: float, offset: float) -> None:
        self.points, self.white = length, step < 1.5
        if self.white:
            return
        position = np.arange(length) / step + (1 + offset)
        self.first = position.astype(np.int64)
        self.points = int(self.first[-1]) + 3
        t = position - self.first
        weights = np.stack([((2 - t) * t - 1) * t, (3 * t - 5) * t * t + 2, ((4 - 3 * t) * t + 1) * t, (t - 1) * t * t])
        weights /= np.sqrt(np.square(weights).sum(axis=0))
        self.weights = weights.astype(np.float32)[..., None]

    def __call__(self, field: Field) -> Field:
        """Interpolate (points, W) to (length, W)."""
        if self.white:
            return field
        result = self.weights[0] * field[self.first - 1]
        for away, weight in enumerate(self.weights[1:]):
            result += weight * field[self.first + away]
        return np.asarray(result, np.float32)


def fractal_noise(
    shape: tuple[int, int], cell: Cell, octaves: int, rng: np.random.Generator, persistence: float = 0.5
) -> Field:
    """Add up octaves of smooth noise, each with half the cell of the one before.

    Parameters
    ----------
    shape
        Height and width of the field, px.
    cell
        Cell of the coarsest octave, px (see `value_noise`).
    octaves
        How many octaves, at least 1.
    rng
        Source of randomness.
    persistence
        Amplitude of an octave relative to the one before, above 0: small is smooth, near 1 is rough.

    Returns
    -------
    numpy.ndarray
        float32 (H, W), of mean 0 and deviation 1 over many draws.
    """
    if octaves < 1:
        raise ValueError(f"octaves must be at least 1, got {octaves}")
    vertical, horizontal = cell if isinstance(cell, tuple) else (cell, cell)
    field = np.zeros(shape, np.float32)
    power = 0.0
    for octave in range(octaves):
        amplitude = persistence**octave
        scale = 0.5**octave
        field += np.float32(amplitude) * value_noise(shape, (vertical * scale, horizontal * scale), rng)
        power += amplitude**2
    field *= np.float32(1 / math.sqrt(power))
    return field


def relief(height: Field, light_angle: float) -> Field:
    """Light a rough surface from one side.

    Parameters
    ----------
    height
        float32 (H, W), the surface's height in any unit.
    light_angle
        Direction from which the light comes, radians, 0 = from the right, growing clockwise.

    Returns
    -------
    numpy.ndarray
        float32 (H, W), positive where the surface faces the light; of mean about 0 and deviation 1.
    """
    slope = cv2.filter2D(height, -1, _SLOPE_X) * np.float32(math.cos(light_angle))
    slope += cv2.filter2D(height, -1, _SLOPE_Y) * np.float32(math.sin(light_angle))
    return slope / np.float32(max(float(slope.std()), 1e-6))


_SLOPE_X = np.array([[0.5, 0.0, -0.5]], np.float32)
_SLOPE_Y = np.array([[0.5], [0.0], [-0.5]], np.float32)


def speckle(shape: tuple[int, int], density: float, sizes: Sequence[float], rng: np.random.Generator) -> Field:
    """Scatter soft grains of random strength and sign.

    Parameters
    ----------
    shape
        Height and width of the field, px.
    density
        Grains of each size per square of 4 x 4 times that size, at least 0; above 1 they merge.
    sizes
        Radii (one standard deviation) of the grains, px.
    rng
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        float32 (H, W); a single grain's peak has a deviation of 1.
    """
    field = np.zeros(shape, np.float32)
    for size in sizes:
        number = int(rng.poisson(density * shape[0] * shape[1] / (16 * size * size)))
        grains = np.zeros(shape, np.float32)
        rows, columns = rng.integers(shape[0], size=number), rng.integers(shape[1], size=number)
        grains[rows, columns] = rng.standard_normal(number, dtype=np.float32)
        field += cv2.GaussianBlur(grains, (0, 0), size) * np.float32(2 * math.pi * size * size)
    return field
