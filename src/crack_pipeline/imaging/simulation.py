"""Cracks simulated on squares cut from photographs of sound concrete, as the same camera would have taken them.

What is drawn, cracks and nuisances, is a factor on the light that the concrete gives back. The factor is blurred as the
camera blurs, noise takes the place of the noise that the darkening took away, and the whole square is compressed: a
network that learns from it can find a crack by nothing but its look.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from crack_pipeline.imaging.camera import decode, encode_jpeg
from crack_pipeline.imaging.cracks import CrackStyle, choose_crack, crack_light, plan_crack, rasterise
from crack_pipeline.imaging.drawing import multiplied, soften, thrice
from crack_pipeline.imaging.noise import nearly_normal
from crack_pipeline.imaging.nuisances import choose_nuisances, nuisance_light

_WIDEST, _NARROWEST = 100.0, 1.0
_TRIES = 8
_FILLED = 3.0
"""Cracks wider than this, in px, can be filled."""
_NARROW = 6.0
"""Cracks wider than this, in px, are never faint."""
_FAINTEST, _ABOVE_GRAIN = 0.1, 1.6
"""Contrast of what can be seen on concrete without grain, and how many deviations of the grain it must be."""
_SOFT = 0.4
"""Share of the cracks without sharp edges."""
_ROUGH, _COARSE = 0.5, 4.0
"""Share of the squares whose cracks show their ground, and the deviation of a Gaussian, px, that leaves no grain."""


class Simulation(BaseModel):
    """What is drawn on sound concrete."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cracked: float = Field(0.75, ge=0, le=1, description="share of the squares that get a crack")
    width: tuple[float, float] = Field(
        (1.5, 24.0),
        description="mean width of the narrowest and of the widest crack, px or mm; it varies along each",
    )
    millimetres_per_pixel: float | None = Field(
        None, gt=0, description="scale of the photographs; where given, widths are in mm"
    )
    density: float = Field(1.3, ge=1, le=20, description="mean number of cracks in a square that gets any")
    branches: float | None = Field(None, ge=0, le=20, description="mean number of branches of a crack; null: 0 to 2.5")
    orientation: tuple[float, float] | None = Field(
        None, description="degrees between which cracks run, 0 = from left to right, clockwise; null: any"
    )
    difficulty: tuple[float, float] = Field(
        (0.0, 0.9),
        description="from dark, 0, to hardly darker than the concrete, 1; half of the wide ones are always dark",
    )
    faint: float = Field(
        0.1, ge=0, le=1, description="share of the narrow cracks that are as faint as their concrete lets be seen"
    )
    nuisances: float = Field(0.6, ge=0, le=1, description="share of the squares with stains, blots, seams, shadows")
    joints: float = Field(0.25, ge=0, le=20, description="mean number of wide straight joints in those squares")

    @model_validator(mode="after")
    def _ranges(self) -> Simulation:
        for name in ("width", "difficulty", "orientation"):
            value = getattr(self, name)
            if value is not None and value[0] > value[1]:
                raise ValueError(f"{name} goes from {value[0]:g} to {value[1]:g}: the smaller one comes first")
        narrowest, widest = self.width_px
        if narrowest < _NARROWEST or widest > _WIDEST:
            raise ValueError(
                f"cracks would be {narrowest:g} to {widest:g} px wide; {_NARROWEST:g} to {_WIDEST:g} px can be drawn: "
                "change width" + (" or millimetres_per_pixel" if self.millimetres_per_pixel else "")
            )
        if not 0 <= self.difficulty[0] <= self.difficulty[1] <= 1:
            raise ValueError(f"difficulty must lie between 0 and 1, got {self.difficulty}")
        return self

    @property
    def width_px(self) -> tuple[float, float]:
        """Narrowest and widest crack in px."""
        scale = self.millimetres_per_pixel or 1.0
        return self.width[0] / scale, self.width[1] / scale


@dataclass(frozen=True)
class Traces:
    """What a camera leaves in its photographs.

    Attributes
    ----------
    blur
        Deviation of the blur, px.
    noise
        Deviation of the noise, relative to white.
    jpeg_quality
        1 to 100; None if it left none.
    """

    blur: float
    noise: float
    jpeg_quality: int | None


