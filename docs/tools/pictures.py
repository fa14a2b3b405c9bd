"""Make the pictures of the documentation: of rendered photographs alone, by the commands that a reader types.

    python docs/tools/pictures.py [--project <folder>]

The commands run in a copy of the project in a temporary folder, some twenty minutes on two cores. With --project they
are not run: the folder is a copy of the project in which they have been. Chromium photographs the report.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "docs/pictures"
WIDTH, LARGEST = 1000, 200_000
HEAD, THIRD = 0.0143, 0.3275
"""Heights of the legend of the tall figure, and of a third of its rows, as shares of it."""
SHORT = "segmentation.training.steps=480,segmentation.training.steps_per_epoch=60,segmentation.training.crop=128"
COMMANDS = (
    "--pipeline sample",
    "--pipeline anomaly",
    f"--pipeline segmentation --params {SHORT},segmentation.tiles.augmentations=1",
    "--pipeline promotion --params promotion.model=anomaly",
    "--pipeline synthesis_simulated --params synthesis_simulated.pictures.number=60,"
    "synthesis_simulated.judging.pictures=60,synthesis_simulated.judging.steps=60,synthesis_simulated.judging.folds=2",
    "--pipeline anomaly --params anomaly.vae.seed=1,anomaly.vae.epochs=3,anomaly.vae.least_steps=30",
    "--pipeline promotion --params promotion.model=anomaly",
    "--pipeline sample --params sample.crack=5,sample.normal=1,sample.size=1024,sample.difficulty=0.35,sample.seed=3",
    "--pipeline inspection --params raw_root=data/01_raw/sample/Positive,"
    "inspection.scale.millimetres_per_pixel=0.05,inspection.tiles.augmentations=1",
)
FIGURES = {
    "anomaly": "anomaly/confident.png",
    "anomaly_scores": "anomaly/score_histogram.png",
    "segmentation": "segmentation/examples.png",
    "synthesis": "synthesis_simulated/samples.png",
    "promotion": "promotion/comparison.png",
}
"""Pictures by name, and where the pipelines put them; the first version counts, of a promotion the last."""


def run_all(project: Path) -> None:
    """Copy the project, and type the commands."""
    for name in ("conf", "src", "pyproject.toml", ".telemetry"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, project / name)
    for layer in (ROOT / "data").iterdir():
        (project / "data" / layer.name).mkdir(parents=True)
    kedro = Path(sys.executable).with_name("kedro")
    for command in COMMANDS:
        print(f"kedro run {command}", flush=True)
        subprocess.run([str(kedro), "run", *command.split()], cwd=project, check=True)


def side_by_side(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Lay the upper, middle and lower third of a tall figure side by side, below its head."""
    head = round(HEAD * len(picture))
    third = round(THIRD * len(picture))
    below = np.hstack([picture[head + n * third : head + (n + 1) * third] for n in range(3)])
    top = np.full((head, below.shape[1], 3), 255, np.uint8)
    top[:, : picture.shape[1]] = picture[:head]
    return np.vstack([top, below])


def shrink(source: Path, name: str) -> None:
    """Write a picture as JPEG, as wide as a page and no larger than it may be."""
    picture = np.asarray(cv2.imread(str(source)), np.uint8)
    if len(picture) > 3 * picture.shape[1]:
        picture = side_by_side(picture)
    height, width = picture.shape[:2]
    if width > WIDTH:
        picture = cv2.resize(picture, (WIDTH, round(height * WIDTH / width)), interpolation=cv2.INTER_AREA)
    for quality in range(88, 40, -6):
        content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(content) <= LARGEST:
            break
    (PLACE / f"{name}.jpg").write_bytes(content)
    print(f"{name}.jpg: {len(content) / 1e3:.0f} kB")


def photograph_report(project: Path, scratch: Path) -> None:
    """Open the newest report in a browser without a window; photograph its beginning and the page of a photograph."""
    report = max((project / "data/08_reporting/inspection/report.html").glob("*/report.html"))
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        sys.exit("a browser is needed to photograph the report: chromium or google-chrome")
    for name, place, size in (("report", "", "1280,900"), ("inspection", "#photo=5", "1280,860")):
        shot = scratch / f"{name}.png"
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={size}"]
        options += ["--virtual-time-budget=4000", f"--screenshot={shot}"]
        subprocess.run([browser, *options, f"{report.as_uri()}{place}"], check=True, capture_output=True)
        shrink(shot, name)


def main() -> None:
    """Run what is needed, and write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--project", type=Path, help="where the commands have been run")
    project = parser.parse_args().project
    PLACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        if project is None:
            project = Path(scratch) / "project"
            project.mkdir()
            run_all(project)
        for name, figure in FIGURES.items():
            found = sorted((project / "data/08_reporting" / figure).glob("*/*.png"))
            shrink(found[-1 if name == "promotion" else 0], name)
        photograph_report(project, Path(scratch))


if __name__ == "__main__":
    main()
