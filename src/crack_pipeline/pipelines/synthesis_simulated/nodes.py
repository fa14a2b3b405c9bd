"""Nodes that simulate cracks on the user's own photographs."""

from __future__ import annotations

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
) -> tuple[Drawing, Pictures, Pictures | None]:
    """Find squares of sound concrete in the photographs of the role ``train``, to simulate cracks on.

    Returns
    -------
    Drawing
        Makes pictures with masks.
    Pictures
        The photographs that cracks are simulated on.
    Pictures or None
        Those of the role ``test`` that show real cracks, if there are any.

    Raises
    ------
    ValueError
        If there are no such squares.
    """
    check_same_run(images, manifest)
    size = pictures.size
    squares = simulated_squares(images, manifest, partition, simulation, role="train", size=size, seed=pictures.seed)
    test = select(manifest, partition, ["test"])
    rows = rows_of(test[test["crack_pixels"] > 0])
    rows = rows[images.sizes[rows].min(axis=1) >= size]
    train_pictures = Pictures(images, rows_of(select(manifest, partition, ["train"])), size, True)
    return Drawing(squares, size, True), train_pictures, Pictures(images, rows, size, True) if len(rows) else None
