"""The anomaly pipelines as a user runs them: commands, files, screen and MLflow."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pandas as pd
import psutil
import pytest
from safetensors import safe_open

from warm_start import begin_module

METRICS = {"roc_auc", "average_precision", "precision", "recall", "f1", "fpr", "confusion", "n"} | {
    f"{name}_ci95" for name in ("roc_auc", "average_precision", "precision", "recall")
}
PREDICTIONS = ["image_id", "path", "label", "score", "predicted"]
FIGURES = (
    "training_curves",
    "reconstructions",
    "confident",
    "false_alarms",
    "misses",
    "roc",
    "score_histogram",
)
TRAIN = ("run", "--pipeline", "anomaly")
SECONDS = 240


@dataclass(frozen=True)
class Use:
    """What came of the commands that follow a training, in a copy of the finished project."""

    project: Path
    new: Path
    predicted: subprocess.CompletedProcess[str]
    evaluated: subprocess.CompletedProcess[str]
    bad_parameter: subprocess.CompletedProcess[str]
    missing_root: subprocess.CompletedProcess[str]
    too_early: subprocess.CompletedProcess[str]
    resumed: subprocess.CompletedProcess[str]
    resumed_project: Path


def only(project, path):
    """The one version of a versioned dataset."""
    (found,) = (project / path).glob(f"*/{Path(path).name}")
    return found


def load(project, path):
    return json.loads(only(project, path).read_text())


def new_photographs(folder, sample):
    """Six photographs of mixed formats and sizes, one in a folder of its own, and one file that is none."""
    (folder / "deeper").mkdir(parents=True)
    sources = sorted((sample / "Positive").iterdir())[:3] + sorted((sample / "Negative").iterdir())[:3]
    names = ["a.jpg", "b.png", "deeper/c.tif", "d.bmp", "e.webp", "f.PNG"]
    for number, (source, name) in enumerate(zip(sources, names, strict=True)):
        grey = cv2.resize(cv2.imread(str(source)), (40 + 30 * number, 50 + 20 * number))
        cv2.imwrite(str(folder / name), grey)
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:200])


def relabelled(folder, sample):
    """Another labelled folder: some photographs of the sample, mirrored."""
    for label in ("Negative", "Positive"):
        (folder / label).mkdir(parents=True)
        for source in sorted((sample / label).glob("*.jpg"))[:12]:
            cv2.imwrite(str(folder / label / f"{source.stem}.png"), cv2.imread(str(source))[:, ::-1])


@pytest.fixture(scope="session")
def use(finished_project, sample, make_project, kedro, surroundings, tmp_path_factory) -> Use:
    """Run every command once, two at a time: the start of a process takes longest."""
    new, other = tmp_path_factory.mktemp("new"), tmp_path_factory.mktemp("other")
    new_photographs(new, sample)
    relabelled(other, sample)

    project, untrained, killed = make_project(), make_project(), make_project()
    shutil.copytree(finished_project / "data/06_models", project / "data/06_models", dirs_exist_ok=True)
    shutil.copytree(sample, killed / "data/01_raw/sample")

    def predict_and_evaluate():
        return (
            kedro(project, "run", "--pipeline", "anomaly_predict", "--params", f"raw_root={new}"),
            kedro(project, "run", "--pipeline", "anomaly_evaluate", "--params", f"raw_root={other}"),
        )

    def fail():
        return (
            kedro(untrained, *TRAIN, "--params", "anomaly.threshold.level=200"),
            kedro(untrained, *TRAIN, "--params", f"raw_root={untrained}/nowhere"),
            kedro(untrained, "run", "--pipeline", "anomaly_predict", "--params", f"raw_root={new}"),
        )

    def kill_and_resume():
        kill_in_training(killed, surroundings)
        return kedro(killed, *TRAIN)

    with ThreadPoolExecutor(2) as pool:
        resumed, used, failed = (pool.submit(work) for work in (kill_and_resume, predict_and_evaluate, fail))
        predicted, evaluated = used.result()
        bad_parameter, missing_root, too_early = failed.result()
        return Use(
            project,
            new,
            predicted,
            evaluated,
            bad_parameter,
            missing_root,
            too_early,
            resumed.result(),
            killed,
        )


def kill_in_training(project, surroundings):
    """Begin the pipeline and kill all of its processes when at least two epochs are behind it."""
    process = begin_module("kedro", *TRAIN, folder=project, surroundings=surroundings | {"KEDRO_ENV": "test"})
    checkpoints = project / "data/06_models/anomaly/checkpoints"
    deadline = time.monotonic() + SECONDS
    while len(list(checkpoints.rglob("*.ckpt"))) < 2:
        assert process.exitcode is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoints appeared"
        time.sleep(0.005)
    below = psutil.Process(process.pid).children(recursive=True)
    for one in (process, *below):
        one.kill()
    process.join(SECONDS)
    assert process.exitcode == -signal.SIGKILL


def test_everything_that_others_read_is_in_its_place(finished_project):
    manifest = pd.read_parquet(finished_project / "data/02_intermediate/anomaly/manifest.parquet")
    assert {"image_id", "path", "label", "mask_path", "width", "height", "group", "source"} <= set(manifest)
    quarantine = pd.read_csv(finished_project / "data/02_intermediate/anomaly/quarantine.csv")
    assert {"path", "reason"} <= set(quarantine)
    partition = pd.read_parquet(finished_project / "data/03_primary/anomaly/partition.parquet")
    assert {"image_id", "role"} <= set(partition)
    assert set(partition["role"]) == {"train", "validation", "test", "external"}
    for weights in ("network", "detector"):
        with safe_open(only(finished_project, f"data/06_models/anomaly/{weights}.safetensors"), "np") as file:
            assert "to_mean.weight" in file.keys()  # noqa: SIM118
    for name in FIGURES:
        picture = cv2.imread(str(only(finished_project, f"data/08_reporting/anomaly/{name}.png")))
        assert picture.std() > 0


def test_predictions_hold_each_set_once(finished_project):
    partition = pd.read_parquet(finished_project / "data/03_primary/anomaly/partition.parquet")
    threshold = load(finished_project, "data/08_reporting/anomaly/metrics.json")["threshold"]
    for name, role in {"internal": "test", "external": "external"}.items():
        table = pd.read_csv(only(finished_project, f"data/07_model_output/anomaly/predictions_{name}.csv"))
        assert list(table) == PREDICTIONS
        assert sorted(table["image_id"]) == sorted(partition["image_id"][partition["role"] == role])
        assert ((table["predicted"] == "crack") == (table["score"] > threshold)).all()


def test_metrics_keep_their_form(finished_project):
    metrics = load(finished_project, "data/08_reporting/anomaly/metrics.json")
    assert {"score", "threshold", "sets", "baseline"} <= set(metrics)
    for entry in (metrics, metrics["baseline"], *metrics["others"].values()):
        assert set(entry["sets"]) == {"internal", "external"}
        for found in entry["sets"].values():
            assert set(found) == METRICS
            assert set(found["confusion"]) == {"tn", "fp", "fn", "tp"}
            assert set(found["n"]) == {"normal", "crack"}
    assert metrics["sets"]["external"]["roc_auc"] > 0.9


def test_no_checkpoint_is_left(finished_project):
    assert not list((finished_project / "data/06_models").rglob("*.ckpt"))


@pytest.fixture
def tracking(finished_project):
    """The tracking of the project for what MLflow looks up by itself, such as a model of the name of a folder."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{finished_project}/mlflow.db")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


