import pickle
import uuid

import pyarrow as pa
import pytest
from kedro.io import DatasetError

from crack_pipeline.datasets import BlockFolderDataset


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    place = str(tmp_path / "blocks") if request.param == "local" else f"memory://{uuid.uuid4().hex}/blocks"
    return BlockFolderDataset(filepath=place).load()


def test_what_was_written_is_read_wherever_the_folder_was_opened(folder):
    assert folder.names() == set()
    table = pa.table({"path": ["a", "b"], "score": [0.5, 1.0]})
    folder.write("one", table)
    pickle.loads(pickle.dumps(folder)).write("two", table[:1])
    assert folder.names() == {"one", "two"}
    assert folder.read("one") == table
    folder.write("one", table[1:])
    assert folder.read("one")["path"].to_pylist() == ["b"]
    folder.keep({"two"})
    assert folder.names() == {"two"}
    folder.remove("two")
    folder.remove("two")
    assert folder.names() == set()


def test_a_block_that_is_missing_or_damaged_is_an_os_error(folder):
    with pytest.raises(OSError):
        folder.read("none")
    folder.write("one", pa.table({"path": ["a"]}))
    folder._put(folder._path("one"), b"PAR1 and no more")
    with pytest.raises(OSError, match="is damaged"):
        folder.read("one")


def test_a_block_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    folder = BlockFolderDataset(filepath=str(tmp_path / "blocks")).load()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder._filesystem, "mv", full)
    with pytest.raises(OSError, match="No space left"):
        folder.write("one", pa.table({"path": ["a"]}))
    assert list((tmp_path / "blocks").iterdir()) == []


def test_a_file_system_that_is_not_known_is_an_error_and_nothing_is_saved_as_a_whole(tmp_path):
    with pytest.raises(DatasetError, match="strange://blocks cannot be opened"):
        BlockFolderDataset(filepath="strange://blocks").load()
    dataset = BlockFolderDataset(filepath=str(tmp_path))
    assert not dataset.exists()
    with pytest.raises(DatasetError, match="blocks are written by those who do them"):
        dataset.save(1)
