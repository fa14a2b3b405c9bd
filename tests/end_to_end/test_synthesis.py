"""The learned generator as a user runs it: commands, files and screen."""

from __future__ import annotations

import json
import shutil

import cv2
import pandas as pd
import pytest

FIGURES = ("training_curves", "reconstructions", "samples", "walks", "nearest")


@pytest.fixture(scope="module")
def use(sample, make_project, kedro):
    project = make_project()
    shutil.copytree(sample, project / "data/01_raw/sample")
    done = kedro(project, "run", "--pipeline", "synthesis")
    assert done.returncode == 0, done.stdout[-4000:]
    return project, done.stdout


def only(project, path):
    (found,) = (project / path).glob(f"*/{path.rpartition('/')[2]}")
    return found


def test_pictures_are_written_as_a_data_set_with_a_manifest(use):
    folder = use[0] / "data/07_model_output/synthesis/drawn"
    manifest = pd.read_csv(folder / "manifest.csv")
    assert len(manifest) == manifest["seed"].nunique() == 6
    for row in manifest.itertuples():
        image, mask = cv2.imread(str(folder / row.path)), cv2.imread(str(folder / row.mask_path), cv2.IMREAD_GRAYSCALE)
        assert image.shape == (64, 64, 3)
        assert (mask == 255).sum() == row.crack_pixels


def test_the_generator_is_judged(use):
    project, screen = use
    judgement = json.loads(only(project, "data/08_reporting/synthesis/judgement.json").read_text())
    low, high = judgement["real_or_generated"]["ci95"]
    assert 0 <= low <= judgement["real_or_generated"]["share"] <= high <= 1
    assert {"density", "coverage", "copies"} <= set(judgement)
    drawn = pd.read_csv(only(project, "data/08_reporting/synthesis/drawn_and_nearest.csv"))
    assert {"seed", "nearest", "correlation", "copy", "generated"} <= set(drawn)
    assert drawn["correlation"].is_monotonic_decreasing
    assert "a classifier tells real pictures from drawn ones in" in screen
    for name in FIGURES:
        assert cv2.imread(str(only(project, f"data/08_reporting/synthesis/{name}.png"))).std() > 0


def test_simulated_pictures_are_written_and_judged(use, kedro):
    project, _ = use
    done = kedro(project, "run", "--pipeline", "synthesis_simulated")
    assert done.returncode == 0, done.stdout[-4000:]
    folder = project / "data/07_model_output/synthesis_simulated/drawn"
    manifest = pd.read_csv(folder / "manifest.csv")
    assert len(manifest) == 6
    for row in manifest.itertuples():
        mask = cv2.imread(str(folder / row.mask_path), cv2.IMREAD_GRAYSCALE)
        assert cv2.imread(str(folder / row.path)).shape == (48, 48, 3)
        assert (mask == 255).sum() == row.crack_pixels
        assert row.label == ("crack" if row.crack_pixels else "normal")
    judgement = json.loads(only(project, "data/08_reporting/synthesis_simulated/judgement.json").read_text())
    assert 0 <= judgement["real_or_generated"]["share"] <= 1
    assert "a classifier tells real pictures from drawn ones in" in done.stdout
    for name in ("samples", "nearest"):
        assert cv2.imread(str(only(project, f"data/08_reporting/synthesis_simulated/{name}.png"))).std() > 0


def test_photographs_of_sound_concrete_are_enough_to_simulate_on(use, sample, kedro):
    project, _ = use
    flat = f"raw_root={sample / 'Negative'},dataset=sound,synthesis_simulated.pictures.number=4"
    done = kedro(project, "run", "--pipeline", "synthesis_simulated", "--params", flat)
    assert done.returncode == 0, done.stdout[-4000:]
    assert len(pd.read_csv(project / "data/07_model_output/synthesis_simulated/drawn/manifest.csv")) == 4
    assert "no photograph of the role test shows a crack to judge with" in done.stdout


def test_the_gain_is_measured(use, kedro):
    project, _ = use
    done = kedro(project, "run", "--pipeline", "synthesis_gain")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "what synthetic cracks add" in done.stdout
    gains = pd.read_csv(only(project, "data/08_reporting/synthesis_gain/gains.csv"))
    assert set(gains["pairs"]) == {4, 8}
    assert set(gains["synthetic"]) == {"none", "auto"}
    assert (gains.loc[gains["synthetic"] == "none", "gain"].dropna() == 0).all()
    assert cv2.imread(str(only(project, "data/08_reporting/synthesis_gain/gain_curve.png"))).std() > 0
    assert not list((project / "data/06_models/synthesis_gain").rglob("*.ckpt"))
