"""Renders sound concrete: its tone, its texture, what is in it and how it is lit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.drawing import Field, fill_polygons, irregular_outlines, shifted
from crack_pipeline.imaging.noise import fractal_noise, relief, speckle, value_noise

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class ConcreteStyle:
    """How a concrete surface looks. Strengths are deviations relative to the surface's brightness."""

    tone: float = 0.66
    """Brightness, 0 (black) to 1 (white)."""
    warmth: float = 0.0
    """Colour cast: negative is bluish, positive is yellowish."""
    scale: float = 1.0
    """Size of everything on the surface, px per px of a photograph of 200 px."""
    mottling: float = 0.04
    """Cloudiness: differences in moisture and cement."""
    roughness: float = 0.03
    """Unevenness, lit from the side."""
    roughness_cell: float = 7.0
    """Wave length of the unevenness, px."""
    sand: float = 0.03
    """Grains of sand."""
    stones: float = 0.0
    """Share of the surface where aggregate is exposed, 0 to 1."""
    pores: float = 2.0
    """Expected number of bug-holes in 100 x 100 px."""
    pore_depth: float = 0.4
    """Share of the light that a bug-hole takes away, 0 to 1."""
    boards: float = 0.0
    """Grain of the formwork boards."""
    gradient: float = 0.05
    """Fall of the light from one side of the picture to the other."""
    light_angle: float = -2.0
    """Direction from which the light comes, radians, 0 = from the right, growing clockwise."""

    def __post_init__(self) -> None:
        ranges = {
            "tone": (0.02, 1),
            "warmth": (-0.5, 0.5),
            "scale": (0.05, 50),
            "mottling": (0, 1),
            "roughness": (0, 1),
            "roughness_cell": (1, 500),
            "sand": (0, 1),
            "stones": (0, 1),
            "pores": (0, 200),
            "pore_depth": (0, 1),
            "boards": (0, 1),
            "gradient": (0, 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} of concrete must lie between {low:g} and {high:g}, got {value!r}")


def choose_concrete(
    rng: np.random.Generator, difficulty: float = 0.5, shape: tuple[int, int] = (200, 200)
) -> ConcreteStyle:
    """Choose the look of a concrete surface at random.

    Parameters
    ----------
    rng
        Source of randomness.
    difficulty
        0 (smooth and even) to 1 (rough, full of pores).
    shape
        Height and width of the picture, px: its content grows with it.

    Returns
    -------
    ConcreteStyle
    """
    busy = 0.45 + 0.9 * difficulty
    rough = float(rng.beta(1.6, 2.6))
    return ConcreteStyle(
        tone=float(np.clip(rng.normal(0.66, 0.1), 0.36, 0.86)),
        warmth=float(np.clip(rng.normal(0.012, 0.028), -0.028, 0.07)),
        scale=min(shape) / 200 * float(np.exp(rng.normal(0, 0.25))),
        mottling=float(rng.uniform(0.015, 0.045 + 0.03 * difficulty)),
        roughness=busy * (0.012 + 0.075 * rough),
        roughness_cell=float(rng.uniform(3, 13)),
        sand=busy * (0.012 + 0.07 * rough * float(rng.random())),
        stones=float(rng.uniform(0.15, 0.5)) if rng.random() < 0.12 else 0.0,
        pores=busy * float(rng.choice([0.3, 1.8, 5.0], p=[0.4, 0.4, 0.2])),
        pore_depth=float(rng.uniform(0.15, 0.3 + 0.4 * difficulty)),
        boards=float(rng.uniform(0.01, 0.028)) if rng.random() < 0.18 else 0.0,
        gradient=float(rng.uniform(0, 0.12)),
        light_angle=float(rng.uniform(-math.pi, math.pi)),
    )


def render_concrete(shape: tuple[int, int], rng: np.random.Generator, style: ConcreteStyle | None = None) -> Picture:
    """Render a sound concrete surface, before the camera.

    Parameters
    ----------
    shape
        Height and width, px.
    rng
        Source of randomness.
    style
        Look of the surface; chosen at random (`choose_concrete`) where left out.

    Returns
    -------
    numpy.ndarray
        float32 (H, W, 3), red, green and blue from 0 to 1, in the tone curve of a display.
    """
    if style is None:
        style = choose_concrete(rng, shape=shape)
    size = style.scale
    surface = 1 + np.float32(style.mottling) * _mottling(shape, rng, size)
    surface += np.float32(style.roughness) * _unevenness(shape, rng, style)
    surface += np.float32(style.sand) * speckle(shape, 0.5, (0.55, 0.9 * size + 0.2, 1.6 * size + 0.3), rng)
    if style.boards:
        surface += np.float32(style.boards) * _board_grain(shape, rng, size)
    if style.stones:
        surface *= _stones(shape, rng, style)
    if style.pores:
        surface *= _pores(shape, rng, style)
    surface *= _lighting(shape, style)
    surface *= np.float32(style.tone)
    # highlights are compressed, as the tone curve of a camera does
    surface = np.where(surface > 0.8, 0.8 + 0.2 * np.tanh((surface - 0.8) / 0.2), surface)
    # the cast varies a little: cement, rust, algae
    cast = np.float32(style.warmth) + np.float32(0.004) * fractal_noise(shape, 60 * size, 5, rng, 0.8)
    channels = [surface * (1 + cast), surface, surface * (1 - np.float32(1.3) * cast)]
    return np.clip(np.stack(channels, axis=2), 0, 1).astype(np.float32)


def _mottling(shape: tuple[int, int], rng: np.random.Generator, size: float) -> Field:
    """Cloud the surface: soft clouds, patches with an edge where paste came off, and a fine bloom."""
    clouds = fractal_noise(shape, 90 * size, 4, rng, persistence=0.6)
    patches = np.tanh(2.5 * (fractal_noise(shape, 26 * size, 4, rng, persistence=0.6) - rng.uniform(-0.5, 1.5)))
    bloom = fractal_noise(shape, 7 * size, 3, rng, persistence=0.8)
    soft, edged, fine = rng.dirichlet((3.0, 1.5, 2.0)).astype(np.float32)
    return np.float32(1.6) * (soft * clouds + edged * patches + fine * bloom)


def _unevenness(shape: tuple[int, int], rng: np.random.Generator, style: ConcreteStyle) -> Field:
    """Light a rough surface; dents are deeper than bumps are high."""
    height = fractal_noise(shape, style.roughness_cell * style.scale, 3, rng, persistence=0.45)
    lit = relief(height, style.light_angle)
    # roughness comes in patches: trowelled here, scraped there
    patches = np.clip(1 + 0.45 * value_noise(shape, 60 * style.scale, rng), 0.25, 2)
    return (np.tanh(0.7 * lit) - 0.18 * np.maximum(-lit - 1, 0) + 0.25 * np.tanh(height)) * patches


def _board_grain(shape: tuple[int, int], rng: np.random.Generator, size: float) -> Field:
    """Press the grain of wooden boards into the surface, upright or lying."""
    fine, coarse = 2.5 * size + 0.5, 9 * size
    upright = rng.random() < 0.6
    grain: Field | float = 0.0
    for width, length in ((fine, 120 * size), (coarse, 400 * size)):
        grain = grain + value_noise(shape, (length, width) if upright else (width, length), rng)
    # the grain does not show everywhere
    return np.asarray(grain * np.clip(0.7 + 0.6 * value_noise(shape, 70 * size, rng), 0, 1.6), np.float32)


def _stones(shape: tuple[int, int], rng: np.random.Generator, style: ConcreteStyle) -> Field:
    """Expose aggregate: pebbles of many sizes, each with a tone of its own."""
    height, width = shape
    sizes = style.scale * np.array([3.2, 2.2, 1.4])
    numbers = rng.poisson(style.stones / 3 * height * width / (math.pi * sizes**2))
    # large ones first: small ones fill what is left
    radii = np.repeat(sizes, np.minimum(numbers, 1500))
    radii *= rng.uniform(0.7, 1.3, len(radii))
    centres = rng.uniform((0, 0), (width, height), (len(radii), 2))
    outlines = irregular_outlines(centres, radii, rng, elongation=1.7, irregularity=0.13)
    # tones are stored as 0.5 plus the difference to the cement paste
    tones = 0.5 + np.clip(rng.normal(-0.02, 0.085, len(radii)), -0.35, 0.2)
    drawn = fill_polygons(shape, outlines, tones)
    covered = fill_polygons(shape, outlines)
    return 1 + drawn - 0.5 * covered


def _pores(shape: tuple[int, int], rng: np.random.Generator, style: ConcreteStyle) -> Field:
    """Sink bug-holes: dark on the side of the light, with a bright rim on the other."""
    height, width = shape
    number = min(2000, int(rng.poisson(style.pores * height * width / 1e4 / max(style.scale, 0.3) ** 2)))
    if number == 0:
        return np.ones(shape, np.float32)
    radii = style.scale * np.minimum(6, 0.7 * (1 + rng.pareto(2.6, number)))
    centres = rng.uniform((0, 0), (width, height), (number, 2))
    outlines = irregular_outlines(centres, radii, rng, elongation=1.8, irregularity=0.15)
    holes = fill_polygons(shape, outlines, style.pore_depth * rng.uniform(0.35, 1, number))
    reach = max(0.8, 0.8 * style.scale)
    dx, dy = reach * math.cos(style.light_angle), reach * math.sin(style.light_angle)
    far_wall = np.maximum(holes - shifted(holes, dx, dy), 0)
    rim = np.maximum(shifted(holes, -dx, -dy) - holes, 0)
    return (1 - holes + 0.45 * far_wall) * (1 + 0.22 * rim)


def _lighting(shape: tuple[int, int], style: ConcreteStyle) -> Field:
    """Let the light fall off away from where it comes from."""
    y = np.linspace(-0.5, 0.5, shape[0], dtype=np.float32)[:, None] * np.float32(math.sin(style.light_angle))
    x = np.linspace(-0.5, 0.5, shape[1], dtype=np.float32) * np.float32(math.cos(style.light_angle))
    light: Field = 1 + np.float32(style.gradient) * (y + x)
    return light