def test_mlflow_has_parameters_curves_metrics_pictures_and_model(finished_project, tracking, monkeypatch):
    monkeypatch.chdir(finished_project)
    client = tracking
    (run,) = client.search_runs([client.get_experiment_by_name("crack_pipeline").experiment_id])
    assert run.info.status == "FINISHED"
    epochs = len(pd.read_csv(only(finished_project, "data/08_reporting/anomaly/training_history.csv")))
    expected = {"anomaly.vae.epochs": str(epochs), "plan.accelerator": "cpu", "anomaly.threshold.rule": "percentile"}
    assert expected.items() <= run.data.params.items()
    fingerprint = json.loads((finished_project / "data/03_primary/anomaly/data_fingerprint.json").read_text())
    assert run.data.tags["data_fingerprint"] == fingerprint["fingerprint"]
    for name in ("train_loss", "validation_loss"):
        points = client.get_metric_history(run.info.run_id, name)
        assert sorted(point.step for point in points) == list(range(epochs))
    metrics = load(finished_project, "data/08_reporting/anomaly/metrics.json")
    assert run.data.metrics["external.roc_auc"] == pytest.approx(metrics["sets"]["external"]["roc_auc"])
    assert run.data.metrics["contrast.internal.f1"] == pytest.approx(metrics["baseline"]["sets"]["internal"]["f1"])
    kept = {Path(file.path).name for file in client.list_artifacts(run.info.run_id, "anomaly")}
    pictures = {f"{name}.png" for name in FIGURES}
    tables = {"predictions_internal.csv", "predictions_external.csv", "metrics.json"}
    assert kept >= {"detector.safetensors"} | pictures | tables


