from datetime import datetime, timedelta

import mlflow
import pytest
from kedro.io import DatasetError, Version

from crack_pipeline.datasets import TrialRunsDataset
from crack_pipeline.evaluation.trials import TrialResult

BEGAN = datetime(2024, 5, 1, 12)
TRIALS = [
    TrialResult(
        number=0,
        state="complete",
        values=(0.25, 0.75, 0.5),
        parameters={"network.levels": 3, "training.loss": [{"kind": "dice"}], "training.patience": None},
        began=BEGAN,
        seconds=90.0,
        earlier=True,
    ),
    TrialResult(number=1, state="pruned", values=(0.125,), parameters={"network.levels": 2}, began=BEGAN, seconds=1.0),
    TrialResult(number=2, state="failed", parameters={}, began=BEGAN, reason="out of memory: 3 GiB " + "x" * 9000),
    TrialResult(
        number=3, state="interrupted", parameters={"network.levels": 2}, began=BEGAN, reason="its process ended"
    ),
]


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    """A place to track runs in; to make one takes seconds."""
    folder, before = tmp_path_factory.mktemp("tracking"), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("trials", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("trials")
    yield
    mlflow.set_tracking_uri(before)


def save(dataset):
    for trial in TRIALS:
        dataset.save(trial)


def test_trials_come_back_as_they_were(tmp_path):
    dataset = TrialRunsDataset(filepath=str(tmp_path / "deeper/trials.jsonl"))
    assert not dataset.exists()
    save(dataset)
    assert dataset.load() == TRIALS
    assert dataset.exists()


def test_every_trial_is_on_disk_when_it_is_saved(tmp_path):
    dataset = TrialRunsDataset(filepath=str(tmp_path / "trials.jsonl"))
    for number, trial in enumerate(TRIALS, start=1):
        dataset.save(trial)
        assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == number


def test_a_run_begins_anew_and_versions_stay(tmp_path):
    path = str(tmp_path / "trials.jsonl")
    for version in ("1", "2"):
        save(TrialRunsDataset(filepath=path, version=Version(None, version)))
    assert TrialRunsDataset(filepath=path, version=Version(None, None)).load() == TRIALS
    assert sorted(found.parent.name for found in tmp_path.glob("trials.jsonl/*/*")) == ["1", "2"]
    plain = TrialRunsDataset(filepath=str(tmp_path / "plain.jsonl"))
    save(plain)
    save(TrialRunsDataset(filepath=str(tmp_path / "plain.jsonl")))
    assert plain.load() == TRIALS


def test_a_line_that_is_no_trial_is_an_error(tmp_path):
    (tmp_path / "trials.jsonl").write_text('{"number": 1}\n')
    with pytest.raises(DatasetError, match=r"trials\.jsonl holds something else than trials"):
        TrialRunsDataset(filepath=str(tmp_path / "trials.jsonl")).load()


def test_each_trial_is_a_run_within_the_run(tracking, tmp_path):
    client = mlflow.MlflowClient()
    with mlflow.start_run() as parent:
        save(TrialRunsDataset(filepath=str(tmp_path / "trials.jsonl"), metric="dice"))
        assert mlflow.active_run().info.run_id == parent.info.run_id
    inner = f"tags.mlflow.parentRunId = '{parent.info.run_id}'"
    runs = {run.info.run_name: run for run in client.search_runs([parent.info.experiment_id], inner)}
    assert sorted(runs) == [f"trial {trial.number}" for trial in TRIALS]
    first = runs["trial 0"]
    assert first.data.params == {
        "network.levels": "3",
        "training.loss": "[{'kind': 'dice'}]",
        "training.patience": "None",
    }
    found = client.get_metric_history(first.info.run_id, "dice")
    assert [(metric.step, metric.value) for metric in found] == [(0, 0.25), (1, 0.75), (2, 0.5)]
    assert first.data.metrics["best_dice"] == 0.75
    assert datetime.fromtimestamp(first.info.start_time / 1000) == BEGAN
    assert first.info.end_time - first.info.start_time == timedelta(seconds=90) / timedelta(milliseconds=1)
    states = [(runs[name].data.tags["state"], runs[name].info.status) for name in sorted(runs)]
    assert states == [("complete", "FINISHED"), ("pruned", "KILLED"), ("failed", "FAILED"), ("interrupted", "FAILED")]
    assert [runs[name].data.tags["earlier"] for name in sorted(runs)] == ["true", "false", "false", "false"]
    assert runs["trial 2"].data.tags["reason"].startswith("out of memory: 3 GiB")
    assert runs["trial 2"].data.metrics == {}


def test_without_a_run_nothing_is_tracked(tmp_path):
    assert mlflow.active_run() is None
    save(TrialRunsDataset(filepath=str(tmp_path / "trials.jsonl")))
    assert mlflow.active_run() is None
