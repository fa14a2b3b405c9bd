"""What a retraining asks of the registry, and how it carries out decisions while others promote."""

import mlflow
import pytest
from kedro.io import DatasetError

from crack_pipeline.datasets import ModelRegistryDataset, RegisteredModelDataset
from crack_pipeline.datasets.champions import OutdatedError
from crack_pipeline.evaluation.promotion import Rollback
from crack_pipeline.models.registered import Newest
from registry import MODEL, decision, register, registry_in, some_weights


@pytest.fixture
def client(tmp_path, database):
    with registry_in(tmp_path, database) as found:
        yield found


@pytest.fixture
def dataset(tmp_path, client):
    return ModelRegistryDataset(filepath=str(tmp_path / "locks"))


def versions(folder, number):
    return [register(folder, MODEL, some_weights(n + 1)) for n in range(number)]


def aliases(client):
    return {name: int(version) for name, version in client.get_registered_model(MODEL).aliases.items()}


def test_the_newest_version_and_whether_it_was_decided_about(client, dataset, tmp_path):
    registry = dataset.load()
    assert registry.newest(MODEL) is None
    versions(tmp_path, 2)
    assert registry.newest(MODEL) == Newest(2, decided=False, photographs=None)
    dataset.save(decision(2))
    assert registry.newest(MODEL).decided
    register(tmp_path, MODEL, some_weights(3))
    dataset.save(decision(3, 2, promoted=False))
    assert registry.newest(MODEL) == Newest(3, decided=True, photographs=None)


@pytest.mark.parametrize(("tag", "decided"), [("begun", False), ("outdated", False), ("rolled back", True)])
def test_a_decision_that_was_not_carried_out_is_none(client, dataset, tmp_path, tag, decided):
    versions(tmp_path, 1)
    client.set_model_version_tag(MODEL, "1", "promotion.decision", tag)
    assert dataset.load().newest(MODEL).decided == decided


def test_what_is_in_use_was_decided_about_whatever_its_tags_say(client, dataset, tmp_path):
    versions(tmp_path, 2)
    dataset.save(decision(1))
    dataset.save(decision(2, 1))
    client.delete_model_version_tag(MODEL, "2", "promotion.decision")  # killed before it was written
    assert dataset.load().newest(MODEL).decided
    dataset.save(Rollback(model=MODEL, champion=2, version=1))
    client.delete_model_version_tag(MODEL, "2", "promotion.decision")
    assert dataset.load().newest(MODEL).decided


def test_a_version_says_what_its_training_began_with(client, dataset, tmp_path):
    mlflow.create_experiment("e", artifact_location=str(tmp_path / "artifacts"))
    mlflow.set_experiment("e")
    with mlflow.start_run() as run:
        mlflow.set_tag("retraining.photographs", "abc")
    versions(tmp_path, 1)
    client.create_model_version(MODEL, str(tmp_path), run_id=run.info.run_id)
    assert dataset.load().newest(MODEL) == Newest(2, decided=False, photographs="abc")


def test_the_number_of_the_newest_version_is_loaded(client, tmp_path):
    with pytest.raises(DatasetError, match="no version of segmentation is registered"):
        RegisteredModelDataset(name=MODEL).load()
    versions(tmp_path, 11)
    assert RegisteredModelDataset(name=MODEL).load() == 11
    with pytest.raises(DatasetError, match="register_models is false"):
        RegisteredModelDataset(name=MODEL, register=False).load()


def test_a_lost_race_is_run_again_with_the_champion_of_then(client, dataset, tmp_path):
    versions(tmp_path, 3)
    dataset.save(decision(1))
    asked = []

    def decisions():
        for _ in range(5):
            champion = aliases(client)["champion"]
            asked.append(champion)
            if champion == 1:
                dataset.save(decision(2, 1))  # somebody else is quicker
            yield decision(3, champion)

    dataset.save(decisions())
    assert asked == [1, 2]
    assert aliases(client) == {"champion": 3, "previous": 2}


def test_who_loses_as_often_as_may_be_leaves_the_champion_and_says_so(client, dataset, tmp_path):
    versions(tmp_path, 3)
    dataset.save(decision(1))
    with pytest.raises(OutdatedError, match="version 1 has become it since"):
        dataset.save(decision(3, 2) for _ in range(3))
    assert aliases(client) == {"champion": 1}
    assert not dataset.load().newest(MODEL).decided


def test_where_nothing_is_to_be_decided_nothing_happens(client, dataset, tmp_path):
    versions(tmp_path, 1)
    dataset.save(())
    assert aliases(client) == {}
