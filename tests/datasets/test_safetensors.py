import pytest
import torch
from kedro.io import Version
from kedro.io.core import DatasetError

from crack_pipeline.datasets import SafetensorsDataset
from crack_pipeline.models.weights import Weights


@pytest.fixture
def path(tmp_path):
    return tmp_path / "models" / "vae.safetensors"


@pytest.fixture
def weights():
    tensors = {"a.weight": torch.rand(2, 3, requires_grad=True), "b": torch.arange(4).reshape(2, 2).T}
    return Weights(tensors, {"network": {"channels": [4, 8], "name": "Vergrößerung"}, "level": 0.1})


def test_weights_and_facts_come_back(path, weights):
    dataset = SafetensorsDataset(filepath=str(path))
    assert not dataset.exists()
    dataset.save(weights)
    assert dataset.exists()
    loaded = dataset.load()
    assert loaded.facts == weights.facts
    assert loaded.tensors.keys() == weights.tensors.keys()
    for name, tensor in weights.tensors.items():
        assert torch.equal(loaded.tensors[name], tensor)
        assert loaded.tensors[name].dtype == tensor.dtype


def test_each_version_lies_in_a_folder_of_its_own(path, weights):
    for version in ("1", "2"):
        SafetensorsDataset(filepath=str(path), version=Version(None, version)).save(
            Weights(weights.tensors, {"version": version})
        )
    newest = SafetensorsDataset(filepath=str(path), version=Version(None, None))
    assert newest.exists()
    assert newest.load().facts == {"version": "2"}
    assert (path / "1" / path.name).is_file()
    assert not SafetensorsDataset(filepath=str(path.with_name("other")), version=Version(None, None)).exists()


@pytest.mark.parametrize("damage", [b"", b"pickle? no", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_damaged_file_is_named(path, damage):
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    if damage.endswith(b"}      "):
        assert SafetensorsDataset(filepath=str(path)).load() == Weights({}, {})
        return
    with pytest.raises(DatasetError, match=r"vae\.safetensors is damaged or not a safetensors file"):
        SafetensorsDataset(filepath=str(path)).load()


def test_a_file_that_is_cut_short_is_named(path, weights):
    dataset = SafetensorsDataset(filepath=str(path))
    dataset.save(weights)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DatasetError, match="damaged"):
        dataset.load()


def test_a_save_that_fails_leaves_the_earlier_file(path, weights):
    dataset = SafetensorsDataset(filepath=str(path))
    dataset.save(weights)
    with pytest.raises(DatasetError):
        dataset.save(Weights(weights.tensors, {"not JSON": object()}))
    assert dataset.load().facts == weights.facts
    assert [file.name for file in path.parent.iterdir()] == [path.name]
