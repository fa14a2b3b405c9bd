"""Whole photographs of concrete, with or without a crack, from a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.camera import choose_camera, photograph
from crack_pipeline.imaging.concrete import choose_concrete, render_concrete
from crack_pipeline.imaging.cracks import choose_crack, draw_crack
from crack_pipeline.imaging.nuisances import choose_nuisances, draw_nuisances


@dataclass(frozen=True)
class Scene:
    """A rendered photograph and where its crack is.

    Parameters
    ----------
    image
        uint8 (H, W, 3), RGB, before JPEG compression.
    mask
        bool (H, W), True on the crack; False everywhere on sound concrete.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def render_scene(
    shape: tuple[int, int], rng: np.random.Generator, difficulty: float = 0.5, cracked: bool = False
) -> Scene:
    """Render one photograph: concrete, nuisances, perhaps a crack, and the camera over everything.

    Parameters
    ----------
    shape
        Height and width, px; at least 32 each.
    rng
        Source of randomness: the same state gives the same photograph.
    difficulty
        0 (wide, dark cracks on smooth concrete) to 1 (hairlines on rough, dirty concrete).
    cracked
        Whether there is a crack.

    Returns
    -------
    Scene
        Its mask covers at least as many pixels as the shorter side is long times 0.3 where ``cracked``.

    Raises
    ------
    ValueError
        If the picture is too small or the difficulty outside 0 to 1.
    """
    if min(shape) < SMALLEST:
        raise ValueError(f"a photograph must have at least {SMALLEST} x {SMALLEST} px, got {shape[0]} x {shape[1]}")
    if not 0 <= difficulty <= 1:
        raise ValueError(f"difficulty must lie between 0 and 1, got {difficulty!r}")
    concrete = choose_concrete(rng, difficulty, shape)
    surface = draw_nuisances(render_concrete(shape, rng, concrete), rng, choose_nuisances(rng, difficulty))
    mask = np.zeros(shape, np.bool_)
    if cracked:
        sound = surface
        # a crack whose tips lie close together can all but miss the picture; it is drawn again
        while mask.sum() < 0.3 * min(shape):
            style = choose_crack(rng, difficulty, shape, concrete.light_angle)
            surface, mask = draw_crack(sound, rng, style)
    return Scene(photograph(surface, rng, choose_camera(rng, difficulty, jpeg_quality=None)), mask)


SMALLEST = 32
"""Shortest side of a photograph, px."""
