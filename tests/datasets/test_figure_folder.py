import cv2
import pytest
from kedro.io.core import DatasetError
from matplotlib.figure import Figure

from crack_pipeline.datasets import FigureFolderDataset


def figure():
    drawn = Figure(figsize=(2, 1))
    drawn.add_subplot().plot([0, 1])
    return drawn


def test_figures_become_pictures_named_by_their_keys(tmp_path):
    folder = tmp_path / "output" / "error_maps"
    dataset = FigureFolderDataset(filepath=str(folder), dpi=50)
    assert not dataset.exists()
    dataset.save({"1_a": figure()})
    dataset.save({"2_b": figure(), "3_c": figure()})
    assert dataset.exists()
    assert sorted(path.name for path in folder.iterdir()) == ["1_a.png", "2_b.png", "3_c.png"]
    assert cv2.imread(str(folder / "1_a.png")).shape == (50, 100, 3)


def test_the_next_run_begins_with_an_empty_folder(tmp_path):
    FigureFolderDataset(filepath=str(tmp_path / "maps")).save({"old": figure()})
    FigureFolderDataset(filepath=str(tmp_path / "maps")).save({"new": figure()})
    assert [path.name for path in (tmp_path / "maps").iterdir()] == ["new.png"]


def test_pictures_are_not_read(tmp_path):
    with pytest.raises(DatasetError, match="pictures for people"):
        FigureFolderDataset(filepath=str(tmp_path)).load()