def test_a_training_registers_the_next_version_of_its_model(finished_project, use):
    client = mlflow.MlflowClient(f"sqlite:///{finished_project}/mlflow.db")
    (version,) = client.search_model_versions("name = 'anomaly'")
    metrics = load(finished_project, "data/08_reporting/anomaly/metrics.json")
    assert float(version.tags["threshold"]) == metrics["threshold"]
    assert float(version.tags["metric.external.roc_auc"]) == pytest.approx(metrics["sets"]["external"]["roc_auc"])
    assert version.tags["pipeline"] == "anomaly"
    assert client.get_run(version.run_id).data.tags["data_fingerprint"] == version.tags["data_fingerprint"]
    assert "registered anomaly, version 1" in use.resumed.stdout


def test_new_photographs_are_judged(use):
    assert use.predicted.returncode == 0, use.predicted.stdout[-3000:]
    table = pd.read_csv(only(use.project, "data/07_model_output/anomaly_predict/predictions_new.csv"))
    assert list(table) == PREDICTIONS
    assert sorted(table["path"]) == ["a.jpg", "b.png", "d.bmp", "deeper/c.tif", "e.webp", "f.PNG"]
    assert set(table["predicted"]) <= {"crack", "normal"}
    assert np.isfinite(table["score"]).all()
    assert table["label"].isna().all()
    quarantine = pd.read_csv(use.project / "data/02_intermediate/anomaly_predict/quarantine.csv")
    assert quarantine["path"].tolist() == ["broken.jpg"]
    maps = sorted((use.project / "data/07_model_output/anomaly_predict/error_maps").iterdir())
    ranked = table.nlargest(3, "score")["image_id"]
    assert [path.name for path in maps] == [f"{rank:05d}_{name}.png" for rank, name in enumerate(ranked, start=1)]
    assert "of 6 images look cracked; 1 files in quarantine" in use.predicted.stdout


def test_an_evaluation_measures_and_changes_nothing(use, finished_project):
    assert use.evaluated.returncode == 0, use.evaluated.stdout[-3000:]
    found = load(use.project, "data/08_reporting/anomaly_evaluate/evaluation.json")
    metrics = load(finished_project, "data/08_reporting/anomaly/metrics.json")
    assert (found["score"], found["threshold"]) == (metrics["score"], metrics["threshold"])
    for entry in (found, found["baseline"]):
        assert set(entry["sets"]) == {"evaluation"}
        assert set(entry["sets"]["evaluation"]) == METRICS
        assert entry["sets"]["evaluation"]["n"] == {"normal": 12, "crack": 12}
    table = pd.read_csv(only(use.project, "data/07_model_output/anomaly_evaluate/predictions_evaluation.csv"))
    assert table["label"].value_counts().to_dict() == {"normal": 12, "crack": 12}
    detector = "data/06_models/anomaly/detector.safetensors"
    assert only(use.project, detector).read_bytes() == only(finished_project, detector).read_bytes()


def test_a_wrong_parameter_is_one_line_before_anything_runs(use):
    assert use.bad_parameter.returncode != 0
    said = use.bad_parameter.stdout
    assert "anomaly.threshold.level: Input should be less than 100, got 200" in said
    assert said.count("Input should be less than 100") == 1
    assert "Traceback" not in said
    assert "Completed" not in said


def test_a_root_that_is_missing_is_named(use):
    assert use.missing_root.returncode != 0
    said = use.missing_root.stdout
    assert "nowhere does not exist: give a folder" in said
    assert "Traceback" not in said


def test_a_prediction_before_any_training_says_what_is_missing(use):
    assert use.too_early.returncode != 0
    said = use.too_early.stdout
    assert "Traceback" not in said
    assert "anomaly.detector" in said


def test_a_training_that_was_killed_ends_as_an_uninterrupted_one(use, finished_project):
    assert use.resumed.returncode == 0, use.resumed.stdout[-3000:]
    assert "going on after epoch" in use.resumed.stdout
    for path in ("data/08_reporting/anomaly/metrics.json", "data/08_reporting/anomaly/training_history.csv"):
        assert only(use.resumed_project, path).read_text() == only(finished_project, path).read_text()
    assert not list((use.resumed_project / "data/06_models").rglob("*.ckpt"))
