import os
import pickle
import zipfile

import fsspec
import pytest
from kedro.io.core import DatasetError

from crack_pipeline.datasets import RawRootDataset
from crack_pipeline.datasets.raw_root import RemoteRoot
from crack_pipeline.imaging.decoding import StorageLostError


def opened(path, **options):
    return RawRootDataset(filepath=str(path), **options).load()


def good(root):
    return [entry.path for entry in root.list() if not entry.kind]


def bad(root):
    return {entry.path: entry.kind for entry in root.list() if entry.kind}


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "root"
    (root / "b" / "deep").mkdir(parents=True)
    (root / "a-b").mkdir()
    for name in ("b/2", "b/deep/3", "a-b/1", "z"):
        (root / name).write_bytes(name.encode())
    (tmp_path / "secret").write_bytes(b"secret")
    return root


def zipped(path, entries, inner=""):
    with zipfile.ZipFile(path, "w") as archive:
        for name in entries:
            archive.writestr(inner + name, name.encode())
    return path


def check_listing(root):
    assert good(root) == ["a-b/1", "b/2", "b/deep/3", "z"]
    assert all(root.read(path) == path.encode() for path in good(root))
    again = pickle.loads(pickle.dumps(root))
    assert again.read("b/2") == b"b/2"
    assert list(again.list()) == list(root.list())


NAMES = ["z", "b/deep/3", "b/2", "a-b/1"]


def test_folder(folder):
    check_listing(opened(folder))
    assert opened(folder).name == "root"
    assert [entry.size for entry in opened(folder).list()] == [5, 3, 8, 1]


def test_zip_by_its_ending_by_url_and_a_folder_in_it(tmp_path):
    check_listing(opened(zipped(tmp_path / "flat.zip", NAMES)))
    check_listing(opened(f"zip://{zipped(tmp_path / 'other.bin', NAMES)}"))
    check_listing(opened(f"zip://some/where::{zipped(tmp_path / 'deep.zip', NAMES, 'some/where/')}"))


def test_a_zip_named_from_here_is_read_from_elsewhere(tmp_path, monkeypatch):
    zipped(tmp_path / "flat.zip", NAMES)
    monkeypatch.chdir(tmp_path)
    roots = [opened("flat.zip"), opened("zip://flat.zip")]
    monkeypatch.chdir("/")
    for root in roots:
        check_listing(pickle.loads(pickle.dumps(root)))


def test_memory_and_a_zip_in_memory(tmp_path):
    memory = fsspec.filesystem("memory")
    for name in NAMES:
        memory.pipe(f"/raw_root_test/{name}", name.encode())
    memory.pipe("/raw_root_zip/set.zip", zipped(tmp_path / "set.zip", NAMES).read_bytes())
    try:
        check_listing(opened("memory://raw_root_test"))
        check_listing(opened("memory://raw_root_zip/set.zip"))
        with pytest.raises(PermissionError):
            opened("memory://raw_root_test").read("../raw_root_zip/set.zip")
    finally:
        memory.rm("/raw_root_test", recursive=True)
        memory.rm("/raw_root_zip", recursive=True)


def test_links_out_of_the_root_are_neither_listed_nor_read(folder, tmp_path):
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    (folder / "round").symlink_to(folder / "b")
    (folder / "nowhere").symlink_to(folder / "gone")
    (folder / "inside").symlink_to(folder / "z")
    root = opened(folder)
    assert bad(root) == {
        "out": "outside the root",
        "up": "outside the root",
        "round": "not a file",
        "nowhere": "not a file",
    }
    assert good(root) == ["a-b/1", "b/2", "b/deep/3", "inside", "z"]
    for path in ("out", "up/secret", "../secret", str(tmp_path / "secret")):
        with pytest.raises(PermissionError):
            root.read(path)


def test_a_root_that_is_a_link_itself_is_followed(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    check_listing(opened(tmp_path / "link"))


def test_pipes_and_names_that_are_not_text_are_rejected(folder):
    os.mkfifo(folder / "pipe")
    (folder / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    assert bad(opened(folder)) == {"pipe": "not a file", "caf\\xe9": "unreadable"}


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "a\\..\\..\\evil", "C:/evil", "C:\\evil"])
def test_names_that_lead_out_of_a_zip_are_never_read(tmp_path, name):
    root = opened(zipped(tmp_path / "set.zip", ["ok", name]))
    assert good(root) == ["ok"]
    assert list(bad(root).values()) == ["outside the root"]
    with pytest.raises(PermissionError):
        root.read(name)


