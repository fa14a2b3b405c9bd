"""Any number of squares with simulated cracks, from photographs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from crack_pipeline.imaging.crack_free import Places
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.imaging.simulation import Simulation, Traces, simulate


class Photographs(Protocol):
    """What is needed of a stack of photographs."""

    def crops(
        self, rows: NDArray[np.int64], corners: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Cut squares out of some photographs and their masks."""


@dataclass(frozen=True)
class SimulatedSquares:
    """Squares of photographs on which cracks are simulated.

    Attributes
    ----------
    photographs
        The stack.
    places
        Where the squares lie; cracks that are there already stay in the masks.
    traces
        What the camera left in photographs, by their row in the stack. For a photograph that is not among them one of
        them is drawn.
    simulation
        What is drawn.

    Raises
    ------
    ValueError
        If there are no places or no traces.
    """

    photographs: Photographs
    places: Places
    traces: Mapping[int, Traces]
    simulation: Simulation

    def __post_init__(self) -> None:
        if not len(self.places.rows) or not self.traces:
            raise ValueError("there is no place to simulate cracks on")

    def squares(self, seeds: NDArray[np.int64], size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Make one square for every seed.

        Parameters
        ----------
        seeds
            (n,), not negative. The same seed gives the same square, whatever the others.
        size
            Side, px.

        Returns
        -------
        images : ndarray of uint8
            (n, S, S) or (n, S, S, 3).
        masks : ndarray of uint8
            (n, S, S): 1 on a crack, elsewhere what it was.
        """
        generators, chosen = self._choose(seeds)
        images, masks = self.photographs.crops(self.places.rows[chosen], self.places.corners[chosen], size)
        known = list(self.traces.values())
        rows = self.places.rows[chosen].tolist()
        for image, mask, row, rng in zip(images, masks, rows, generators, strict=True):
            traces = self.traces.get(row) or known[int(rng.integers(len(known)))]
            image[...], drawn = simulate(image, rng, self.simulation, traces)
            mask[drawn == CRACK] = CRACK
        return images, masks

    def rows(self, seeds: NDArray[np.int64]) -> NDArray[np.int64]:
        """Say in which photograph the square of every seed lies, (n,)."""
        return np.asarray(self.places.rows[self._choose(seeds)[1]], np.int64)

    def _choose(self, seeds: NDArray[np.int64]) -> tuple[list[np.random.Generator], NDArray[np.int64]]:
        """Begin with every seed, and choose its place."""
        generators = [np.random.default_rng(int(seed)) for seed in seeds]
        return generators, np.array([rng.integers(len(self.places.rows)) for rng in generators], np.int64)
