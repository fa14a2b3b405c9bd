"""Nodes that simulate cracks on the user's own photographs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.imaging.simulation import Simulation
from crack_pipeline.pipelines.simulating import simulated_squares
from crack_pipeline.pipelines.steps import check_same_run, rows_of, select
from crack_pipeline.pipelines.synthesis.drawing import Drawing
from crack_pipeline.pipelines.synthesis.nodes import Pictures
from crack_pipeline.pipelines.synthesis.parameters import SimulatedPictures


def find_sound_concrete(
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    simulation: Simulation,
    pictures: SimulatedPictures,
) -> tuple[Drawing, Pictures, Pictures]:
    """Find squares of sound concrete in the photographs of the role ``train``, to simulate cracks on.

    Returns
    -------
    Drawing
        Makes pictures with masks.
    Pictures, Pictures
        Photographs of the roles ``train`` and ``test`` that show real cracks, to compare with; there may be none.

    Raises
    ------
    ValueError
        If there are no such squares.
    """
    check_same_run(images, manifest)
    size = pictures.size
    squares = simulated_squares(
        *(images, manifest, partition, simulation),
        role="train",
        size=size,
        seed=pictures.seed,
        called="synthesis_simulated.pictures.size",
    )
    compared = []
    for role in ("train", "test"):
        table = select(manifest, partition, [role])
        rows = rows_of(table[table["crack_pixels"] > 0])
        compared.append(Pictures(images, rows[images.sizes[rows].min(axis=1) >= size], size, True))
    return Drawing(squares, size, True, np.unique(squares.places.rows)), compared[0], compared[1]
