"""The segmenter that learns from labels as a user runs it: commands, files and screen."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import cv2
import pandas as pd
import pytest

WAYS = ("simulated", "self_training_from_simulated")
FIGURES = ("pseudo_masks", "training_curves", "precision_recall", "crack_widths", "examples", "comparison_figure")


@pytest.fixture(scope="module")
def use(sample, make_project, kedro, tmp_path_factory):
    project, small = make_project(), make_project()
    shutil.copytree(sample, project / "data/01_raw/sample")
    trained = kedro(project, "run", "--pipeline", "weak_segmentation")
    assert trained.returncode == 0, trained.stdout[-4000:]
    new = tmp_path_factory.mktemp("new")
    shutil.copy(next((sample / "Positive").glob("*.jpg")), new / "a.jpg")
    predicted = kedro(project, "run", "--pipeline", "weak_segmentation_predict", "--params", f"raw_root={new}")
    evaluated = kedro(
        project, "run", "--pipeline", "weak_segmentation_evaluate", "--params", "raw_root=data/01_raw/sample"
    )
    noisy = kedro(project, "run", "--pipeline", "label_noise")
    folders = tmp_path_factory.mktemp("folders")
    for name in ("Negative", "Positive"):
        shutil.copytree(sample / name, folders / name)
    without = make_project()
    way = f"raw_root={folders},weak_segmentation.way=maps"
    without_masks = kedro(without, "run", "--pipeline", "weak_segmentation", "--params", way)
    only = tmp_path_factory.mktemp("only")
    shutil.copytree(sample / "Negative", only / "Negative")
    one_class = kedro(small, "run", "--pipeline", "weak_segmentation", "--params", f"raw_root={only}")
    return SimpleNamespace(
        project=project,
        trained=trained,
        without=without,
        without_masks=without_masks,
        predicted=predicted,
        evaluated=evaluated,
        noisy=noisy,
        one_class=one_class,
        small=small,
    )


def newest(project, path):
    return sorted((project / path).glob(f"*/{path.rpartition('/')[2]}"))[-1]


def test_metrics_figures_and_models_are_in_their_places(use):
    metrics = json.loads(newest(use.project, "data/08_reporting/weak_segmentation/metrics.json").read_text())
    assert {"dice", "iou", "f1_tolerant", "dice_ci95"} <= set(metrics["sets"]["test"])
    for name in FIGURES:
        assert cv2.imread(str(newest(use.project, f"data/08_reporting/weak_segmentation/{name}.png"))).std() > 0
    kept = {path.name for path in (use.project / "data/06_models/weak_segmentation/ways").iterdir()}
    assert kept == {f"{way}-folders.safetensors" for way in WAYS}


def test_all_ways_stand_in_one_table_on_the_same_photographs(use):
    table = pd.read_csv(newest(use.project, "data/08_reporting/weak_segmentation/comparison.csv"))
    assert set(table["segmenter"]) == {f"{way}-folders" for way in WAYS}
    learned = table.set_index("segmenter")["learned_from"]
    assert learned["simulated-folders"] == "simulated cracks, on concrete that labels call sound"
    assert learned["self_training_from_simulated-folders"] == "labels of photographs and simulated cracks"
    assert len(set(table["photographs"])) == 1
    assert (table["seen"] == 0).all()
    assert (table["minutes"] > 0).all()
    assert "all segmenters that there are" in use.trained.stdout


def test_other_photographs_are_measured_and_new_ones_segmented(use):
    assert use.evaluated.returncode == 0, use.evaluated.stdout[-4000:]
    found = json.loads(newest(use.project, "data/08_reporting/weak_segmentation_evaluate/evaluation.json").read_text())
    assert found["learned_from"] > 0
    assert "it would be worse on others" in use.evaluated.stdout
    assert use.predicted.returncode == 0, use.predicted.stdout[-4000:]
    (mask,) = (use.project / "data/07_model_output/weak_segmentation_predict/photographs/masks").rglob("*.png")
    assert cv2.imread(str(mask)) is not None


def test_what_wrong_labels_cost_is_measured(use):
    assert use.noisy.returncode == 0, use.noisy.stdout[-4000:]
    assert "20 % of 50 wrong, " in use.noisy.stdout
    trainings = pd.read_csv(newest(use.project, "data/08_reporting/label_noise/trainings.csv"))
    assert trainings["wrong"].tolist() == [0.2]
    assert cv2.imread(str(newest(use.project, "data/08_reporting/label_noise/curve.png"))).std() > 0
    assert not list((use.project / "data/06_models/label_noise").rglob("*.ckpt"))


def test_two_folders_without_any_mask_are_enough(use):
    done = use.without_masks
    assert done.returncode == 0, done.stdout[-4000:]
    assert "no mask of a crack is known of these photographs" in done.stdout
    assert "photographs labelled as cracked are told from" in done.stdout
    predictions = pd.read_csv(newest(use.without, "data/07_model_output/weak_segmentation/predictions_test.csv"))
    cracked = predictions[predictions["label"] == "crack"]
    assert cracked["dice"].isna().all()
    assert len(cracked)
    assert cracked["score"].mean() > predictions.loc[predictions["label"] == "normal", "score"].mean()


def test_a_folder_of_one_class_ends_with_one_line_and_without_a_model(use):
    assert use.one_class.returncode != 0
    assert "with a crack" in use.one_class.stdout
    assert not list((use.small / "data/06_models").rglob("*.safetensors"))
