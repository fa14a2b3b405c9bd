"""A prediction, and an inspection, of a small segmenter, to run by itself: on this machine, or on a cluster.

``python small_prediction.py predict|inspect <root> <output> <Compute as JSON>``
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from crack_pipeline import errors
from crack_pipeline.datasets import (
    BlockFolderDataset,
    RawRootDataset,
    RecordFolderDataset,
    SegmentationFolderDataset,
    UnfinishedSegmentationDataset,
)
from crack_pipeline.datasets.block_folder import BlockFolder
from crack_pipeline.datasets.raw_root import RawRoot
from crack_pipeline.engines import cluster
from crack_pipeline.engines.compute import Compute, Plan
from crack_pipeline.imaging.camera import encode_png
from crack_pipeline.imaging.foreground import Foreground
from crack_pipeline.models.segmenters import UNetOptions, create_segmenter
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Reading
from crack_pipeline.pipelines.inspection import parameters as inspection
from crack_pipeline.pipelines.inspection.inspecting import inspect_photographs
from crack_pipeline.pipelines.inspection.isolating import Isolator
from crack_pipeline.pipelines.inspection.parameters import Cracks, Repair
from crack_pipeline.pipelines.segmentation.parameters import Output, Report
from crack_pipeline.pipelines.segmentation.predicting import list_predictions, segment_photographs
from crack_pipeline.pipelines.steps import resolve_plan
from crack_pipeline.training.segmenting import Tiles

TILES = Tiles(size=256, halo=8, blend=4)


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
    """A network that was never trained, whose answers differ from pixel to pixel and lie about its threshold."""
    options = UNetOptions(levels=3, base_channels=8)
    torch.manual_seed(0)
    tensors = create_segmenter(options).state_dict()
    *_, weight, bias = tensors
    tensors[weight] *= 30
    tensors[bias] -= tensors[bias]
    facts = {"network": options.model_dump(mode="json"), "image": {"size": None, "mode": "rgb", "masks": True}}
    return Weights(tensors, facts | {"threshold": 0.5, "tiles": {"augmentations": 2, "half_size": False}})


def begin(root: str, output: Path, compute: Compute, results: Any) -> tuple[RawRoot, BlockFolder, Plan]:
    """Look at the cluster, where there is to be one, as the hooks of the project do."""
    raw, blocks = RawRootDataset(filepath=root), BlockFolderDataset(filepath=str(output / "blocks"))
    if compute.engine == "ray":
        cluster.join(compute)
        cluster.check_everywhere([each.ticket() for each in (raw, blocks, results)], compute.patience)
    return raw.load(), blocks.load(), resolve_plan(compute)


def predict(root: Path | str, output: Path, compute: Compute) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Segment the photographs of a root as the pipeline does; gives predictions and what was left out."""
    unfinished = UnfinishedSegmentationDataset(filepath=str(output / "photographs"))
    raw, blocks, plan = begin(str(root), output, compute, unfinished)
    photographs = pd.DataFrame({"path": [entry.path for entry in raw.list()]})
    folder = SegmentationFolderDataset(filepath=str(output / "photographs"))
    described = (segmenter(), Reading(), TILES, Output(overlays=False))
    for chunk in segment_photographs(raw, photographs, *described, plan, blocks, unfinished.load()):
        folder.save(chunk)
    found = folder.load()
    return list_predictions(found, Report()), found.rejected


def inspect(root: Path | str, output: Path, compute: Compute) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Inspect the photographs of a root; gives how much of each is cracked, and what was left out."""
    folder = RecordFolderDataset(filepath=str(output / "inspected"))
    raw, blocks, plan = begin(str(root), output, compute, folder)
    photographs = pd.DataFrame({"path": [entry.path for entry in raw.list()]})
    settings = (Cracks(threshold=0.5), Repair(enabled=False), inspection.Report(), TILES, Reading())
    isolator = Isolator(Foreground(method="none"), plan)
    for chunk in inspect_photographs(raw, photographs, folder.load(), segmenter(), isolator, *settings, plan, blocks):
        folder.save(chunk)
    found = folder.load()
    facts = [found.facts(path) for path in found.paths]
    table = pd.DataFrame({name: [fact[name] for fact in facts] for name in ("image_id", "crack_share", "score")})
    return table.assign(path=found.paths), found.failed


if __name__ == "__main__":
    errors.install()
    what, root, output, compute = sys.argv[1:]
    work = {"predict": predict, "inspect": inspect}[what]
    predictions, rejected = work(root, Path(output), Compute.model_validate_json(compute))
    predictions.to_parquet(Path(output) / "predictions.parquet")
    rejected.to_parquet(Path(output) / "rejected.parquet")
