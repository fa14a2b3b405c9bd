import errno
import pickle
from pathlib import Path

import pytest
from kedro.io.core import DatasetError

from crack_pipeline.datasets import SegmentationFolderDataset, UnfinishedSegmentationDataset
from crack_pipeline.imaging.records import Record
from crack_pipeline.imaging.segmented import SegmentedChunk


@pytest.fixture
def place(tmp_path):
    return str(tmp_path / "output/photographs")


@pytest.fixture
def dataset(place):
    return SegmentationFolderDataset(filepath=place)


@pytest.fixture
def keeper(place):
    return pickle.loads(pickle.dumps(UnfinishedSegmentationDataset(filepath=place).load()))


def record(path, **files):
    return Record(path, "k", {"score": 0.5}, {kind: content.encode() for kind, content in files.items()})


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_what_workers_write_is_what_one_process_would(dataset, keeper, place, tmp_path):
    records = [record("a/1.jpg", mask="m", overlay="o"), record("a/1.JPG", mask="n"), record("..", mask="u")]
    alone = SegmentationFolderDataset(filepath=str(tmp_path / "alone"))
    alone.save(SegmentedChunk(records, [], 0, last=True))
    dataset.save(SegmentedChunk([], [], 0, last=False))
    names = keeper.names([each.path for each in records])
    written = [keeper.put(each, name) for each, name in zip(records, names, strict=True)]
    keeper.drop(keeper.put(record("copy", mask="m"), "copy"))
    dataset.save(SegmentedChunk(written, [], 1, last=True))
    assert files(place) == files(tmp_path / "alone")
    assert [path.name for path in Path(place).parent.iterdir()] == ["photographs"]
    with pytest.raises(ValueError, match="came twice"):
        keeper.names(["a", "a"])


def test_who_comes_late_writes_nothing(dataset, keeper, place):
    with pytest.raises(OSError):
        keeper.put(record("a", mask="m"), "a")
    dataset.save(SegmentedChunk([], [], 0, last=True))
    with pytest.raises(OSError):
        keeper.put(record("a", mask="m"), "a")
    assert [path.name for path in Path(place).parent.iterdir()] == ["photographs"]


def test_what_is_not_whole_is_never_there(dataset, keeper, place, monkeypatch):
    def half(path, content):
        path.open("wb").write(content[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    dataset.save(SegmentedChunk([], [], 0, last=False))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(OSError, match="No space left"):
            keeper.put(record("a", mask="mask"), "a")
    dataset.save(SegmentedChunk([], [("a", "lost", "gone")], 1, last=True))
    assert set(files(place)) == {"photographs.jsonl", "rejected.jsonl"}


def test_two_runs_do_not_write_at_once(dataset, place):
    dataset.save(SegmentedChunk([record("a", mask="m")], [], 0, last=False))
    other = SegmentationFolderDataset(filepath=place)
    with pytest.raises(DatasetError, match=r"another run is writing to .*unfinished: wait for its end"):
        other.save(SegmentedChunk([], [], 0, last=True))
    dataset.save(SegmentedChunk([], [], 1, last=True))
    assert dataset.load().photographs["path"].tolist() == ["a"]
    other.save(SegmentedChunk([], [], 0, last=True))
    assert dataset.load().photographs.empty


def test_a_folder_of_an_object_store_is_not_for_workers_and_a_ticket_tries_where_it_will_be(place):
    remote = UnfinishedSegmentationDataset(filepath="memory://results/photographs")
    assert (remote.load(), remote.ticket()) == (None, None)
    ticket = UnfinishedSegmentationDataset(filepath=place).ticket()
    assert ticket.name == place
    ticket.open()
    ticket.use("10.0.0.1")
    assert ticket.close(["10.0.0.1"]) == []
    with pytest.raises(DatasetError, match=r"not to .*photographs as a whole"):
        UnfinishedSegmentationDataset(filepath=place).save(1)
