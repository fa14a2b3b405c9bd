"""Simulated cracks on a user's own photographs, as several pipelines need them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from crack_pipeline.imaging.camera_traces import measure_traces
from crack_pipeline.imaging.crack_free import Places, find_places
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.imaging.simulated_squares import SimulatedSquares
from crack_pipeline.imaging.simulation import Simulation, Traces
from crack_pipeline.pipelines.steps import require_roles, rows_of, select
from crack_pipeline.training.batches import Images

if TYPE_CHECKING:
    from crack_pipeline.training.synthetic import Generator

logger = logging.getLogger(__name__)

_MEASURED, _LOOKED_AT = 512, 8
_WORTH = 10
"""Photographs that synthetic cracks count as, where their share is not given."""


Share = Annotated[float, Field(ge=0, le=1)] | Literal["auto"]


def share_beside(share: Share, photographs: int) -> float:
    """Give the share of synthetic squares beside so many photographs with real cracks."""
    return _WORTH / (_WORTH + photographs) if share == "auto" else share


class Synthetic(BaseModel):
    """Synthetic squares among the real ones that a network learns from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: Share = Field(
        0.0,
        description="of the squares of a batch, on average; 0: none; auto: as if synthetic cracks were ten more "
        "photographs, half of the squares beside ten real ones, and few beside hundreds",
    )
    generator: Literal["simulated", "learned"] = Field(
        "simulated",
        description="simulated: cracks drawn on the training photographs; learned: pictures from the newest generator "
        "that the pipeline synthesis has trained",
    )
    simulation: Simulation = Field(default_factory=lambda: Simulation.model_validate({}))

    @model_validator(mode="after")
    def _wanted(self) -> Synthetic:
        if self.generator == "learned" and not self.share:
            raise ValueError("generator is learned, and share 0: nothing would be mixed in; set share to 0.3, say")
        return self


class Photographs(Protocol):
    """What is needed of photographs with masks."""

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Height and width of each photograph in px, (N, 2)."""

    def photograph(self, row: int) -> NDArray[np.uint8]:
        """Give one photograph."""

    def mask(self, row: int) -> NDArray[np.uint8]:
        """Give one mask, (H, W): 0 background, 1 crack, 2 ignored."""

    def crops(
        self, rows: NDArray[np.int64], corners: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Cut squares out of some photographs and their masks."""


class Admixture(NamedTuple):
    """What is mixed into a training."""

    share: float = 0.0
    generator: Generator | None = None
    identity: Mapping[str, Any] = {}
    """What decides the squares, JSON-like."""


NOTHING = Admixture()


def simulated_squares(
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    simulation: Simulation,
    *,
    role: str,
    size: int,
    seed: int,
    sound: bool = True,
    called: str = "the crop",
) -> SimulatedSquares:
    """Find squares in the photographs of a role, and measure the camera that took them.

    Parameters
    ----------
    images, manifest, partition
        Photographs with masks, of which only where they are background is looked at.
    simulation
        What is to be drawn.
    role
        Which photographs.
    size
        Side of the squares, px.
    seed
        Of the choice where a photograph has more places than are needed.
    sound
        Whether they must be without a crack. Otherwise cracks that are there already stay in the masks.
    called
        What the user knows the side as.

    Returns
    -------
    SimulatedSquares
        Cracks are simulated when squares are asked for.

    Raises
    ------
    ValueError
        If there is no square of that size without a crack, or cracks would be wider than it.
    """
    require_roles(manifest, partition, (role,))
    rows = rows_of(select(manifest, partition, [role]))
    return squares_in(images, rows, simulation, role=role, size=size, seed=seed, sound=sound, called=called)


