"""The detector that learns from simulated cracks, as a user runs it: commands, files and screen."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import cv2
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def use(sample, make_project, kedro, tmp_path_factory):
    project = make_project()
    shutil.copytree(sample, project / "data/01_raw/sample")
    trained = kedro(project, "run", "--pipeline", "anomaly", "--params", "anomaly.detector=simulated")
    assert trained.returncode == 0, trained.stdout[-4000:]
    new = tmp_path_factory.mktemp("new")
    for label in ("Positive", "Negative"):
        for number, path in enumerate(sorted((sample / label).glob("*.jpg"))[:3]):
            shutil.copy(path, new / f"{label}{number}.jpg")
    predicted = kedro(project, "run", "--pipeline", "anomaly_predict", "--params", f"raw_root={new}")
    return SimpleNamespace(project=project, predicted=predicted)


def only(project, path):
    (found,) = (project / path).glob(f"*/{path.rpartition('/')[2]}")
    return found


def test_it_finds_cracks_that_it_was_never_shown(use):
    metrics = json.loads(only(use.project, "data/08_reporting/anomaly/metrics.json").read_text())
    assert metrics["score"] == "likeliest_20px"
    assert metrics["sets"]["external"]["roc_auc"] > 0.8
    for figure in ("training_curves", "reconstructions", "confident", "roc", "score_histogram"):
        assert cv2.imread(str(only(use.project, f"data/08_reporting/anomaly/{figure}.png"))).std() > 0


def test_it_scores_new_photographs(use):
    assert use.predicted.returncode == 0, use.predicted.stdout[-4000:]
    table = pd.read_csv(only(use.project, "data/07_model_output/anomaly_predict/predictions_new.csv"))
    assert len(table) == 6
    assert table["score"].is_monotonic_decreasing
