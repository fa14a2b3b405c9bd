import mlflow
import pytest
from kedro.io import DatasetError

from crack_pipeline.datasets import ChosenModelDataset, ModelRegistryDataset, SafetensorsDataset
from registry import MODEL, decision, register, registry_in, some_weights


@pytest.fixture(autouse=True)
def client(tmp_path, database):
    with registry_in(tmp_path, database) as found:
        yield found


@pytest.fixture
def choose(tmp_path):
    """Give the dataset of a version, in a project whose newest training is number 9."""
    path = tmp_path / "segmenter.safetensors"
    SafetensorsDataset(filepath=str(path)).save(some_weights(9))
    newest = {"type": "crack_pipeline.datasets.SafetensorsDataset", "filepath": str(path)}

    def chosen(version):
        return ChosenModelDataset(model=MODEL, use=version, dataset=newest)

    return chosen


def promote(folder, *versions):
    for version in versions:
        before = mlflow.MlflowClient().get_registered_model(MODEL).aliases.get("champion")
        ModelRegistryDataset(filepath=str(folder)).save(decision(version, before and int(before)))


def number(weights):
    assert weights.facts["in_use"]["model"] == MODEL
    return weights.tensors["layer"][0].item(), weights.facts["in_use"]["version"]


def test_newest_champion_and_version_are_three_models(tmp_path, choose):
    for n in range(1, 4):
        register(tmp_path, MODEL, some_weights(n))
    promote(tmp_path, 2)
    assert number(choose("newest").load()) == (9, None)
    assert number(choose("champion").load()) == (2, 2)
    assert number(choose(3).load()) == number(choose("3").load()) == (3, 3)


def test_a_promotion_during_a_run_does_not_change_the_run(tmp_path, choose):
    for n in range(1, 3):
        register(tmp_path, MODEL, some_weights(n))
    promote(tmp_path, 1)
    dataset = choose("champion")
    before = dataset.load()
    promote(tmp_path, 2)
    assert dataset.load() is before
    assert number(choose("champion").load())[0] == 2


@pytest.mark.parametrize("version", ["best", "v3", 0, -1, "1.5", "", True])
def test_another_word_is_refused_with_those_that_there_are(choose, version):
    with pytest.raises(DatasetError, match="must be newest, champion, or the number of a registered version"):
        choose(version)


def test_what_is_missing_is_one_message(tmp_path, choose):
    with pytest.raises(DatasetError, match="no model named segmentation is registered: train one first"):
        choose("champion").load()
    register(tmp_path, MODEL, some_weights(1))
    with pytest.raises(DatasetError, match=r"has the alias champion: promote one first, with kedro run"):
        choose("champion").load()
    with pytest.raises(DatasetError, match="segmentation has no version 4: the newest is 1"):
        choose(4).load()


def test_before_any_training_it_says_how_to_train(tmp_path):
    path = str(tmp_path / "segmentation/segmenter.safetensors")
    newest = {"type": "crack_pipeline.datasets.SafetensorsDataset", "filepath": path, "versioned": True}
    dataset = ChosenModelDataset(model=MODEL, use="newest", dataset=newest)
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="train them first, with kedro run --pipeline segmentation"):
        dataset.load()


def test_a_server_that_is_down_is_one_message(choose, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    try:
        with pytest.raises(DatasetError, match=r"the model registry cannot be asked: .*127\.0\.0\.1"):
            choose("champion").load()
    finally:
        mlflow.set_tracking_uri(before)
