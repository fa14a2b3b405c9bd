import json
import shutil
import subprocess

import mlflow
import pytest
import torch
from kedro.io import DatasetError

from crack_pipeline.datasets import RegisteredModelDataset, SafetensorsDataset
from crack_pipeline.datasets.registered_model import git_commit, requirements
from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.models.segmenters import create_segmenter
from crack_pipeline.models.weights import Weights
from crack_pipeline.serving.photographs import Limits
from crack_pipeline.serving.registration import describe

METRICS = {"threshold": 0.5, "sets": {"test": {"dice": 0.81251234567, "dice_ci95": [0.7, 0.9], "n": 4, "iou": None}}}


@pytest.fixture(scope="module")
def registration():
    options = {"name": "unet", "levels": 1, "base_channels": 2, "in_channels": 1}
    plan = resolve(Compute(accelerator="cpu", precision="32-true", batch_size=4))
    facts = {
        "network": options,
        "image": {"size": None, "mode": "grey"},
        "threshold": 0.5,
        "tiles": {"size": 64, "halo": 4, "blend": 4},
        "plan": plan.model_dump(mode="json"),
    }
    weights = Weights(create_segmenter(options).state_dict(), facts)
    limits = Limits(min_side=70)
    return describe("segmenter", weights, 0.5, METRICS, {"fingerprint": "abc"}, plan, limits, least_pixels=7)


@pytest.fixture(scope="module")
def client(tmp_path_factory, database):
    folder, before = tmp_path_factory.mktemp("tracking"), mlflow.get_tracking_uri()
    shutil.copy(database, folder)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("models", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("models")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def registered(client, registration):
    """Two versions of one model; gives the run."""
    with mlflow.start_run() as run:
        for _ in range(2):
            RegisteredModelDataset(name="label_free").save(registration)
    return run.info.run_id


def test_each_training_is_the_next_version_of_its_run(registered, client):
    versions = client.search_model_versions("name = 'label_free'")
    assert sorted(int(found.version) for found in versions) == [1, 2]
    assert {found.run_id for found in versions} == {registered}


def test_a_version_says_what_it_is(registered, client):
    tags = client.get_model_version("label_free", "1").tags
    assert tags["data_fingerprint"] == "abc"
    assert tags["pipeline"] == "label_free"
    assert tags["threshold"] == "0.5"
    assert tags["git_commit"] == git_commit()
    assert {name: value for name, value in tags.items() if name.startswith("metric.")} == {
        "metric.test.dice": "0.812512"
    }
    assert json.loads(tags["plan"])["accelerator"] == "cpu"
    assert "reasons" not in tags["plan"]


def test_anyone_can_rebuild_the_model_from_its_artifacts(registered, client, registration, tmp_path):
    folder = mlflow.artifacts.download_artifacts("models:/label_free/2", dst_path=str(tmp_path))
    found = SafetensorsDataset(filepath=f"{folder}/artifacts/weights.safetensors").load()
    assert found.facts == registration.weights.facts
    assert found.fingerprint() == registration.weights.fingerprint()
    required = (tmp_path / "requirements.txt").read_text().split()
    assert f"torch=={torch.__version__.partition('+')[0]}" in required
    assert all("==" in line for line in required)
    packages = {path.name for path in (tmp_path / "code/crack_pipeline").iterdir()} - {"__pycache__"}
    assert packages == {"__init__.py", "engines", "evaluation", "imaging", "models", "serving", "training"}


def test_it_can_be_served_by_its_signature_and_example(registered, client):
    info = mlflow.models.get_model_info("models:/label_free/1")
    assert info.signature.inputs.input_names() == ["image"]
    assert {param.name: param.default for param in info.signature.params} == {"threshold": 0.5, "mask": True}
    model = mlflow.pyfunc.load_model("models:/label_free/1")
    (answer,) = model.predict(model.input_example)
    assert answer["mask"]["size"] == [70, 70]  # no smaller than what it answers to


def test_encoders_need_what_they_are_built_with():
    names = {line.partition("==")[0] for line in requirements({"network": {"encoder": "resnet18"}})}
    assert {"timm", "segmentation-models-pytorch"} <= names
    assert "timm" not in {line.partition("==")[0] for line in requirements({"network": {"name": "unet"}})}


def test_a_registry_that_fails_says_what_is_lost_and_what_is_not(client, registration, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route\n  to host")

    monkeypatch.setattr(mlflow, "register_model", refuse)
    with mlflow.start_run(), pytest.raises(DatasetError) as caught:
        RegisteredModelDataset(name="weak_segmentation").save(registration)
    said = str(caught.value)
    assert "trained and stored, but could not be registered as weak_segmentation" in said
    assert "no route to host" in said
    assert "kedro run --pipeline weak_segmentation --from-nodes weak_segmentation.describe_model" in said
    assert "\n" not in said
    monkeypatch.setattr(mlflow, "get_registry_uri", lambda: "postgresql://me:hidden@there/models")
    with mlflow.start_run(), pytest.raises(DatasetError, match="in postgresql://there/models"):
        RegisteredModelDataset(name="weak_segmentation").save(registration)


@pytest.mark.parametrize(("register", "why"), [(True, "no MLflow run is active"), (False, "the catalog says so")])
def test_without_a_run_or_a_wish_nothing_is_registered(client, registration, register, why, caplog):
    caplog.set_level("INFO")
    dataset = RegisteredModelDataset(name="never", register=register)
    dataset.save(registration)
    assert f"never is not registered: {why}" in caplog.text
    assert not client.search_model_versions("name = 'never'")
    with pytest.raises(DatasetError, match="register_models is false" if not register else "Run it again"):
        dataset.load()


def test_an_earlier_version_is_not_taken_for_what_was_not_registered(registered, registration):
    """A server that was lost and is back has the versions of before; what was trained is not among them."""
    dataset = RegisteredModelDataset(name="label_free")
    assert dataset.load() == 2
    dataset.save(registration)
    with pytest.raises(DatasetError, match="label_free is trained and stored, and not registered"):
        dataset.load()


def test_the_commit_is_that_of_the_code_or_of_what_is_told_or_unknown(tmp_path, monkeypatch):
    assert git_commit(tmp_path) == "unknown"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    assert len(git_commit(tmp_path)) == 40
    monkeypatch.setenv("CRACK_PIPELINE_COMMIT", "f" * 40)
    assert git_commit(tmp_path) == "f" * 40
