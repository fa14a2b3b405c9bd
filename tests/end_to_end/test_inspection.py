"""The inspection as a user runs it: commands, files and screen."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import cv2
import pandas as pd
import pytest

REPORTS = "data/08_reporting/inspection"


@pytest.fixture(scope="module")
def use(sample, segmented_project, make_project, kedro, tmp_path_factory):
    project = make_project()
    shutil.copytree(segmented_project / "data/06_models", project / "data/06_models", dirs_exist_ok=True)
    photographs = tmp_path_factory.mktemp("photographs")
    (photographs / "pier").mkdir()
    for number, source in enumerate(sorted((sample / "Positive").glob("*.jpg"))[:3]):
        shutil.copy(source, photographs / f"pier/{number}.jpg")
    # Names that a table of text does not give back as they were
    (photographs / "pier/2.jpg").rename(photographs / "007")
    (photographs / "NA").write_bytes((photographs / "pier/0.jpg").read_bytes()[:200])
    (photographs / "scale.csv").write_text("path,millimetres_per_pixel\n*,0.5\n")
    root = f"raw_root={photographs}"
    first = kedro(project, "run", "--pipeline", "inspection", "--params", root)
    shutil.copy(sorted((sample / "Negative").glob("*.jpg"))[0], photographs / "pier/9.jpg")
    again = kedro(project, "run", "--pipeline", "inspection", "--params", root)
    (photographs / "scale.csv").write_text("path,millimetres_per_pixel\nabutment.jpg,0.5\n")
    wrong = kedro(project, "run", "--pipeline", "inspection", "--params", root)
    untrained = kedro(project, "run", "--pipeline", "inspection", "--params", "inspection.model=label_free")
    return SimpleNamespace(project=project, first=first, again=again, wrong=wrong, untrained=untrained)


def versions(use, name):
    return sorted((use.project / REPORTS / name).glob(f"*/{name}"))


def test_tables_and_files_for_other_tools_are_in_their_places(use):
    assert use.first.returncode == 0, use.first.stdout[-4000:]
    cracks = pd.read_csv(versions(use, "cracks.csv")[0])
    assert (cracks["length_mm"] / cracks["length_px"]).round(6).eq(0.5).all()
    assert set(cracks["path"].astype(str)) <= {"pier/0.jpg", "pier/1.jpg", "007", "7"}
    coco = json.loads(versions(use, "cracks.coco.json")[0].read_text())
    geojson = json.loads(versions(use, "cracks.geojson")[0].read_text())
    assert len(coco["annotations"]) == len(geojson["features"]) == len(cracks) > 0
    assert json.loads(versions(use, "totals.json")[0].read_text())["cracks"] == len(cracks)
    assert cv2.imread(str(versions(use, "widths.png")[0])).std() > 0
    table = pd.read_csv(next((use.project / "data/07_model_output/inspection/predictions_new.csv").glob("*/*.csv")))
    overlay = use.project / "data/07_model_output/inspection/photographs" / table["overlay"].iloc[0]
    assert cv2.imread(str(overlay)) is not None


def test_the_last_lines_say_what_was_found_and_what_was_left_out(use):
    assert "photographs show cracks: " in use.first.stdout
    assert "NA: " in use.first.stdout
    assert "AASHTO" in use.first.stdout
    assert "report.html" in use.first.stdout


def test_the_report_is_one_file_that_names_every_photograph(use):
    first, again = (path.read_text() for path in versions(use, "report.html"))
    assert "pier/0.jpg" in first
    assert '"007"' in first
    assert "pier/9.jpg" not in first
    assert "pier/9.jpg" in again


def test_only_the_new_photograph_is_worked_on(use):
    assert use.again.returncode == 0, use.again.stdout[-4000:]
    assert "inspected 5 of 5 photographs, 3 of them in an earlier run" in use.again.stdout


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("wrong", "ValueError: scale.csv, row 2: no photograph is called abutment.jpg"),
        ("untrained", "train them first, with kedro run --pipeline label_free"),
    ],
)
def test_what_cannot_be_done_is_one_message_before_any_work(use, run, message):
    done = getattr(use, run)
    assert done.returncode != 0
    assert message in done.stdout
    assert "Traceback" not in done.stdout
    assert "Completed node: inspection.inspect_photographs" not in done.stdout
