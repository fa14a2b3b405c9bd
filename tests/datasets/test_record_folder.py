import errno
import pickle
from pathlib import Path

import pytest
from kedro.io.core import DatasetError

from crack_pipeline.datasets import record_folder
from crack_pipeline.datasets.record_folder import RecordFolderDataset
from crack_pipeline.imaging.decoding import Undecodable
from crack_pipeline.imaging.records import Record, RecordChunk


@pytest.fixture
def dataset(tmp_path):
    return RecordFolderDataset(filepath=str(tmp_path / "records"))


def record(path, key="k", **files):
    return Record(path, key, {"of": path, "key": key}, {name: text.encode() for name, text in files.items()})


def run(dataset, *records, kept=(), failed=(), last=True, root="pier"):
    chunks = [RecordChunk([one], [], [], number, last=False) for number, one in enumerate(records)]
    for chunk in chunks:
        dataset.save(chunk)
    dataset.save(RecordChunk([], list(kept), list(failed), len(chunks), last=last, root=root))


def files(dataset):
    folder = Path(dataset._describe()["filepath"])
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in found if name != record_folder.LOCK)


def test_records_come_back(dataset):
    assert not dataset.exists()
    assert dataset.load().key("a") is None
    run(dataset, record("b/1.jpg", mask="m"), record("a.jpg"), failed=[("c.jpg", "damaged", "cannot be decoded")])
    assert dataset.exists()
    found = dataset.load()
    assert found.paths == ["b/1.jpg", "a.jpg"]
    assert found.failed.to_numpy().tolist() == [["c.jpg", "damaged", "cannot be decoded"]]
    assert found.key("a.jpg") == "k"
    assert found.facts("b/1.jpg") == {"of": "b/1.jpg", "key": "k"}
    assert found.read("b/1.jpg", "mask") == b"m"
    assert found.files("b/1.jpg") == {"mask": "b/1.jpg/mask"}


def test_a_run_that_was_killed_keeps_what_it_finished_and_the_next_goes_on(dataset):
    run(dataset, record("a", "1", mask="old"), record("b", "1"))
    dataset.save(RecordChunk([record("a", "2", mask="new")], [], [], 0, last=False))
    dataset._release()  # as the end of a process does
    again = RecordFolderDataset(filepath=dataset._describe()["filepath"])
    found = again.load()
    assert (found.key("a"), found.key("b")) == ("2", "1")
    assert found.read("a", "mask") == b"new"
    run(again, record("b", "2"), kept=["a"])
    assert sorted(again.load().paths) == ["a", "b"]


def test_records_of_photographs_that_are_gone_go_too(dataset):
    run(dataset, record("x/a", mask="m"), record("b"))
    run(dataset, kept=["b"])
    assert dataset.load().key("x/a") is None
    assert files(dataset) == ["b/record.json", "run.json"]
    assert not (Path(dataset._describe()["filepath"]) / "x").exists()


def test_records_stay_of_photographs_that_failed_and_of_another_root(dataset):
    run(dataset, record("a", mask="m"), record("b", mask="m"))
    run(dataset, kept=["b"], failed=[("a", "unreadable", "the share is gone")])
    assert dataset.load().key("a") == "k"
    assert dataset.load().paths == ["b"]
    run(dataset, record("c", mask="m"), root="deck")
    found = dataset.load()
    assert found.paths == ["c"]
    assert (found.key("a"), found.key("b")) == ("k", "k")
    run(dataset, root="deck")
    assert dataset.load().key("c") == "k"


def test_two_runs_do_not_write_at_once(dataset):
    dataset.save(RecordChunk([record("a")], [], [], 0, last=False))
    other = RecordFolderDataset(filepath=dataset._describe()["filepath"])
    with pytest.raises(DatasetError, match="another run is writing to"):
        run(other, record("b"))
    dataset.save(RecordChunk([], [], [], 1, last=True))
    run(other, record("b"), kept=["a"])
    assert sorted(other.load().paths) == ["a", "b"]


def test_workers_write_the_records_of_a_run_that_has_begun(dataset):
    run(dataset, record("a", mask="old", overlay="old"), record("b", mask="m"))
    keeper = pickle.loads(pickle.dumps(dataset.load().keeper()))
    names = dataset.load().keeper().names(["a", "A", "c"])
    assert names[0] == "a" and len({name.casefold() for name in names}) == 3
    dataset.save(RecordChunk([], [], [], 0, last=False))
    new = [Record(path, "2", {"image_id": path, "more": 1}, {"mask": b"new"}) for path in ("a", "A", "c")]
    written = [keeper.put(one, name) for one, name in zip(new, names, strict=True)]
    assert all(one.facts == {"image_id": one.path} for one in written)
    keeper.drop(written.pop())
    dataset.save(RecordChunk(written, ["b"], [], 1, last=True, root="pier"))
    found = dataset.load()
    assert found.paths == ["a", "A", "b"]
    assert found.facts("A") == {"image_id": "A", "more": 1}
    assert (found.read("a", "mask"), found.key("c")) == (b"new", None)
    places = ("a", names[1], "b")
    assert files(dataset) == sorted(
        ["run.json", *(f"{at}/{name}" for at in places for name in ("mask", "record.json"))]
    )


