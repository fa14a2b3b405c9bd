import json

import pytest
from kedro.io import Version
from kedro.io.core import DatasetError

from crack_pipeline.datasets import ModelJSONDataset
from crack_pipeline.engines.compute import Compute, resolve

PLAN = "crack_pipeline.engines.compute.Plan"


@pytest.fixture
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true"))


def test_a_model_comes_back_and_can_be_edited(tmp_path, plan):
    path = tmp_path / "reporting" / "plan.json"
    dataset = ModelJSONDataset(filepath=str(path), model=PLAN)
    assert not dataset.exists()
    dataset.save(plan)
    assert dataset.exists()
    assert dataset.load() == plan
    path.write_text(path.read_text().replace(f'"batch_size": {plan.batch_size}', '"batch_size": 3'))
    assert dataset.load().batch_size == 3


def test_versions_are_kept(tmp_path, plan):
    path = tmp_path / "plan.json"
    for version, size in (("1", 1), ("2", 2)):
        dataset = ModelJSONDataset(filepath=str(path), model=PLAN, version=Version(None, version))
        dataset.save(plan.model_copy(update={"batch_size": size}))
    newest = ModelJSONDataset(filepath=str(path), model=PLAN, version=Version(None, None))
    assert newest.load().batch_size == 2
    assert json.loads((path / "1/plan.json").read_text())["batch_size"] == 1
    assert not ModelJSONDataset(filepath=str(tmp_path / "x"), model=PLAN, version=Version(None, None)).exists()


@pytest.mark.parametrize("content", ["", "{}", '{"accelerator": "tpu"}'])
def test_what_does_not_fit_the_model_is_named(tmp_path, content):
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=r"plan\.json does not describe a Plan"):
        ModelJSONDataset(filepath=str(path), model=PLAN).load()
