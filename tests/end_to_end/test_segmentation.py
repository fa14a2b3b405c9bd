"""The segmentation pipelines as a user runs them: commands, files, screen and MLflow."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from safetensors import safe_open

WITH_INTERVAL = ("dice", "iou", "precision", "recall", "f1", "dice_per_image", "miou", "f1_tolerant")
FIGURES = ("training_curves", "precision_recall", "threshold_curve", "crack_widths", "examples")


@dataclass(frozen=True)
class Use:
    """What came of the commands, and where."""

    project: Path
    tuning: Path
    new: Path
    trained: str
    predicted: subprocess.CompletedProcess[str]
    evaluated: subprocess.CompletedProcess[str]
    tuned: subprocess.CompletedProcess[str]
    wrong_weights: subprocess.CompletedProcess[str]
    too_early: subprocess.CompletedProcess[str]


def only(project, path):
    """The one version of a versioned dataset."""
    (found,) = (project / path).glob(f"*/{Path(path).name}")
    return found


def new_photographs(folder, sample):
    """Photographs of several sizes and formats, one narrower than a tile, and two files that are of no use."""
    (folder / "deeper").mkdir(parents=True)
    sources = sorted((sample / "Positive").iterdir())[:3]
    for source, name, size in zip(
        sources, ("a.jpg", "deeper/b.png", "c.tif"), ((64, 64), (200, 130), (20, 90)), strict=True
    ):
        cv2.imwrite(str(folder / name), cv2.resize(cv2.imread(str(source)), size))
    cv2.imwrite(str(folder / "thin.png"), np.full((90, 1, 3), 120, np.uint8))
    (folder / "broken.jpg").write_bytes((folder / "a.jpg").read_bytes()[:200])


def pairs(folder, sample):
    """Another labelled folder in the layout of DeepCrack: some photographs of the sample, mirrored."""
    (folder / "test_img").mkdir(parents=True)
    (folder / "test_lab").mkdir()
    for source in sorted((sample / "Positive").glob("*.jpg"))[:6]:
        cv2.imwrite(str(folder / "test_img" / f"{source.stem}.png"), cv2.imread(str(source))[:, ::-1])
        mask = cv2.imread(str(sample / "masks/Positive" / f"{source.stem}.png"), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(folder / "test_lab" / f"{source.stem}.png"), mask[:, ::-1])


@pytest.fixture(scope="module")
def use(sample, segmented_project, make_project, kedro, tmp_path_factory) -> Use:
    project = tmp_path_factory.mktemp("segmentation") / "project"
    untrained, tuning = make_project(), make_project()
    shutil.copytree(segmented_project, project)
    shutil.copytree(sample, tuning / "data/01_raw/sample")
    new, other = tmp_path_factory.mktemp("new"), tmp_path_factory.mktemp("other")
    new_photographs(new, sample)
    pairs(other, sample)
    (other / "other.pth").write_bytes(b"not weights")

    def run(place, name, *params):
        return kedro(place, "run", "--pipeline", name, *(("--params", ",".join(params)) if params else ()))

    with ThreadPoolExecutor(2) as pool:
        tuned = pool.submit(run, tuning, "segmentation_tuning")
        early = pool.submit(run, untrained, "segmentation_predict", f"raw_root={new}")
        predicted = pool.submit(run, project, "segmentation_predict", f"raw_root={new}")
        evaluated = pool.submit(run, project, "segmentation_evaluate", f"raw_root={other}", "dataset=deepcrack")
        wrong = pool.submit(
            run,
            untrained,
            "segmentation",
            f"raw_root={sample}",
            f"segmentation.encoder_weights={other}/other.pth",
        )
        return Use(
            project,
            tuning,
            new,
            (project / "said.txt").read_text(),
            predicted.result(),
            evaluated.result(),
            tuned.result(),
            wrong.result(),
            early.result(),
        )


def test_everything_that_others_read_is_in_its_place(use):
    manifest = pd.read_parquet(use.project / "data/02_intermediate/segmentation/manifest.parquet")
    assert {"image_id", "path", "label", "mask_path", "width", "height", "group", "source"} <= set(manifest)
    partition = pd.read_parquet(use.project / "data/03_primary/segmentation/partition.parquet")
    assert set(partition["role"]) == {"train", "validation", "test"}
    with safe_open(only(use.project, "data/06_models/segmentation/segmenter.safetensors"), "np") as file:
        facts = json.loads(file.metadata()["facts"])
    assert {"network", "image", "threshold", "tiles", "data"} <= set(facts)
    for name in FIGURES:
        assert cv2.imread(str(only(use.project, f"data/08_reporting/segmentation/{name}.png"))).std() > 0
    assert not list((use.project / "data/06_models").rglob("*.ckpt"))


def test_metrics_keep_their_form_and_beat_chance(use):
    metrics = json.loads(only(use.project, "data/08_reporting/segmentation/metrics.json").read_text())
    found = metrics["sets"]["test"]
    for name in WITH_INTERVAL:
        low, high = found[f"{name}_ci95"]
        assert 0 <= low <= found[name] <= high <= 1
    assert found["f1"] == found["dice"]
    assert found["dice"] > 0.5


def test_predictions_hold_the_test_set_once(use):
    partition = pd.read_parquet(use.project / "data/03_primary/segmentation/partition.parquet")
    table = pd.read_csv(only(use.project, "data/07_model_output/segmentation/predictions_test.csv"))
    assert list(table)[:5] == ["image_id", "path", "label", "score", "predicted"]
    assert sorted(table["image_id"]) == sorted(partition["image_id"][partition["role"] == "test"])


def test_the_screen_says_what_was_found_and_where(use):
    assert "a pixel is a crack from a probability of" in use.trained
    assert "data/08_reporting/segmentation/metrics.json" in use.trained


def test_mlflow_has_parameters_curves_and_metrics(use, monkeypatch):
    monkeypatch.chdir(use.project)
    client = mlflow.MlflowClient(f"sqlite:///{use.project}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("crack_pipeline").experiment_id])
    (run,) = [run for run in runs if "segmentation.training.steps" in run.data.params]
    assert run.info.status == "FINISHED"
    assert run.data.params["segmentation.network.levels"] == "3"
    assert run.data.metrics["test.dice"] > 0.5
    assert len(client.get_metric_history(run.info.run_id, "validation_dice")) == 4


def test_a_prediction_gives_a_mask_for_every_photograph_of_any_size(use):
    assert use.predicted.returncode == 0, use.predicted.stdout[-4000:]
    table = pd.read_csv(only(use.project, "data/07_model_output/segmentation_predict/predictions_new.csv"))
    assert set(table["path"]) == {"a.jpg", "deeper/b.png", "c.tif"}
    folder = use.project / "data/07_model_output/segmentation_predict/photographs"
    for row in table.itertuples():
        mask = cv2.imread(str(folder / row.mask), cv2.IMREAD_UNCHANGED)
        assert mask.shape == (row.height, row.width)
        assert set(np.unique(mask)) <= {0, 255}
        assert (mask > 0).mean() == pytest.approx(row.crack_share)
        assert (folder / "overlays" / f"{row.path}.jpg").is_file()
    quarantine = pd.read_csv(use.project / "data/02_intermediate/segmentation_predict/quarantine.csv")
    assert set(quarantine["path"]) == {"broken.jpg", "thin.png"}
    assert "1 × 90 px" in quarantine.set_index("path").loc["thin.png", "reason"]


def test_an_evaluation_measures_and_chooses_nothing(use):
    assert use.evaluated.returncode == 0, use.evaluated.stdout[-4000:]
    found = json.loads(only(use.project, "data/08_reporting/segmentation_evaluate/evaluation.json").read_text())
    metrics = json.loads(only(use.project, "data/08_reporting/segmentation/metrics.json").read_text())
    assert found["threshold"] == metrics["threshold"]
    assert found["sets"]["evaluation"]["n"]["photographs"] == 6
    assert found["sets"]["evaluation"]["dice"] > 0.4


def test_a_search_names_the_best_parameters(use):
    assert use.tuned.returncode == 0, use.tuned.stdout[-4000:]
    best = yaml.safe_load(only(use.tuning, "data/08_reporting/segmentation_tuning/best_parameters.yml").read_text())
    assert {"network", "training"} <= set(best["segmentation"])
    assert len(pd.read_csv(only(use.tuning, "data/08_reporting/segmentation_tuning/trials.csv"))) == 3


def test_errors_are_one_message_that_says_what_to_do(use):
    assert use.too_early.returncode != 0
    assert "train them first, with kedro run --pipeline segmentation" in use.too_early.stdout
    assert "Traceback" not in use.too_early.stdout
    assert use.wrong_weights.returncode != 0
    assert "the network has no encoder" in use.wrong_weights.stdout
    assert "Traceback" not in use.wrong_weights.stdout
