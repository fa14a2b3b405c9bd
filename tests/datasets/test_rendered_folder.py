import logging

import pytest
from kedro.io.core import DatasetError

from crack_pipeline.datasets import rendered_folder
from crack_pipeline.datasets.rendered_folder import RenderedFolderDataset


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "raw" / "sample"


@pytest.fixture
def dataset(folder):
    return RenderedFolderDataset(filepath=str(folder))


def contents(dataset):
    return {name: read() for name, read in dataset.load().items()}


def test_files_come_back(dataset):
    assert not dataset.exists()
    dataset.save([("b/1.jpg", b"one"), ("a/b/2.jpg", b"two")])
    assert dataset.exists()
    assert contents(dataset) == {"a/b/2.jpg": b"two", "b/1.jpg": b"one"}


def test_nothing_of_an_earlier_rendering_is_left(dataset, folder):
    dataset.save([("a/1.jpg", b"old"), ("c/2.jpg", b"old")])
    dataset.save([("a/1.jpg", b"new")])
    assert contents(dataset) == {"a/1.jpg": b"new"}
    assert [path.name for path in folder.parent.iterdir()] == ["sample"]


def test_an_interrupted_rendering_leaves_the_earlier_one(dataset, folder):
    dataset.save([("a/1.jpg", b"old")])

    def interrupted():
        yield "a/1.jpg", b"new"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.save(interrupted())
    assert contents(dataset) == {"a/1.jpg": b"old"}
    assert [path.name for path in folder.parent.iterdir()] == ["sample"]


def test_what_a_killed_rendering_left_is_cleared_away(dataset, folder):
    (folder.parent / ".sample.partial" / "a").mkdir(parents=True)
    (folder.parent / ".sample.partial" / "a" / "9.jpg").write_bytes(b"half")
    dataset.save([("a/1.jpg", b"new")])
    assert contents(dataset) == {"a/1.jpg": b"new"}


def test_files_from_elsewhere_are_never_replaced(dataset, folder):
    folder.mkdir(parents=True)
    (folder / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(DatasetError, match=r"holiday\.jpg.*is not replaced"):
        dataset.save([("a/1.jpg", b"new")])
    assert (folder / "holiday.jpg").read_bytes() == b"mine"


def test_an_empty_folder_may_be_taken(dataset, folder):
    folder.mkdir(parents=True)
    (folder / ".gitkeep").touch()
    dataset.save([("a/1.jpg", b"new")])
    assert contents(dataset) == {"a/1.jpg": b"new"}


@pytest.mark.parametrize("name", ["../1.jpg", "/tmp/1.jpg", "a/../../1.jpg", ""])
def test_names_stay_inside_the_folder(dataset, folder, name):
    with pytest.raises(DatasetError, match="no name of a file inside"):
        dataset.save([(name, b"new")])
    assert not folder.exists()


def test_progress_is_told(dataset, caplog, monkeypatch):
    monkeypatch.setattr(rendered_folder, "SECONDS_BETWEEN_MESSAGES", 0.0)
    with caplog.at_level(logging.INFO, logger=rendered_folder.__name__):
        dataset.save([(f"a/{i}.jpg", b"") for i in range(3)])
    assert "wrote 2 of 3 files" in caplog.text
    assert "wrote 3 files to" in caplog.text
