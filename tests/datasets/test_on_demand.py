import pytest
import torch
from kedro.io import Version
from kedro.io.core import DatasetError

from crack_pipeline.datasets import OnDemandDataset, SafetensorsDataset
from crack_pipeline.models.weights import Weights


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "models" / "generator.safetensors")


@pytest.fixture
def on_demand(path):
    dataset = {"type": "crack_pipeline.datasets.SafetensorsDataset", "filepath": path, "versioned": True}
    return OnDemandDataset(dataset=dataset)


def test_the_newest_version_is_read_when_it_is_asked_for(path, on_demand):
    load = on_demand.load()
    assert not on_demand.exists()
    for version in ("2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"):
        weights = Weights({"a": torch.ones(1)}, {"version": version})
        SafetensorsDataset(filepath=path, version=Version(None, version)).save(weights)
    assert load().facts == {"version": "2026-01-02T00.00.00.000Z"}
    assert on_demand.exists()


def test_what_is_missing_is_missed_only_when_it_is_asked_for(on_demand):
    load = on_demand.load()
    with pytest.raises(DatasetError, match=r"there are no trained weights in .*models/generator\.safetensors: train"):
        load()


def test_nothing_is_written(on_demand):
    with pytest.raises(DatasetError, match="written by the pipeline that makes it"):
        on_demand.save(Weights({}, {}))
