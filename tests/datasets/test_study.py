import subprocess
import sys

import optuna
import psutil
import pytest
from kedro.io import DatasetError

from crack_pipeline.datasets import StudiesDataset


@pytest.fixture
def dataset(tmp_path):
    return StudiesDataset(filepath=str(tmp_path / "models/study.db"))


def test_a_study_outlives_the_process_that_began_it(dataset):
    study = dataset.load().open("one")
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    study.tell(trial, 0.5)
    again = dataset.load().open("one")
    assert again.best_value == 0.5 and again.best_params == trial.params
    assert again.direction == optuna.study.StudyDirection.MAXIMIZE
    assert dataset.exists()


def test_studies_of_other_names_are_kept_apart(dataset, caplog):
    dataset.load().open("one").add_trial(optuna.create_trial(value=1.0))
    with caplog.at_level("INFO"):
        assert dataset.load().open("other").trials == []
    assert "other data or settings than the 1 that are there" in caplog.text
    assert len(dataset.load().open("one").trials) == 1


def test_a_process_that_lives_keeps_its_study(dataset):
    study = dataset.load().open("one")
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        own = study.user_attrs["process"]
        began = psutil.Process(other.pid).create_time()
        study.set_user_attr("process", {**own, "pid": other.pid, "began": began})
        with pytest.raises(DatasetError, match=f"process {other.pid} is at work on the study one in .*study.db: wait"):
            dataset.load().open("one")
        # The number may be given again, after a restart, to a process that has nothing to do with it.
        study.set_user_attr("process", {**own, "pid": other.pid, "began": began - 1})
        dataset.load().open("one")
        study.set_user_attr("process", {**own, "pid": other.pid, "began": began})
    finally:
        other.communicate(b"\n")
    dataset.load().open("one")


def test_a_file_that_is_no_study_is_named(dataset, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/study.db").write_bytes(b"something else" * 1000)
    with pytest.raises(
        DatasetError, match=r"study\.db cannot be read as a file of studies \(.*not a database.*move it"
    ):
        dataset.load().open("one")


def test_nothing_is_saved_through_the_catalog(dataset):
    with pytest.raises(DatasetError, match="write their trials themselves"):
        dataset.save("trials")