def simulate(
    square: NDArray[np.uint8], rng: np.random.Generator, simulation: Simulation, traces: Traces
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Simulate cracks and nuisances on sound concrete.

    Parameters
    ----------
    square
        (S, S) or (S, S, 3) uint8, S at least 32. Not changed.
    rng
        Source of randomness: the same state gives the same picture.
    simulation
        What is drawn.
    traces
        Of the camera that took the photograph.

    Returns
    -------
    image : ndarray of uint8
        In the form of the square.
    mask : ndarray of uint8
        (S, S), 1 where the ideal crack covers at least half of the pixel, elsewhere 0.
    """
    shape: tuple[int, int] = (square.shape[0], square.shape[1])
    light: NDArray[np.float32] = np.ones(shape, np.float32)
    difficulty = float(rng.uniform(*simulation.difficulty))
    colour = square.ndim == 3
    if rng.random() < simulation.nuisances:
        nuisances = replace(choose_nuisances(rng, difficulty), joints=simulation.joints)
        light = nuisance_light(shape, rng, nuisances, colour)
    mask = np.zeros(shape, np.bool_)
    depth: NDArray[np.float32] = np.ones(shape, np.float32)
    if rng.random() < simulation.cracked:
        sun = float(rng.uniform(-math.pi, math.pi))
        for _ in range(1 + rng.poisson(simulation.density - 1)):
            factor, drawn, tint = _draw(square, rng, simulation, difficulty, sun)
            light = multiplied(light, _coloured(factor, tint) if colour else factor)
            depth *= factor
            mask |= drawn
    roughness = float(rng.uniform(0.2, 0.7)) if rng.random() < _ROUGH else 0.0
    return _photograph(square, light, roughness * (1 - depth), rng, traces), mask.astype(np.uint8)


def _draw(
    square: NDArray[np.uint8], rng: np.random.Generator, simulation: Simulation, difficulty: float, light: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[float, float, float]]:
    """Draw one crack, once more if it all but misses the square: factor on the light (H, W), mask, and colour."""
    shape: tuple[int, int] = (square.shape[0], square.shape[1])
    for _ in range(_TRIES):
        style = _style(rng, simulation, difficulty, shape, light)
        coverage = rasterise(plan_crack(shape, rng, style), shape)
        mask = coverage >= np.float32(0.5)
        if mask.sum() >= 0.2 * min(shape):
            break
    else:
        # What is hardly in the mask must not be in the picture: it would be a crack that is called none.
        return np.ones_like(coverage), np.zeros_like(mask), style.tint
    if style.width <= _NARROW and rng.random() < simulation.faint:
        style = _fade(style, _faintest(square), rng)
    factor = crack_light(coverage, rng, style)
    if rng.random() < _SOFT:
        # Edges are worn, and slope into the depth.
        factor = soften(factor, float(rng.uniform(0.05, 0.3)) * style.width)
    return factor, mask, style.tint


def _coloured(factor: NDArray[np.float32], tint: tuple[float, float, float]) -> NDArray[np.float32]:
    """Give what was drawn in grey a colour, the more the deeper it is: (H, W) becomes (H, W, 3)."""
    lost = 1 - factor
    channels = [factor if one == 1 else factor * (1 + np.float32(one - 1) * lost) for one in tint]
    return np.asarray(cv2.merge(channels), np.float32)


def _style(
    rng: np.random.Generator, simulation: Simulation, difficulty: float, shape: tuple[int, int], light: float
) -> CrackStyle:
    narrowest, widest = simulation.width_px
    width = float(np.exp(rng.uniform(math.log(narrowest), math.log(widest))))
    style = choose_crack(rng, difficulty, shape, light, width)
    if width > _FILLED and rng.random() < 0.5:
        # Dust and what has broken off lie in many a wide crack, and give light back: but less than a stain does.
        warm = float(rng.normal(0.04, 0.08))
        style = replace(
            style,
            contrast=float(rng.uniform(min(0.45, style.contrast), style.contrast)),
            unevenness=float(rng.uniform(style.unevenness, 0.8)),
            tint=(1 + warm, 1.0, 1 - warm),
        )
    if simulation.branches is not None:
        style = replace(style, branches=simulation.branches)
    if simulation.orientation is not None:
        style = replace(style, direction=math.radians(float(rng.uniform(*simulation.orientation))))
    return style


def _faintest(square: NDArray[np.uint8]) -> float:
    """Give the contrast of the faintest crack that can be told from the grain of the concrete."""
    grey = (square if square.ndim == 2 else square[..., 1]).astype(np.float32)
    grain = float((grey - soften(grey, _COARSE)).std())
    return max(_FAINTEST, _ABOVE_GRAIN * grain / max(float(grey.mean()), 1.0))


def _fade(style: CrackStyle, faintest: float, rng: np.random.Generator) -> CrackStyle:
    """Make a crack as faint as it can be seen, up to twice as dark, its rims and shadows with it."""
    contrast = min(style.contrast, faintest * float(rng.uniform(1, 2)))
    share = contrast / style.contrast
    return replace(style, contrast=contrast, lip=share * style.lip, halo=share * style.halo)


def _photograph(
    square: NDArray[np.uint8],
    factor: NDArray[np.float32],
    rough: NDArray[np.float32],
    rng: np.random.Generator,
    traces: Traces,
) -> NDArray[np.uint8]:
    """Let a camera see light: ``rough``, (H, W), is the share of the texture that shallow ground gives back."""
    factor = soften(factor, traces.blur * float(rng.uniform(0.8, 1.25)))
    grey = factor if factor.ndim == 2 else factor[..., 1]
    channels = thrice if square.ndim == 3 else np.asarray
    light = cv2.multiply(square, factor if factor.ndim == square.ndim else channels(factor), dtype=cv2.CV_32F)
    if rough.any():
        texture = cv2.subtract(square, soften(square.astype(np.float32), _COARSE), dtype=cv2.CV_32F)
        light += channels(rough) * texture
    if traces.noise > 0:
        # Grain is grey: noise of each colour for itself would be coloured, and fainter than what it takes the place of.
        lost = 1 - np.square(grey + rough)
        grain = np.sqrt(np.maximum(lost, 0, out=lost), out=lost)
        grain *= np.float32(255 * traces.noise)
        grain *= nearly_normal(grey.shape, rng)
        light += channels(grain)
    # OpenCV rounds, and cuts off what a camera cannot show.
    picture = np.asarray(cv2.add(light, 0.0, dtype=cv2.CV_8U), np.uint8)
    if traces.jpeg_quality is None:
        return picture
    return decode(encode_jpeg(picture, traces.jpeg_quality), colour=picture.ndim == 3)
