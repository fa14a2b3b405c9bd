"""A small ingestion, to run by itself: on this machine, or on a cluster.

``python small_ingestion.py <root> <folder> <dataset> <parameters as JSON>``
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from crack_pipeline import errors
from crack_pipeline.engines import cluster
from crack_pipeline.engines.compute import Compute
from crack_pipeline.imaging.photograph_stack import PhotographStack, open_stack
from crack_pipeline.pipelines.ingestion import create_pipeline
from hostile import encoded
from ingesting import Workspace

OWN_SIZE = {"size": None, "mode": "rgb", "masks": True}
"""Form of photographs with masks."""


def wall(seed: int, side: int = 160) -> NDArray[np.uint8]:
    """A texture of several octaves, as concrete has."""
    rng = np.random.default_rng(seed)
    pixels = sum(cv2.GaussianBlur(rng.normal(size=(side, side)), (0, 0), octave) * octave for octave in (2, 4, 8))
    return np.clip(np.rint(130 + 18 * pixels / np.std(pixels)), 0, 255).astype(np.uint8)


def write_walls(root: Path, number: int, side: int = 160) -> None:
    """Write photographs in two classes; every fifth shows the place of another, turned and compressed."""
    for label in ("Negative", "Positive"):
        (root / label).mkdir(parents=True, exist_ok=True)
    for at in range(number):
        copied = at % 5 == 4
        pixels = np.rot90(wall(at - 3, side)) if copied else wall(at, side)
        picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
        name = root / ("Positive" if at % 2 else "Negative") / f"wall {at:05d}"
        name.with_suffix(".jpg").write_bytes(encoded(picture, "JPEG", quality=60 if copied else 95))


def ingest(
    root: str | Path, folder: Path, dataset: str, parameters: Mapping[str, Mapping[str, Any]], **options: Any
) -> Workspace:
    """Ingest as the pipeline does, and look at the cluster before, where there is to be one, as the hooks do."""
    compute = Compute.model_validate(parameters.get("compute", {}))
    workspace = Workspace(folder)
    pipeline = create_pipeline("ingestion", **options)
    if compute.engine == "ray":
        cluster.join(compute)
        catalog = workspace.catalog(root)
        used = (catalog.get(name) for name in sorted(pipeline.datasets()) if not name.startswith("params:"))
        tickets = [dataset.ticket() for dataset in used if dataset is not None and hasattr(dataset, "ticket")]
        cluster.check_everywhere(tickets, compute.patience)
    return workspace.ingest(root, dataset, parameters, **options)


def assert_same(found: Workspace, expected: Workspace) -> None:
    """Compare all that comes of an ingestion: tables, groups, partition, and every byte of the stack."""
    for name in ("manifest", "quarantine", "partition"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(expected, name))
    assert found.manifest["image_id"].is_unique
    stacks = [open_stack(one.folder / "data/03_primary/ingestion/images") for one in (found, expected)]
    for table in ("index", "photos", "rejected"):
        pd.testing.assert_frame_equal(*(getattr(stack, table) for stack in stacks))
    assert len(stacks[0]) == len(stacks[1])
    rows = np.arange(len(stacks[0].photos))
    assert np.array_equal(*(stack.fingerprints.take(rows) for stack in stacks))
    if not isinstance(stacks[0], PhotographStack):
        assert np.array_equal(*(stack.take(np.arange(len(stack))) for stack in stacks))
        return
    for row in range(len(stacks[0])):
        assert np.array_equal(*(stack.photograph(row) for stack in stacks))
        if stacks[0].has_masks:
            assert np.array_equal(*(stack.mask(row) for stack in stacks))


if __name__ == "__main__":
    errors.install()
    root, folder, dataset, parameters = sys.argv[1:]
    ingest(root, Path(folder), dataset, json.loads(parameters), partitioned=True)
