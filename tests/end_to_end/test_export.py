"""The export to ONNX, and predictions by a registered version, as a user runs them."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import mlflow
import pandas as pd
import pytest

from crack_pipeline.serving.onnx import OnnxModel


@pytest.fixture(scope="module")
def use(finished_project, kedro, tmp_path_factory):
    """A project whose detector is version 1 of the registry, exported and then used for predictions."""
    project = tmp_path_factory.mktemp("export") / "project"
    shutil.copytree(finished_project, project)
    exported = kedro(project, "run", "--pipeline", "anomaly_export", "--params", "model_version=1")
    predicted = kedro(project, "run", "--pipeline", "anomaly_predict", "--params", "model_version=champion")
    return SimpleNamespace(project=project, exported=exported, predicted=predicted)


def only(project, pattern):
    (path,) = project.glob(pattern)
    return path


def test_a_registered_version_is_exported_and_compared(use):
    assert use.exported.returncode == 0, use.exported.stdout[-4000:]
    assert "anomaly, version 1: ONNX opset 18" in use.exported.stdout
    agreement = pd.read_csv(only(use.project, "data/08_reporting/anomaly_export/agreement.csv/*/agreement.csv"))
    assert len(agreement) == 3
    assert (agreement["max_difference"] < 1e-5).all()


def test_the_exported_file_answers_as_the_pipeline_predicted(use):
    path = only(use.project, "data/06_models/anomaly_export/model.onnx/*/model.onnx")
    facts = json.loads(path.with_name("model.json").read_text())
    assert (facts["model"], facts["version"]) == ("anomaly", "1")
    model = OnnxModel(path, threads=1)
    known = pd.read_csv(only(use.project, "data/07_model_output/anomaly/predictions_internal.csv/*/*.csv"))
    for row in known.head(8).itertuples():
        answer = model.answer((use.project / "data/01_raw/sample" / row.path).read_bytes())
        assert answer["score"] == pytest.approx(row.score, rel=0.02, abs=1e-4)  # the pipeline may compute in bf16


def test_without_a_champion_predictions_end_with_one_message(use):
    assert use.predicted.returncode != 0
    assert "promote one first, with kedro run --pipeline promotion --params promotion.model=anomaly" in (
        use.predicted.stdout
    )
    assert "Traceback" not in use.predicted.stdout


def test_the_run_says_which_version_it_used(use):
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{use.project}/mlflow.db")
    try:
        runs = mlflow.search_runs(search_all_experiments=True)
    finally:
        mlflow.set_tracking_uri(before)
    assert list(runs["tags.used.anomaly"].dropna()) == ["1"]
