"""The repair of photographs as a user runs it: commands, files and screen."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

OUTPUT, REPORT = "data/07_model_output/inpainting", "data/08_reporting/inpainting"


@pytest.fixture(scope="module")
def use(sample, finished_project, make_project, kedro, tmp_path_factory):
    """Photographs with masks, and a detector; then new ones in a project without any model."""
    project, bare, root = make_project(), make_project(), tmp_path_factory.mktemp("pairs")
    shutil.copytree(finished_project / "data/06_models", project / "data/06_models", dirs_exist_ok=True)
    for kind, source in (("images", sample / "Positive"), ("masks", sample / "masks/Positive")):
        (root / kind).mkdir()
        for path in sorted(source.iterdir())[:6]:
            shutil.copy(path, root / kind)
    for path in sorted((sample / "Negative").iterdir())[:4]:
        shutil.copy(path, root / f"images/sound_{path.name}")
        sound = np.zeros(cv2.imread(str(path)).shape[:2], np.uint8)
        cv2.imwrite(str(root / f"masks/sound_{path.stem}.png"), sound)
    (root / "images/broken.jpg").write_bytes(b"\xff\xd8 no more")
    shutil.copy(next((root / "masks").iterdir()), root / "masks/broken.png")
    chosen = f"raw_root={root},dataset=pairs,inpainting.fill.method=texture"
    repaired = kedro(project, "run", "--pipeline", "inpainting", "--params", chosen)
    refused = kedro(bare, "run", "--pipeline", "inpainting", "--params", f"raw_root={root},dataset=unlabelled")
    return SimpleNamespace(project=project, root=root, repaired=repaired, refused=refused)


def only(project, path):
    (found,) = (project / path).glob(f"*/{path.rpartition('/')[2]}")
    return found


def test_photographs_are_repaired_in_their_size_and_listed(use):
    assert use.repaired.returncode == 0, use.repaired.stdout[-4000:]
    table = pd.read_csv(only(use.project, f"{OUTPUT}/predictions_repaired.csv"))
    assert {"image_id", "path", "crack_pixels", "seconds", "method"} <= set(table)
    assert (len(table), set(table["method"]), set(table["cracks"])) == (10, {"texture"}, {"mask"})
    sound = table["path"].str.contains("sound")
    assert (table.loc[sound, "filled_pixels"] == 0).all()
    for row in table[~sound].itertuples():
        before, mask = (
            cv2.imread(str(use.root / path), cv2.IMREAD_GRAYSCALE)
            for path in (row.path, row.path.replace("images", "masks").replace(".jpg", ".png"))
        )
        after = cv2.imread(str(use.project / OUTPUT / "photographs" / row.repaired), cv2.IMREAD_GRAYSCALE)
        assert after.shape == before.shape
        crack = mask > 127
        assert after[crack].mean() > before[crack].mean() + 10
        shown = cv2.imread(str(use.project / OUTPUT / "photographs" / row.before_after))
        assert shown.shape[:2] == (before.shape[0], 2 * before.shape[1] + 8)
    quarantine = pd.read_csv(use.project / "data/02_intermediate/inpainting/quarantine.csv")
    assert quarantine["path"].tolist() == ["images/broken.jpg"]


def test_methods_are_compared_and_the_detector_is_asked(use):
    metrics = json.loads(only(use.project, f"{REPORT}/metrics.json").read_text())
    assert set(metrics["methods"]) == {"median", "telea", "navier_stokes", "biharmonic", "texture"}
    assert all(entry["psnr"] > 15 for entry in metrics["methods"].values())
    assert metrics["methods"]["texture"]["segmenter"] is None
    assert metrics["alarmed"]["detector"] >= 1
    assert 0 <= metrics["methods"]["texture"]["detector"] <= 1
    assert np.std(cv2.imread(str(only(use.project, f"{REPORT}/filled_cracks.png")))) > 0
    assert "6 of 10 photographs repaired with the method texture" in use.repaired.stdout


def test_new_photographs_without_a_segmenter_are_refused_with_what_to_do(use):
    assert use.refused.returncode != 0
    assert "no segmenter is trained: run one of the pipelines" in use.refused.stdout
