from __future__ import annotations

import pytest
import torch

from crack_pipeline.datasets import RecordFolderDataset
from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging.foreground import Foreground
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.nodes import list_new_photographs
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Presets, Reading
from crack_pipeline.pipelines.inspection import inspecting, preparing
from crack_pipeline.pipelines.inspection.isolating import prepare_isolation
from crack_pipeline.pipelines.inspection.parameters import Cracks, Repair, Report, Scales
from crack_pipeline.training.segmenting import Tiles
from inspecting import Dark

PRESETS = Presets.model_validate({"folders": {"about": "", "label_from": "none"}})


@pytest.fixture
def inspect(monkeypatch, tmp_path):
    """Run the nodes up to the records on a root in memory, as Kedro would."""
    monkeypatch.setattr(inspecting, "rebuild", lambda _: Dark())
    segmenter = Weights(
        {"weight": torch.zeros(1)},
        {
            "threshold": 0.5,
            "image": {"size": None, "mode": "rgb"},
            "tiles": {"augmentations": 1, "half_size": False},
            "network": {},
        },
    )
    plan = resolve(Compute(accelerator="cpu", precision="32-true", batch_size=4, workers=0))
    dataset = RecordFolderDataset(filepath=str(tmp_path / "inspected"))

    def run(raw, *, stop_after=None, scale=None, store=None, cache=None, **changed):
        listed, rejected = list_new_photographs(raw, Dataset("folders"), PRESETS, Reading())
        foreground = changed.pop("foreground", Foreground(method="none"))
        photographs = preparing.read_scale(raw, listed, scale or Scales(), foreground)
        isolator = prepare_isolation(raw, photographs, store, cache, foreground, plan)
        settings = {
            "isolator": isolator,
            "cracks": Cracks(),
            "repair": Repair(),
            "report": Report(side=80),
            "tiles": Tiles(size=64, halo=4, blend=2),
            **changed,
        }
        chunks = inspecting.inspect_photographs(
            raw, photographs, dataset.load(), segmenter, reading=Reading(), plan=plan, **settings
        )
        worked, kept = [], []
        for number, chunk in enumerate(chunks):
            if number == stop_after:
                break
            dataset.save(chunk)
            worked += [record.path for record in chunk.records]
            kept += chunk.kept
        return dataset.load(), photographs, rejected, worked, kept

    run.segmenter = segmenter
    return run