def test_workers_say_what_a_name_costs_and_write_nowhere_else(dataset, tmp_path):
    keeper = dataset.load().keeper()
    with pytest.raises(FileNotFoundError, match="are gone"):
        keeper.put(record("a", mask="m"), "a")
    run(dataset, record("a", mask="m"))
    with pytest.raises(Undecodable, match="cannot be kept under its name"):
        keeper.put(record("b", mask="m"), "a/mask")
    assert RecordFolderDataset(filepath="memory://inspections/photographs").load().keeper() is None
    ticket = dataset.ticket()
    ticket.open()
    assert not list((tmp_path / "records").glob(".ticket*"))
    assert ticket.close([]) == []


def test_a_name_that_is_taken_costs_one_photograph(dataset):
    run(dataset, record("x", **{"mask.png": "m"}), record("x/mask.png", mask="n"), record("run.json", mask="o"))
    found = dataset.load()
    assert found.paths == ["x", "run.json"]
    assert found.read("run.json", "mask") == b"o"
    assert found.failed["path"].tolist() == ["x/mask.png"]


def test_a_record_that_changed_has_its_own_files_alone(dataset):
    run(dataset, record("a", mask="m", overlay="o"))
    run(dataset, record("a", "2", mask="n"))
    assert files(dataset) == ["a/mask", "a/record.json", "run.json"]


@pytest.mark.parametrize("damage", ["record.json", "mask", "emptied"])
def test_a_record_that_is_not_whole_is_none(dataset, damage):
    run(dataset, record("a", mask="m"))
    folder = Path(dataset._describe()["filepath"]) / "a"
    if damage == "emptied":
        (folder / "mask").write_bytes(b"")
    else:
        (folder / damage).unlink()
    assert dataset.load().key("a") is None


def test_a_full_disk_loses_nothing_that_was_finished(dataset, monkeypatch):
    write = Path.write_bytes

    def full(path, content):
        if b"large" in content:
            raise OSError(errno.ENOSPC, "no space left")
        return write(path, content)

    run(dataset, record("a", "1", mask="m"))
    monkeypatch.setattr(record_folder.Path, "write_bytes", full)
    dataset.save(RecordChunk([record("b", mask="m")], [], [], 0, last=False))
    with pytest.raises(DatasetError, match=r"disk of .* is full .*: 1 photographs of this run are finished and stay"):
        dataset.save(RecordChunk([record("a", "2", mask="large")], [], [], 1, last=False))
    found = dataset.load()
    assert (found.key("a"), found.read("a", "mask"), found.key("b")) == ("1", b"m", "k")
    assert not [name for name in files(dataset) if name.endswith(".part")]


def test_names_that_lead_out_of_the_folder_stay_inside(dataset, tmp_path):
    run(dataset, record("../../evil", mask="m"), record("a:b", mask="m"), record("A", mask="m"), record("a", mask="m"))
    assert [path.name for path in tmp_path.iterdir()] == ["records"]
    found = dataset.load()
    assert {found.read(path, "mask") for path in found.paths} == {b"m"}
    assert len({place for path in found.paths for place in found.files(path).values()}) == 4


def test_a_folder_inside_the_place_of_another_photograph_survives(dataset):
    run(dataset, record("a", mask="m"), record("a/b", mask="n"))
    run(dataset, kept=["a/b"])
    assert dataset.load().read("a/b", "mask") == b"n"


def test_a_folder_of_other_files_is_left_alone(dataset, tmp_path):
    (tmp_path / "records").mkdir()
    (tmp_path / "records/thesis.txt").write_text("mine")
    with pytest.raises(DatasetError, match="holds files that are no records"):
        dataset.load()
    with pytest.raises(DatasetError, match="holds files that are no records"):
        run(dataset, record("a"))
    assert (tmp_path / "records/thesis.txt").read_text() == "mine"


def test_chunks_out_of_turn_are_refused(dataset):
    with pytest.raises(DatasetError, match="out of turn"):
        dataset.save(RecordChunk([], [], [], 3, last=True))
