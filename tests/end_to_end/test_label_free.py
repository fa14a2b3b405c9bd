"""The label-free segmenter as a user runs it: commands, files and screen."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

FIGURES = ("simulated", "training_curves", "precision_recall", "threshold_curve", "crack_widths", "examples")


@pytest.fixture(scope="module")
def use(sample, make_project, kedro, tmp_path_factory):
    project, small = make_project(), make_project()
    shutil.copytree(sample, project / "data/01_raw/sample")
    trained = kedro(project, "run", "--pipeline", "label_free")
    assert trained.returncode == 0, trained.stdout[-4000:]
    new = tmp_path_factory.mktemp("new")
    shutil.copy(next((sample / "Positive").glob("*.jpg")), new / "a.jpg")
    predicted = kedro(project, "run", "--pipeline", "label_free_predict", "--params", f"raw_root={new}")
    flat = tmp_path_factory.mktemp("flat")
    for path in (sample / "Negative").glob("*.jpg"):
        shutil.copy(path, flat)
    short = "label_free.training.steps=10,label_free.training.steps_per_epoch=10"
    sound = kedro(small, "run", "--pipeline", "label_free", "--params", f"raw_root={flat},dataset=sound,{short}")
    return SimpleNamespace(project=project, trained=trained, predicted=predicted, small=small, sound=sound)


def only(project, path):
    (found,) = (project / path).glob(f"*/{path.rpartition('/')[2]}")
    return found


def test_metrics_figures_and_predictions_are_in_their_places(use):
    metrics = json.loads(only(use.project, "data/08_reporting/label_free/metrics.json").read_text())
    assert {"dice", "iou", "precision", "recall", "f1_tolerant", "miou"} <= set(metrics["sets"]["test"])
    for name in FIGURES:
        assert cv2.imread(str(only(use.project, f"data/08_reporting/label_free/{name}.png"))).std() > 0
    predictions = pd.read_csv(only(use.project, "data/07_model_output/label_free/predictions_test.csv"))
    assert {"image_id", "path", "label", "score", "predicted"} <= set(predictions)
    assert "cracks by their width" in use.trained.stdout


def test_new_photographs_are_segmented(use):
    assert use.predicted.returncode == 0, use.predicted.stdout[-4000:]
    table = pd.read_csv(only(use.project, "data/07_model_output/label_free_predict/predictions_new.csv"))
    assert table["path"].tolist() == ["a.jpg"]
    (mask,) = (use.project / "data/07_model_output/label_free_predict/photographs/masks").rglob("*.png")
    assert set(np.unique(cv2.imread(str(mask), cv2.IMREAD_GRAYSCALE))) <= {0, 255}


def test_nothing_but_photographs_of_sound_concrete_is_enough(use):
    assert use.sound.returncode == 0, use.sound.stdout[-4000:]
    assert only(use.small, "data/06_models/label_free/segmenter.safetensors").stat().st_size > 0
    metrics = json.loads(only(use.small, "data/08_reporting/label_free/metrics.json").read_text())
    assert metrics["sets"]["test"]["n"]["crack_pixels"] == 0
