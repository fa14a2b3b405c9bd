"""A prediction of a small segmenter, to run by itself: on this machine, or on a cluster.

``python small_prediction.py <root> <output> <Compute as JSON>``
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from crack_pipeline import errors
from crack_pipeline.datasets import BlockFolderDataset, RawRootDataset, SegmentationFolderDataset
from crack_pipeline.engines import cluster
from crack_pipeline.imaging.camera import encode_png
from crack_pipeline.models.segmenters import UNetOptions, create_segmenter
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Reading
from crack_pipeline.pipelines.segmentation.parameters import Output, Report
from crack_pipeline.pipelines.segmentation.predicting import list_predictions, segment_photographs
from crack_pipeline.pipelines.steps import resolve_plan
from crack_pipeline.training.compute import Compute
from crack_pipeline.training.segmenting import Tiles


def write_photographs(root: Path, number: int, side: int) -> None:
    """Write noisy photographs with dark lines; one is damaged, and one is a copy of another."""
    root.mkdir(parents=True)
    for at in range(number):
        rng = np.random.default_rng(at)
        picture = rng.normal(150, 12, (side, side, 3)).clip(0, 255).astype(np.uint8)
        picture[rng.integers(side) :: 41, :, :] = 40
        (root / f"{at:04d}.png").write_bytes(encode_png(picture))
    (root / "0001.png").write_bytes((root / "0000.png").read_bytes())
    (root / "0002.png").write_bytes((root / "0002.png").read_bytes()[:200])


def segmenter() -> Weights:
    """A network that was never trained, and calls about half of all pixels cracked."""
    options = UNetOptions(levels=3, base_channels=8)
    torch.manual_seed(0)
    facts = {"network": options.model_dump(mode="json"), "image": {"size": None, "mode": "rgb", "masks": True}}
    facts |= {"threshold": 0.5, "tiles": {"augmentations": 2, "half_size": False}}
    return Weights(create_segmenter(options).state_dict(), facts)


def predict(root: Path, output: Path, compute: Compute) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Segment the photographs of a root as the pipeline does; gives predictions and what was left out."""
    raw, blocks = RawRootDataset(filepath=str(root)), BlockFolderDataset(filepath=str(output / "blocks"))
    if compute.engine == "ray":  # as the hooks of the project do
        cluster.join(compute)
        cluster.check_everywhere([raw.ticket(), blocks.ticket()], compute.patience)
    plan = resolve_plan(compute)
    photographs = pd.DataFrame({"path": sorted(path.name for path in root.iterdir())})
    folder = SegmentationFolderDataset(filepath=str(output / "photographs"))
    for chunk in segment_photographs(
        raw.load(),
        photographs,
        segmenter(),
        Reading(),
        Tiles(size=256, halo=8, blend=4),
        Output(overlays=False),
        plan,
        blocks.load(),
    ):
        folder.save(chunk)
    found = folder.load()
    return list_predictions(found, Report()), found.rejected


if __name__ == "__main__":
    errors.install()
    predictions, rejected = predict(
        Path(sys.argv[1]), Path(sys.argv[2]), Compute.model_validate(json.loads(sys.argv[3]))
    )
    predictions.to_parquet(Path(sys.argv[2]) / "predictions.parquet")
    rejected.to_parquet(Path(sys.argv[2]) / "rejected.parquet")