def test_links_twins_and_encrypted_files_in_a_zip(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        with pytest.warns(UserWarning, match="Duplicate"):
            for text in ("one", "two"):
                archive.writestr("twin", text)
        archive.writestr("locked", "x")
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x01\x02", 0, data.rfind(b"locked"))
    data[at + 8] |= 1
    path.write_bytes(data)
    assert bad(opened(path)) == {"link": "outside the root", "twin": "unreadable", "locked": "unreadable"}


def test_damage_in_a_zip_is_an_oserror(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("file", os.urandom(1000))
    data = bytearray(path.read_bytes())
    data[200:260] = bytes(60)
    path.write_bytes(data)
    with pytest.raises(OSError, match="archive"):
        opened(path).read("file")


def test_what_is_not_there_is_one_clear_message(tmp_path):
    (tmp_path / "not.zip").write_bytes(b"no zip")
    (tmp_path / "file").write_bytes(b"")
    for name, message in {
        "gone": "gone does not exist: give a folder",
        "gone.zip": "gone.zip does not exist",
        "file": "is a file: give a folder",
        "not.zip": "not a zip file",
        "data/01_raw/sample": "render it first: kedro run --pipeline sample",
    }.items():
        dataset = RawRootDataset(filepath=str(tmp_path / name))
        assert not dataset.exists()
        with pytest.raises(DatasetError, match=message):
            dataset.load()
    with pytest.raises(DatasetError, match="nosuchprotocol"):
        opened("nosuchprotocol://bucket")


def test_nothing_is_ever_written(folder):
    with pytest.raises(DatasetError, match="raw data are only read"):
        RawRootDataset(filepath=str(folder)).save([])


@pytest.fixture
def store(monkeypatch):
    """An object store of ten photographs, whose reading of a file can be made to fail."""
    memory = fsspec.filesystem("memory")
    for number in range(10):
        memory.pipe(f"/raw_root_store/{number}", b"photograph")
    cat_file, failing = type(memory).cat_file, {}

    def cat(self, path, **options):
        for name, errors in failing.items():
            if name in ("", path.rpartition("/")[2]) and errors:
                raise errors.pop()
        return cat_file(self, path, **options)

    monkeypatch.setattr(type(memory), "cat_file", cat)
    monkeypatch.setattr(RemoteRoot, "_pauses", (0.0, 0.0, 0.0))
    yield failing
    memory.rm("/raw_root_store", recursive=True)


ERRORS = [
    ConnectionError("unplugged"),
    PermissionError("the token has expired"),
    TimeoutError("no answer"),
    RuntimeError("503 Slow Down"),
    FileNotFoundError("the bucket is gone"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("read", [(), ("0", "1")])
def test_a_store_that_fails_is_no_fault_of_a_file(store, error, read):
    root = opened("memory://raw_root_store")
    names = good(root)
    for name in read:
        root.read(name)
    store[""] = [error] * 99
    message = rf"memory:///raw_root_store cannot be read any more, neither 5 nor .*: {error}\. What is finished stays"
    for _ in range(2):
        with pytest.raises(StorageLostError, match=message):
            pickle.loads(pickle.dumps(root)).read("5")
    left = len(store[""])
    with pytest.raises(StorageLostError):
        root.read("5")
    with pytest.raises(StorageLostError):
        root.read("6")
    assert left - len(store[""]) <= len(names) // 2 + 2  # who has found out does not look again


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_file_that_cannot_be_read_is_no_fault_of_the_store(store, error):
    root = opened("memory://raw_root_store")
    assert good(root)
    store["5"] = [error] * 99
    with pytest.raises(OSError, match=str(error)):
        root.read("5")
    assert root.read("6") == b"photograph"


def test_a_bad_moment_of_a_store_costs_nothing(store):
    root = opened("memory://raw_root_store")
    assert good(root)
    store["5"] = [ConnectionError("unplugged")] * 2
    assert root.read("5") == b"photograph"


def test_a_store_that_cannot_be_listed_is_named(store, monkeypatch):
    root = opened("memory://raw_root_store")
    monkeypatch.setattr(RemoteRoot, "_entries", lambda _: (_ for _ in ()).throw(ConnectionError("unplugged")))
    with pytest.raises(StorageLostError, match="the files of memory:///raw_root_store cannot be listed: unplugged"):
        list(root.list())


def test_a_zip_in_a_store_that_fails_is_not_damaged(tmp_path, store):
    fsspec.filesystem("memory").pipe("/raw_root_store/set.zip", zipped(tmp_path / "set.zip", NAMES).read_bytes())
    root = opened("memory://raw_root_store/set.zip")
    assert root.read("z") == b"z"
    with pytest.raises(OSError, match="does not give it"):
        root.read("nowhere")
    store["set.zip"] = [ConnectionError("unplugged")] * 99
    with pytest.raises(StorageLostError, match=r"memory://raw_root_store/set.zip cannot be read any more"):
        root.read("nowhere")


def test_a_folder_that_is_unplugged_is_no_fault_of_its_files(folder):
    root = opened(folder)
    assert good(root)
    (folder / "z").unlink()
    with pytest.raises(FileNotFoundError):
        root.read("z")
    assert root.read("b/2") == b"b/2"
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(StorageLostError, match="cannot be read any more"):
        root.read("a-b/1")


def test_no_password_is_shown(caplog):
    dataset = RawRootDataset(filepath="sftp://somebody:secret@127.0.0.1:1/photographs")
    with pytest.raises(DatasetError, match=r"raw_root sftp://127\.0\.0\.1:1/photographs cannot be opened") as error:
        dataset.load()
    assert "secret" not in f"{error.value}{dataset}{caplog.text}"
