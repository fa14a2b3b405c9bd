import cv2
import numpy as np
import pytest
from kedro.io.core import DatasetError

from crack_pipeline.datasets import RepairedFolderDataset
from crack_pipeline.imaging.repaired import RepairedChunk, RepairedPhotograph


def repaired(path, shown=True, **facts):
    picture = np.random.default_rng(0).integers(100, 110, (20, 30, 3)).astype(np.uint8)
    return RepairedPhotograph(path, picture, np.full((20, 68, 3), 90, np.uint8) if shown else None, facts)


@pytest.mark.parametrize(("form", "ending", "off"), [("png", "png", 0), ("jpeg", "jpg", 16)])
def test_photographs_and_tables_come_back(tmp_path, form, ending, off):
    folder = tmp_path / "photographs"
    dataset = RepairedFolderDataset(filepath=str(folder), form=form)
    dataset.save(RepairedChunk([repaired("a/1.jpg", crack_pixels=7)], [], 0, False))
    dataset.save(RepairedChunk([repaired("b.jpg", shown=False)], [("c.jpg", "damaged", "cut off")], 1, True))
    table, rejected = dataset.load()
    assert table.columns.tolist() == ["path", "crack_pixels", "repaired", "before_after"]
    assert table["repaired"].tolist() == [f"repaired/a/1.jpg.{ending}", f"repaired/b.jpg.{ending}"]
    assert table["before_after"].tolist()[0] == "before_after/a/1.jpg.jpg"
    assert table["before_after"].isna().tolist() == [False, True]
    assert rejected["path"].tolist() == ["c.jpg"]
    read = cv2.imread(str(folder / table["repaired"][0]), cv2.IMREAD_COLOR_RGB)
    assert np.abs(read.astype(int) - repaired("").picture).max() <= off


def test_a_segmentation_is_not_replaced_by_a_repair(tmp_path):
    (tmp_path / "photographs" / "masks").mkdir(parents=True)
    (tmp_path / "photographs" / "photographs.jsonl").touch()
    dataset = RepairedFolderDataset(filepath=str(tmp_path / "photographs"))
    with pytest.raises(DatasetError, match=r"holds files that are no repair \(masks, …\)"):
        dataset.save(RepairedChunk([repaired("a")], [], 0, True))


@pytest.mark.parametrize(
    ("options", "says"), [({"form": "gif"}, "jpeg or png, not as 'gif'"), ({"quality": 0}, "between 1 and 100, got 0")]
)
def test_a_wrong_option_is_a_clear_message(options, says):
    with pytest.raises(DatasetError, match=says):
        RepairedFolderDataset(filepath="somewhere", **options)
