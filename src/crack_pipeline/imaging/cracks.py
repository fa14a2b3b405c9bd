"""Cracks with exact masks, drawn on any picture of concrete: rendered or real.

A crack is planned as strokes (a midpoint-displacement path, its branches, islands and gaps), the strokes are
filled with sub-pixel precision, and the picture is darkened by what they cover. The crack is drawn before the
camera (`crack_pipeline.imaging.camera`), which must then pass over the whole picture: otherwise a network
learns to find the drawn pixels by their noise instead of by the crack.

**Which pixels are in the mask.** A pixel is in the mask exactly where the ideal crack, before the camera,
covers at least half of its square. The lit rims and the soft shadow along a crack are not in the mask, nor is
what the camera's blur spreads.
"""

from __future__ import annotations

import math
from bisect import bisect
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.drawing import (
    FULL,
    OVERSAMPLING,
    SHIFT,
    Field,
    Image,
    Points,
    change_light,
    check_image,
    shifted,
    shrink,
    soften,
    to_subpixels,
)

Mask = NDArray[np.bool_]

STEP = 2.0
"""Distance of a path's points, px, to within a factor of 1.5."""


@dataclass(frozen=True)
class CrackStyle:
    """How a crack looks. Widths are in px, everything else is relative.

    A style with only `width` and `contrast` given and ``plain()`` called on it draws a straight, even crack.
    """

    width: float = 3.0
    """Mean width of the main path, px, 0.5 to 100."""
    contrast: float = 0.6
    """Share of the light that is lost in the crack, above 0, at most 1."""
    width_variation: float = 0.35
    """Deviation of the logarithm of the width along the path."""
    edge_roughness: float = 0.5
    """Deviation of each edge from its place, px."""
    sway: float = 0.16
    """First displacement of the path's midpoint, relative to the distance of its ends."""
    smoothness: float = 0.85
    """Hurst exponent of the path: 0.5 is jagged, 1 is smooth."""
    branches: float = 0.8
    """Expected number of branches."""
    islands: float = 0.3
    """Expected number of places where the crack runs in two arms around a piece of concrete."""
    gaps: float = 0.4
    """Expected number of places where the crack is closed."""
    tips: float = 0.15
    """Probability, for each end, that it lies inside the picture instead of at its border."""
    unevenness: float = 0.3
    """How much the contrast varies along the crack, 0 to 1."""
    lip: float = 0.12
    """Brightening of the rim that faces the light, 0 to 1."""
    halo: float = 0.08
    """Darkening of the concrete close to the crack, 0 to 1."""
    light_angle: float = -2.0
    """Direction from which the light comes, radians, 0 = from the right, growing clockwise."""
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What remains of red, green and blue in the crack, relative to each other; not used on grey."""
    direction: float | None = None
    """Direction in which the main path crosses the picture, radians, as of the light; None is any."""

    def __post_init__(self) -> None:
        ranges = {
            "width": (0.5, 100),
            "contrast": (1e-3, 1),
            "width_variation": (0, 2),
            "edge_roughness": (0, 20),
            "sway": (0, 0.5),
            "smoothness": (0.1, 2),
            "branches": (0, 20),
            "islands": (0, 20),
            "gaps": (0, 20),
            "tips": (0, 1),
            "unevenness": (0, 1),
            "lip": (0, 1),
            "halo": (0, 1),
        }
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} of a crack must lie between {low:g} and {high:g}, got {value!r}")

    def plain(self) -> CrackStyle:
        """Give the straight, even crack of the same width and contrast, without rims and shadow."""
        return CrackStyle(
            width=self.width,
            contrast=self.contrast,
            width_variation=0,
            edge_roughness=0,
            sway=0,
            branches=0,
            islands=0,
            gaps=0,
            tips=0,
            unevenness=0,
            lip=0,
            halo=0,
            direction=self.direction,
        )


@dataclass(frozen=True)
class Stroke:
    """A line of varying width.

    Parameters
    ----------
    left, right
        float64 (n, 2), both edges, (x, y) in px.
    is_open
        bool (n,), False where the crack is closed.
    """

    left: Points
    right: Points
    is_open: NDArray[np.bool_]


def choose_crack(
    rng: np.random.Generator,
    difficulty: float = 0.5,
    shape: tuple[int, int] = (128, 128),
    light_angle: float | None = None,
    width: float | None = None,
) -> CrackStyle:
    """Choose the look of a crack at random.

    Parameters
    ----------
    rng
        Source of randomness.
    difficulty
        0 (wide and dark) to 1 (hairlines that are hardly darker than their surroundings).
    shape
        Height and width of the picture, px; widths grow with its shorter side.
    light_angle
        Direction from which the light comes, radians; random where left out.
    width
        Mean width, px; random, from difficulty and shape, where left out.

    Returns
    -------
    CrackStyle

    Raises
    ------
    ValueError
        If the difficulty is outside 0 to 1.
    """
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty must lie between 0 and 1, got {difficulty!r}")
    scale = 1.0 if width is not None else min(shape) / 128
    low, high = 2.2 - 1.2 * difficulty, 9.5 - 6.5 * difficulty
    relative_width = low * (high / low) ** float(rng.random() ** 1.4)
    if width is not None:
        relative_width = width
    weakest, strongest = 0.6 - 0.38 * difficulty, 0.92 - 0.22 * difficulty
    contrast = float(rng.uniform(weakest, strongest))
    # wide cracks are deep: little light comes back from them, however faint thin ones may be
    contrast += (0.93 - contrast) * min(1.0, max(0.0, (relative_width - 1.8) / 3))
    if width is None:
        width = min(60.0, max(1.0, scale * relative_width))
    warm = float(rng.normal(0, 0.03))
    return CrackStyle(
        width=width,
        contrast=contrast,
        width_variation=float(rng.uniform(0.25, 0.65)),
        edge_roughness=float(rng.uniform(0.12, 0.3)) * width**0.7,
        sway=float(rng.uniform(0.06, 0.24)),
        smoothness=float(rng.uniform(0.7, 1.05)),
        branches=_pick(rng, (0, 0.4, 1.2, 2.5), (0.4, 0.73, 0.93)),
        islands=_pick(rng, (0, 0.5, 1.2), (0.5, 0.85)),
        gaps=_pick(rng, (0, 0.6, 2), (0.5, 0.85)) * float(relative_width < 4),
        tips=0.12,
        unevenness=float(rng.uniform(0.1, 0.5)),
        lip=float(rng.uniform(0, 0.36)) * float(rng.random() < 0.8),
        halo=float(rng.uniform(0, 0.16)),
        light_angle=float(rng.uniform(-math.pi, math.pi)) if light_angle is None else light_angle,
        tint=(1 + warm, 1.0, 1 - warm),
    )


def _pick(rng: np.random.Generator, values: tuple[float, ...], up_to: tuple[float, ...]) -> float:
    """Pick a value; ``up_to`` holds the cumulative probabilities of all but the last."""
    return values[bisect(up_to, rng.random())]


def midpoint_path(start: Points, end: Points, sway: float, smoothness: float, rng: np.random.Generator) -> Points:
    """Draw a fractal path between two points by midpoint displacement.

    Parameters
    ----------
    start, end
        float64 (2,), (x, y) in px.
    sway
        Deviation of the first midpoint, relative to the distance of the ends.
    smoothness
        Hurst exponent: each halving divides the displacement by ``2 ** smoothness``.
    rng
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        float64 (n, 2) with n - 1 a power of two and points about `STEP` px apart; the ends are kept.

    References
    ----------
    Fournier, Fussell and Carpenter: Computer rendering of stochastic models. Communications of the ACM 25
    (6), 1982.
    """
    distance = float(np.hypot(*(end - start)))
    halvings = max(1, round(math.log2(max(distance, 2.0) / STEP)))
    # the displacement is drawn across the line of the ends, and less along it
    offsets = np.zeros((1 + 2**halvings, 2))
    normals = rng.standard_normal((2**halvings, 2))
    used = 0
    for level in range(halvings):
        stride = 2 ** (halvings - level)
        middles = offsets[stride // 2 :: stride]
        number = len(middles)
        amplitude = sway * distance * 2.0 ** (-smoothness * level)
        middles[:] = (offsets[:-1:stride] + offsets[stride::stride]) / 2
        middles += normals[used : used + number] * (amplitude * 0.5, amplitude * 0.12)
        used += number
    along = _positions(len(offsets))[:, None]
    direction = (end - start) / max(distance, 1e-9)
    across = np.array([-direction[1], direction[0]])
    return start + along * (end - start) + offsets[:, :1] * across + offsets[:, 1:] * direction


def plan_crack(shape: tuple[int, int], rng: np.random.Generator, style: CrackStyle) -> list[Stroke]:
    """Lay a crack across a picture: main path, branches, islands and gaps.

    Parameters
    ----------
    shape
        Height and width of the picture, px.
    rng
        Source of randomness.
    style
        Look of the crack.

    Returns
    -------
    list of Stroke
        The main path first.
    """
    start, end, has_tip = _choose_ends(shape, rng, style)
    path = midpoint_path(start, end, style.sway, style.smoothness, rng)
    number = len(path)
    # below a pixel a crack would fall apart in the mask
    widths = np.maximum(style.width * _vary(number, style.width_variation, rng), min(style.width, 1.0))
    position = _positions(number)
    for tip, distance in zip(has_tip, (position, 1 - position), strict=True):
        if tip:
            widths = widths * np.clip(distance / 0.3, 0, 1) ** 0.7
    is_open = np.ones(number, np.bool_)
    for _ in range(rng.poisson(style.gaps)):
        middle, half = rng.random(), rng.uniform(0.01, 0.04)
        distance = np.abs(position - middle)
        is_open &= distance > half
        # the crack narrows over a sixth of its length before it closes
        widths = widths * np.clip((distance - half) / 0.16, 0.1, 1) ** 0.7
    strokes = [_stroke(path, widths, style, rng, is_open)]
    for _ in range(rng.poisson(style.islands)):
        length = int(number * rng.uniform(0.1, 0.3))
        # a piece shorter than a few widths would not show beside the crack
        if length * STEP >= max(8.0, 5 * style.width) and length < number:
            first = int(rng.integers(number - length))
            strokes.append(_island(path[first : first + length], widths[first : first + length], style, rng))
    for _ in range(rng.poisson(style.branches)):
        strokes.append(_branch(path, widths, style, rng))
    return strokes


@lru_cache(maxsize=256)
def _positions(number: int) -> Points:
    """Give ``number`` equally spaced positions from 0 to 1; read-only, for they are kept."""
    positions = np.linspace(0, 1, number)
    positions.flags.writeable = False
    return positions


def _choose_ends(
    shape: tuple[int, int], rng: np.random.Generator, style: CrackStyle
) -> tuple[Points, Points, list[bool]]:
    """Choose a line across the picture, near its middle; it ends beyond the border or, with a tip, inside."""
    height, width = shape
    middle = np.array([width * rng.uniform(0.25, 0.75), height * rng.uniform(0.25, 0.75)])
    angle = rng.uniform(0, 2 * math.pi)
    if style.direction is not None:
        angle = style.direction
    direction = np.array([math.cos(angle), math.sin(angle)])
    ends, has_tip = [], []
    margin = 2 * style.width + 4
    for sign in (-1.0, 1.0):
        ahead = np.where(sign * direction > 0, np.array([width, height]) - middle, middle)
        reach = float(np.min(ahead / np.maximum(np.abs(direction), 1e-9)))
        tip = bool(rng.random() < style.tips)
        way = reach * rng.uniform(0.3, 0.9) if tip else reach + margin
        ends.append(middle + sign * way * direction)
        has_tip.append(tip)
    return ends[0], ends[1], has_tip


def _vary(number: int, deviation: float, rng: np.random.Generator) -> Points:
    """Draw a factor that varies smoothly along a path."""
    if deviation == 0:
        return np.ones(number)
    # one long and one short wave length: about a third and a tenth of the path
    slow, fast = rng.standard_normal(6), rng.standard_normal(max(4, number // 6))
    position = _positions(number)
    wave = 0.8 * np.interp(position, _positions(6), slow)
    wave += 0.6 * np.interp(position, _positions(len(fast)), fast)
    return np.exp(np.minimum(np.maximum(deviation * wave, -1.5), 1.1))


def _stroke(
    path: Points,
    widths: Points,
    style: CrackStyle,
    rng: np.random.Generator,
    is_open: NDArray[np.bool_] | None = None,
) -> Stroke:
    """Give a path its two edges."""
    number = len(path)
    steps = path[1:] - path[:-1]
    normal = np.empty_like(path)
    normal[1:-1, 0], normal[1:-1, 1] = -(steps[:-1, 1] + steps[1:, 1]), steps[:-1, 0] + steps[1:, 0]
    normal[0], normal[-1] = (-steps[0, 1], steps[0, 0]), (-steps[-1, 1], steps[-1, 0])
    normal /= np.maximum(np.hypot(normal[:, :1], normal[:, 1:]), 1e-9)
    half = np.array([widths, widths]) / 2
    if style.edge_roughness:
        # edges break along grains: facets of a few points' length, and crumbs; but a thin crack is not lost
        facets = max(4, number // 3)
        place = _positions(number) * (facets - 1)
        corners = rng.standard_normal((2, facets))
        rough = 0.3 * rng.standard_normal((2, number))
        for side, corner in zip(rough, corners, strict=True):
            side += np.interp(place, np.arange(facets), corner)
        half += np.minimum(np.maximum(style.edge_roughness * rough, -0.6 * half), half + 1)
    if is_open is None:
        is_open = np.ones(len(path), np.bool_)
    return Stroke(path + normal * half[0, :, None], path - normal * half[1, :, None], is_open)


def _island(path: Points, widths: Points, style: CrackStyle, rng: np.random.Generator) -> Stroke:
    """Lead a second arm around a piece of concrete beside the path."""
    distance = float(np.hypot(*(path[-1] - path[0])))
    bulge = rng.choice([-1.0, 1.0]) * distance * rng.uniform(0.15, 0.35)
    direction = (path[-1] - path[0]) / max(distance, 1e-9)
    across = np.array([-direction[1], direction[0]])
    arc = np.sin(np.linspace(0, math.pi, len(path))) ** 0.7
    shake = np.cumsum(rng.standard_normal(len(path)))
    shake -= np.linspace(shake[0], shake[-1], len(path))
    offset = bulge * arc + 0.35 * shake
    return _stroke(path + offset[:, None] * across, widths * rng.uniform(0.3, 0.9), style, rng)


def _branch(path: Points, widths: Points, style: CrackStyle, rng: np.random.Generator) -> Stroke:
    """Let a thinner crack leave the path at an acute angle and taper off."""
    number = len(path)
    root = int(rng.integers(number // 8, max(number // 8 + 1, number - number // 8)))
    ahead = path[min(root + 4, number - 1)] - path[max(root - 4, 0)]
    heading = math.atan2(ahead[1], ahead[0]) + rng.choice([0, math.pi])
    heading += rng.choice([-1, 1]) * rng.uniform(0.35, 1.3)
    total = float(np.hypot(*(path[-1] - path[0])))
    length = total * rng.uniform(0.15, 0.6)
    end = path[root] + length * np.array([math.cos(heading), math.sin(heading)])
    twig = midpoint_path(path[root], end, min(0.5, style.sway * 1.3), style.smoothness, rng)
    along = _positions(len(twig))
    width = max(widths[root], 0.5 * style.width) * rng.uniform(0.3, 0.8)
    taper = np.minimum((1 - along) / 0.8, 1) ** 0.6
    return _stroke(twig, width * taper * _vary(len(twig), style.width_variation, rng), style, rng)


def rasterise(strokes: list[Stroke], shape: tuple[int, int]) -> Field:
    """Measure how much of each pixel's square the strokes cover.

    Parameters
    ----------
    strokes
        Lines in px; they may leave the picture.
    shape
        Height and width of the picture, px.

    Returns
    -------
    numpy.ndarray
        float32 (H, W), 0 to 1.
    """
    canvas = np.zeros((shape[0] * OVERSAMPLING, shape[1] * OVERSAMPLING), np.uint8)
    for stroke in strokes:
        across = stroke.left - stroke.right
        widths = np.hypot(across[:, 0], across[:, 1])
        # OpenCV fills the border of a polygon as well, which widens it by one sub-pixel
        kept = np.maximum(widths - 1 / OVERSAMPLING, 0) / np.maximum(widths, 1e-9) / 2
        middle, half = (stroke.left + stroke.right) / 2, across * kept[:, None]
        left, right = to_subpixels(middle + half), to_subpixels(middle - half)
        quads = np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1)
        wide = stroke.is_open & (widths >= 1 / OVERSAMPLING)
        for quad in quads[wide[:-1] & wide[1:]]:
            cv2.fillConvexPoly(canvas, quad, FULL, cv2.LINE_8, SHIFT)
    return shrink(canvas)


def crack_light(coverage: Field, rng: np.random.Generator, style: CrackStyle) -> Field:
    """Say how much light comes back where a crack covers the concrete, and from its rims.

    Parameters
    ----------
    coverage
        float32 (H, W), 0 to 1 (see `rasterise`).
    rng
        Source of randomness.
    style
        Look of the crack; its tint is not used.

    Returns
    -------
    numpy.ndarray
        float32 (H, W): the factor on the light, 1 where the crack changes nothing.
    """
    toward_light = np.array([math.cos(style.light_angle), math.sin(style.light_angle)])
    reach = min(max(0.3 * style.width, 0.7), 3.0) * toward_light
    loss = coverage * np.float32(style.contrast)
    remains = np.ones_like(coverage)
    if style.unevenness or style.lip:
        waves = _waves(coverage.shape, max(6.0, 3 * style.width), rng)
    if style.unevenness:
        # the far wall faces the light, and what lies in the crack is not equally deep everywhere
        wall = np.maximum(coverage - shifted(coverage, *(1.5 * reach)), 0)
        wall *= np.float32(0.6)
        wall += np.float32(0.25) * waves + np.float32(0.2)
        loss *= 1 - np.float32(style.unevenness) * np.minimum(np.maximum(wall, 0), 1)
    if style.halo:
        remains -= np.float32(style.halo) * soften(coverage, min(style.width, 12.0))
    if style.lip:
        rim = np.maximum(shifted(coverage, *(-reach)) - coverage, 0)
        rim *= np.minimum(np.maximum(np.float32(0.5) * waves + np.float32(0.6), 0), 1.3)
        remains += np.float32(style.lip) * rim
    remains *= 1 - loss
    return remains


def _waves(shape: tuple[int, ...], length: float, rng: np.random.Generator) -> Field:
    """Draw coarse noise from -1.5 to 1.5, faster and less evenly than `noise.value_noise`."""
    grid = rng.standard_normal((2 + int(shape[0] / length), 2 + int(shape[1] / length)), dtype=np.float32)
    np.minimum(np.maximum(grid, -1.5, out=grid), 1.5, out=grid)
    return np.asarray(cv2.resize(grid, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR), np.float32)


def draw_crack(image: Image, rng: np.random.Generator, style: CrackStyle | None = None) -> tuple[Image, Mask]:
    """Draw a crack on a picture of concrete.

    Parameters
    ----------
    image
        uint8 (0 to 255) or float32 (0 to 1), (H, W) or (H, W, 3) in RGB order, at least 8 x 8 px.
        Not changed.
    rng
        Source of randomness: the same state gives the same crack.
    style
        Look of the crack; chosen at random (`choose_crack`) where left out.

    Returns
    -------
    image : numpy.ndarray
        A new picture of the same shape and dtype.
    mask : numpy.ndarray
        bool (H, W), True where the ideal crack covers at least half of the pixel. Parts of a crack that are
        thinner than 0.5 px are not in it, so that a style below 1 px can give an empty mask.

    Raises
    ------
    TypeError
        If the picture is neither uint8 nor float32.
    ValueError
        If it is not grey or RGB, or is too small.

    Examples
    --------
    >>> image, mask = draw_crack(np.full((64, 64), 180, np.uint8), np.random.default_rng(0))
    >>> image.shape, mask.dtype
    ((64, 64), dtype('bool'))
    """
    check_image(image)
    height, width = image.shape[:2]
    if style is None:
        style = choose_crack(rng, shape=(height, width))
    coverage = rasterise(plan_crack((height, width), rng, style), (height, width))
    light = crack_light(coverage, rng, style)
    if image.ndim == 3 and np.ptp(style.tint):
        light = cv2.merge([light * (1 + coverage * np.float32(tint - 1)) for tint in style.tint])
    return change_light(image, light), coverage >= 0.5