def squares_in(
    images: Photographs,
    rows: NDArray[np.int64],
    simulation: Simulation,
    *,
    role: str,
    size: int,
    seed: int,
    sound: bool = True,
    margin: int = 8,
    called: str = "the crop",
) -> SimulatedSquares:
    """Find squares in some photographs, ``margin`` px from any crack; otherwise as :func:`simulated_squares`."""
    check_widths(simulation, size)
    places = find_places(images, rows.tolist(), size, sound=sound, margin=margin, seed=seed)
    if not len(places.rows):
        largest = int(images.sizes[rows].min(axis=1).max())
        if largest < size:
            raise ValueError(
                f"all {len(rows):,} photographs of the role {role} are smaller than a square of {size} px: lower "
                f"{called} to {largest} px or less"
            )
        raise ValueError(
            f"there is no square of {size} px without a crack in the {len(rows):,} photographs of the role {role}: add "
            f"photographs of sound concrete, or lower {called}"
        )
    used = np.unique(places.rows)
    logger.info(
        "%s: %s squares%s in %s of %s photographs",
        role,
        f"{len(places.rows):,}",
        " of sound concrete" if sound else "",
        f"{len(used):,}",
        f"{len(rows):,}",
    )
    traces = _measure(used, lambda row: _clearest(images, row, places, size), role=role, seed=seed)
    return SimulatedSquares(images, places, traces, simulation)


def check_widths(simulation: Simulation, size: int) -> None:
    """Raise ValueError if cracks would be wider than half of a square of so many px."""
    widest = simulation.width_px[1]
    if widest > size / 2:
        raise ValueError(
            f"cracks would be up to {widest:g} px wide, more than half of a square of {size} px: lower the width, or "
            "take larger squares"
        )


def simulated_images(
    images: Images, rows: NDArray[np.int64], simulation: Simulation, *, role: str, seed: int
) -> SimulatedSquares:
    """Take whole images of sound concrete as squares, and measure the camera that took them.

    Parameters
    ----------
    images
        Images of one size.
    rows
        (n,), n at least 1: those that show sound concrete.
    simulation
        What is to be drawn.
    role
        What the log calls them.
    seed
        Of the choice of those that are measured.

    Returns
    -------
    SimulatedSquares
        As of :func:`simulated_squares`; its squares are as large as the images.
    """
    traces = _measure(rows, lambda row: images.take(np.array([row]))[0], role=role, seed=seed)
    places = Places(rows, np.zeros((len(rows), 2), np.int64))
    return SimulatedSquares(_Sound(images), places, traces, simulation)


class _Sound:
    """Images of sound concrete, as photographs that are cut at nothing but their edges."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def crops(
        self, rows: NDArray[np.int64], corners: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Give whole images, and masks without a crack."""
        images = self._images.take(rows)
        return images, np.zeros(images.shape[:3], np.uint8)


def _measure(
    rows: NDArray[np.int64], look: Callable[[int], NDArray[np.uint8]], *, role: str, seed: int
) -> dict[int, Traces]:
    """Measure the camera of some photographs."""
    measured = np.sort(np.random.default_rng(seed).permutation(rows)[:_MEASURED]).tolist()
    traces = {row: measure_traces(look(row)) for row in measured}
    qualities = [trace.jpeg_quality for trace in traces.values() if trace.jpeg_quality is not None]
    logger.info(
        "%s: camera of %d photographs: blur %.2f px, noise %.2f %% of white, JPEG %s (medians)",
        role,
        len(traces),
        np.median([trace.blur for trace in traces.values()]),
        100 * np.median([trace.noise for trace in traces.values()]),
        f"quality {np.median(qualities):.0f} in {len(qualities)}" if qualities else "not to be seen",
    )
    return traces


def _clearest(images: Photographs, row: int, places: Places, size: int) -> NDArray[np.uint8]:
    """Cut, of some places of a photograph, the one with the most contrast: nothing beside them may be looked at."""
    photograph = images.photograph(row)
    corners = places.corners[places.rows == row]
    corners = corners[:: 1 + len(corners) // _LOOKED_AT]
    squares = [photograph[y : y + size, x : x + size] for y, x in corners.tolist()]
    return max(squares, key=lambda square: float(square.std()))
