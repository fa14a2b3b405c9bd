import pytest
from kedro.io.core import DatasetError

from crack_pipeline.datasets import FolderDataset


def test_the_folder_is_made_when_it_is_asked_for(tmp_path):
    dataset = FolderDataset(filepath=str(tmp_path / "a" / "checkpoints"))
    assert not dataset.exists()
    folder = dataset.load()
    assert folder == tmp_path / "a" / "checkpoints"
    assert folder.is_dir()
    assert dataset.exists()
    (folder / "deeper").mkdir()
    (folder / "deeper/file").write_text("kept until it is cleared")
    assert dataset.load() == folder
    assert (folder / "deeper/file").exists()
    dataset.clear()
    assert not folder.exists()
    dataset.clear()


def test_nothing_is_saved_into_it(tmp_path):
    with pytest.raises(DatasetError, match="nothing is saved through the catalog"):
        FolderDataset(filepath=str(tmp_path)).save("weights")
