"""What lies on sound concrete and is no crack: blots, straight seams and joints, stains and shadows.

They are drawn, without a label, on photographs with and without a crack: a detector must not learn that
everything dark or long is a crack.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.drawing import (
    Field,
    Image,
    change_light,
    check_image,
    fill_polygons,
    irregular_outlines,
    multiplied,
)
from crack_pipeline.imaging.noise import fractal_noise, value_noise


@dataclass(frozen=True)
class NuisanceStyle:
    """Expected numbers of each kind of nuisance in a picture, and how strong they are."""

    blots: float = 0.5
    """Small dark spots: dirt, oil, knocked-out grains."""
    seams: float = 0.15
    """Straight joints between formwork boards, of even width, a few px wide."""
    joints: float = 0.0
    """Straight grooves up to a quarter of the picture wide: between slabs, along an edge."""
    stains: float = 0.5
    """Soft patches of damp, dirt, rust or efflorescence."""
    shadows: float = 0.15
    """Shadows of something outside the picture."""
    strength: float = 0.5
    """Largest share of the light that a blot or seam takes away, 0 to 1; joints are as dark as they are deep."""

    def __post_init__(self) -> None:
        for name in ("blots", "seams", "joints", "stains", "shadows"):
            if not 0 <= getattr(self, name) <= 50:
                raise ValueError(f"the number of {name} must lie between 0 and 50, got {getattr(self, name)!r}")
        if not 0 <= self.strength <= 1:
            raise ValueError(f"strength of nuisances must lie between 0 and 1, got {self.strength!r}")


def choose_nuisances(rng: np.random.Generator, difficulty: float = 0.5) -> NuisanceStyle:
    """Choose how much sound concrete looks like a crack.

    Parameters
    ----------
    rng
        Source of randomness.
    difficulty
        0 (next to nothing) to 1 (much, and dark).

    Returns
    -------
    NuisanceStyle
    """
    return NuisanceStyle(
        blots=2.0 * difficulty * float(rng.random()),
        seams=0.36 * difficulty,
        stains=0.3 + 0.9 * difficulty,
        shadows=0.05 + 0.3 * difficulty,
        strength=0.25 + 0.55 * difficulty,
    )


def draw_nuisances(image: Image, rng: np.random.Generator, style: NuisanceStyle | None = None) -> Image:
    """Draw blots, seams, joints, stains and shadows on a picture of concrete.

    Parameters
    ----------
    image
        uint8 (0 to 255) or float32 (0 to 1), (H, W) or (H, W, 3) in RGB order. Not changed.
    rng
        Source of randomness.
    style
        How many of each; chosen at random (`choose_nuisances`) where left out.

    Returns
    -------
    numpy.ndarray
        A new picture of the same shape and dtype. There is no mask: nothing of this is a crack.

    Raises
    ------
    TypeError, ValueError
        If the array is not a picture.
    """
    check_image(image)
    if style is None:
        style = choose_nuisances(rng)
    return change_light(image, nuisance_light((image.shape[0], image.shape[1]), rng, style, image.ndim == 3))


def nuisance_light(shape: tuple[int, int], rng: np.random.Generator, style: NuisanceStyle, colour: bool) -> Field:
    """Say how much light comes back from blots, seams, joints, stains and shadows.

    Parameters
    ----------
    shape
        Height and width, px.
    rng
        Source of randomness.
    style
        How many of each.
    colour
        Whether stains have their colour, or its mean.

    Returns
    -------
    numpy.ndarray
        float32 (H, W), or (H, W, 3) where there is colour: the factor on the light.
    """
    factor = np.ones(shape, np.float32)
    for _ in range(rng.poisson(style.seams)):
        factor *= _seam(shape, style.strength, rng)
    for _ in range(rng.poisson(style.joints)):
        factor *= _joint(shape, rng)
    blots = int(rng.poisson(style.blots))
    if blots:
        factor *= _blots(shape, blots, style.strength, rng)
    for _ in range(rng.poisson(style.shadows)):
        factor *= _shadow(shape, rng)
    for _ in range(rng.poisson(style.stains)):
        weight, stain = _stain(shape, rng)
        channels = stain - 1 if colour else stain.mean(keepdims=True) - 1
        stained = cv2.merge([1 + weight * channel for channel in channels])
        factor = multiplied(factor, stained)
    return factor


_STAIN_COLOURS = np.array(
    [
        [0.86, 0.86, 0.87],  # damp
        [0.84, 0.82, 0.78],  # dirt
        [0.96, 0.91, 0.84],  # rust
        [1.07, 1.07, 1.06],  # efflorescence
        [0.92, 0.93, 0.90],  # algae
    ],
    np.float32,
)

_STAIN_SHARES = np.cumsum([0.3, 0.3, 0.12, 0.16])


def _stain(shape: tuple[int, int], rng: np.random.Generator) -> tuple[Field, NDArray[np.float32]]:
    """Give weight and colour of a patch with a soft, ragged edge; at times drawn out by running water."""
    # A stain has no detail that half the resolution would lose.
    half = (-(-shape[0] // 2), -(-shape[1] // 2))
    cell = min(half) * rng.uniform(0.25, 0.6)
    runs = rng.random() < 0.3
    pattern = fractal_noise(half, (4 * cell, cell / 2) if runs else cell, 4, rng, persistence=0.55)
    edge = rng.uniform(1, 3) if runs else rng.uniform(1.5, 8)
    level = rng.uniform(0.6, 1.5)
    colour = _STAIN_COLOURS[np.searchsorted(_STAIN_SHARES, rng.random())]
    weight = _step(pattern - np.float32(level), edge) * np.float32(rng.uniform(0.4, 1.1))
    return np.asarray(cv2.resize(weight, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32), colour


def _step(distance: Field, steepness: float) -> Field:
    """Go softly from 0 to 1 where the distance goes from negative to positive."""
    return np.float32(0.5) * (1 + np.tanh(np.float32(steepness / 2) * distance))


def _line(shape: tuple[int, int], through: tuple[float, float], angle: float) -> Field:
    """Measure every pixel's signed distance from a line; ``angle`` is that of the line's normal."""
    x = (np.arange(shape[1], dtype=np.float32) - np.float32(through[0])) * np.float32(math.cos(angle))
    y = (np.arange(shape[0], dtype=np.float32) - np.float32(through[1])) * np.float32(math.sin(angle))
    return np.asarray(y[:, None] + x, np.float32)


def _seam(shape: tuple[int, int], strength: float, rng: np.random.Generator) -> Field:
    """Give the factor of a straight joint: a dark line, a lighter ridge beside it, a step in tone."""
    height, width = shape
    upright = rng.random() < 0.5
    through = (width * rng.uniform(0.15, 0.85), height * rng.uniform(0.15, 0.85))
    distance = _line(shape, through, (0.0 if upright else math.pi / 2) + rng.normal(0, 0.04))
    half = np.float32(rng.uniform(0.35, 1.4) * min(shape) / 128)
    line = np.clip(half + np.float32(0.5) - np.abs(distance), 0, 1)
    # mortar fills the joint in places
    length = height if upright else width
    filled = np.interp(np.arange(length), np.linspace(0, length, 30), rng.uniform(0.3, 1, 30))
    depth = (filled * strength * rng.uniform(0.3, 1)).astype(np.float32)
    dark = line * (depth[:, None] if upright else depth)
    ridge = np.clip(1 - np.abs(distance / half - 2.5) / 1.5, 0, 1) * np.float32(rng.uniform(0, 0.1))
    step = np.float32(rng.normal(0, 0.03)) * np.sign(distance)
    return (1 - dark) * (1 + ridge + step)


def _joint(shape: tuple[int, int], rng: np.random.Generator) -> Field:
    """Give the factor of a groove with straight edges: sharp or worn, evenly dark or darker on one side."""
    height, width = shape
    through = (width * rng.uniform(0, 1), height * rng.uniform(0, 1))
    # most run along the sides of the picture, as people hold their cameras
    angle = rng.integers(4) * math.pi / 2 + (rng.normal(0, 0.05) if rng.random() < 0.7 else rng.uniform(0, math.pi))
    half = min(shape) / 128 * math.exp(rng.uniform(math.log(1.5), math.log(14)))
    distance = _line(shape, through, angle)
    if rng.random() < 0.5:
        distance += np.float32(0.06 * half * rng.random()) * value_noise(shape, max(4.0, 2 * half), rng)
    inside = _step(np.float32(half) - np.abs(distance), 4 / (half * rng.uniform(0.1, 1)))
    slope = np.float32(rng.uniform(-1, 1) / (2 * half))
    return 1 - np.float32(rng.uniform(0.15, 0.9)) * inside * np.minimum(np.maximum(1 + slope * distance, 0.2), 1)


def _blots(shape: tuple[int, int], number: int, strength: float, rng: np.random.Generator) -> Field:
    """Give the factor of small dark spots, some of them sharp, some soft."""
    height, width = shape
    radii = min(shape) / 128 * np.minimum(9, 1.2 * (1 + rng.pareto(2.2, number)))
    centres = rng.uniform((0, 0), (width, height), (number, 2))
    outlines = irregular_outlines(centres, radii, rng, elongation=2.2, irregularity=0.22)
    dark = fill_polygons(shape, outlines, strength * rng.uniform(0.3, 1, number))
    if rng.random() < 0.5:
        dark = cv2.GaussianBlur(dark, (0, 0), rng.uniform(0.6, 2))
    return 1 - dark


def _shadow(shape: tuple[int, int], rng: np.random.Generator) -> Field:
    """Give the factor of the shadow of an edge or a bar, with a soft penumbra."""
    height, width = shape
    through = (width * rng.uniform(0.2, 0.8), height * rng.uniform(0.2, 0.8))
    distance = _line(shape, through, rng.uniform(0, 2 * math.pi))
    # the edge that throws the shadow, and the surface it falls on, are never quite straight
    distance += np.float32(min(shape) * 0.02) * value_noise(shape, min(shape) / 3, rng)
    steepness = 1 / (min(shape) * rng.uniform(0.02, 0.12))
    covered = _step(distance, steepness)
    if rng.random() < 0.4:
        covered = covered - _step(distance - np.float32(min(shape) * rng.uniform(0.15, 0.4)), steepness)
    return 1 - np.float32(rng.uniform(0.08, 0.3)) * covered
