"""Who may write to a folder: one run at a time, on the disk and in a store."""

import errno
import multiprocessing
import os
import threading

import fsspec
import pytest
from kedro.io import DatasetError

from crack_pipeline.datasets import lease
from crack_pipeline.datasets.lease import DiskLease, StoreLease
from crack_pipeline.datasets.places import SharedFolder

STORE = "memory:///leases/images"


@pytest.fixture(autouse=True)
def store(monkeypatch, tmp_path):
    """An object store of this process."""
    found = fsspec.filesystem("memory")
    found.store.clear()
    found.pseudo_dirs[:] = [""]
    monkeypatch.chdir(tmp_path)
    return found


@pytest.fixture(params=["disk", "store"])
def place(request, tmp_path):
    return str(tmp_path / "data/images") if request.param == "disk" else STORE


def test_a_disk_without_locks_is_warned_of_and_another_fault_is_an_error(tmp_path, monkeypatch, caplog):
    lock = DiskLease(tmp_path / "images")

    def fails_with(number):
        def flock(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("fcntl.flock", flock)

    fails_with(errno.ENOLCK)
    lock.take()
    lock.release()
    assert "lies on a file system without locks" in caplog.text
    fails_with(errno.EIO)
    with pytest.raises(DatasetError, match=r"cannot be written to: .*Input/output error"):
        lock.take()


def test_one_has_it_at_a_time(place):
    one, other = (SharedFolder(place).lease() for _ in range(2))
    assert isinstance(one, DiskLease if "://" not in place else StoreLease)
    one.take()
    who = f"another run is writing to {one.place} \\(process {os.getpid()} on .*, since 20.* UTC.*: start this one when"
    with pytest.raises(DatasetError, match=who):
        other.take()
    one.check()
    one.release()
    other.take()
    with pytest.raises(DatasetError, match="another run is writing"):
        one.take()
    other.release()
    one.take()
    one.release()
    one.release()


def test_a_process_that_is_killed_leaves_no_lock_on_the_disk(tmp_path):
    place = str(tmp_path / "images")
    processes = multiprocessing.get_context("fork")
    here, there = processes.Pipe()

    def hold():
        held = SharedFolder(place).lease()
        held.take()
        there.send("has it")
        there.recv()

    process = processes.Process(target=hold)
    process.start()
    assert here.poll(30) and here.recv() == "has it"
    own = SharedFolder(place).lease()
    with pytest.raises(DatasetError, match=rf"another run is writing to {place} \(process {process.pid} on "):
        own.take()
    process.kill()
    process.join()
    own.take()
    own.release()


def test_who_is_not_heard_of_is_taken_for_dead_and_finds_out(monkeypatch, store, caplog):
    monkeypatch.setattr(lease, "RENEWED", 0.02)
    one, other = StoreLease(store, "/leases/images"), StoreLease(store, "/leases/images")
    one.take()
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "ls", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("unplugged")))
        with pytest.raises(DatasetError, match=r"nobody can tell whether another run .* it breaks off the connection"):
            other.take()
    with pytest.raises(DatasetError, match="was killed, that is noticed after 180 seconds"):
        other.take()
    monkeypatch.setattr(lease, "DEAD", 0.0)
    other.take()
    assert "not heard of" in caplog.text
    ends = threading.Event()
    for _ in range(500):
        if one._lost:
            break
        ends.wait(0.01)
    with pytest.raises(DatasetError, match=r"another run has begun to write to memory:///leases/images \(process"):
        one.check()
    one.release()
    other.check()
    assert other._holder(other._number).ended is False
    other.release()


def test_a_machine_that_slept_finds_out_before_it_writes(monkeypatch, store):
    one, other = StoreLease(store, "/leases/images"), StoreLease(store, "/leases/images")
    one.take()
    one._heard -= 200
    one.check()
    one._heard -= 200
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "ls", lambda *_, **__: (_ for _ in ()).throw(ConnectionError("unplugged")))
        with pytest.raises(DatasetError, match="nobody can tell whether another run writes"):
            one.check()
    monkeypatch.setattr(lease, "DEAD", 0.0)
    other.take()
    with pytest.raises(DatasetError, match="another run has begun to write"):
        one.check()
    one.release()
    other.release()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DatasetError, match=f"{tmp_path}/data/images cannot be written to"):
        SharedFolder(str(tmp_path / "data/images")).lease().take()


def test_who_looked_long_ago_gets_nothing(monkeypatch, store):
    """Meanwhile others had it one after the other, and their objects are gone."""
    late = StoreLease(store, "/leases/images")
    ls, calls = type(store).ls, []

    def meanwhile(self, *arguments, **options):
        found = ls(self, *arguments, **options)
        calls.append(1)
        if len(calls) == 1:
            for _ in range(3):
                last = StoreLease(store, "/leases/images")
                last.take()
                if _ < 2:
                    last.release()
        return found

    first = StoreLease(store, "/leases/images")
    first.take()
    first.release()
    monkeypatch.setattr(type(store), "ls", meanwhile)
    with pytest.raises(DatasetError, match="has begun to write to memory:///leases/images at the same time"):
        late.take()


def test_a_store_that_knows_no_conditions_will_do(monkeypatch, store):
    pipe = type(store).pipe_file

    def without(self, path, value, mode="overwrite", **options):
        if mode == "create":
            raise OSError("A header you provided implies functionality that is not implemented")
        return pipe(self, path, value, **options)

    monkeypatch.setattr(type(store), "pipe_file", without)
    one, other = StoreLease(store, "/leases/images"), StoreLease(store, "/leases/images")
    one.take()
    with pytest.raises(DatasetError, match="another run is writing"):
        other.take()
    one.release()


def test_something_else_in_its_place_is_named(store):
    store.pipe_file("/leases/.images.lease/00000001", b"[]")
    with pytest.raises(DatasetError, match="00000001 was not written here"):
        StoreLease(store, "/leases/images").take()
