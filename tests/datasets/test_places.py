import json
from datetime import UTC, datetime, timedelta

import fsspec
import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io import DatasetError, Version
from kedro_datasets.json import JSONDataset
from matplotlib.figure import Figure

from crack_pipeline.datasets import (
    FigureFolderDataset,
    ImageStackDataset,
    ModelJSONDataset,
    OptionalParquetDataset,
    RecordFolderDataset,
    RenderedFolderDataset,
    SafetensorsDataset,
    TextPartsDataset,
)
from crack_pipeline.datasets.places import CURRENT, DISK, SharedFolder, local_copy, place_of
from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging.records import Record, RecordChunk
from crack_pipeline.models.weights import Weights
from stacks import write_stack

STORE = "memory:///project"


@pytest.fixture(autouse=True)
def store():
    """An object store of this process."""
    found = fsspec.filesystem("memory")
    found.store.clear()
    found.pseudo_dirs[:] = [""]
    return found


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Go to a machine: opens a shared folder on a disk of its own."""

    def go(name, url=f"{STORE}/folder"):
        monkeypatch.setenv(DISK, str(tmp_path / name))
        return SharedFolder(url)

    return go


def fill(shared, **contents):
    shared.folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = shared.folder / name.replace("_", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)


def contents(shared):
    return {
        path.relative_to(shared.folder).as_posix(): path.read_text()
        for path in shared.folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("version", [None, "2026-01-01T00.00.00.000Z"])
def test_files_lie_in_a_store_as_on_a_disk(store, version):
    found = None if version is None else Version(None, version)
    weights = SafetensorsDataset(filepath=f"{STORE}/model.safetensors", version=found)
    assert not weights.exists()
    weights.save(Weights({"layer": torch.arange(3)}, {"level": 0.5}))
    assert weights.exists()
    loaded = weights.load()
    assert loaded.facts == {"level": 0.5} and loaded.tensors["layer"].tolist() == [0, 1, 2]
    plan = resolve(Compute(accelerator="cpu", precision="32-true"))
    model = ModelJSONDataset(filepath=f"{STORE}/plan.json", model="crack_pipeline.engines.compute.Plan", version=found)
    model.save(plan)
    assert model.load() == plan
    report = TextPartsDataset(filepath=f"{STORE}/report.html", version=found)
    report.save(part for part in ("one ", "two"))
    assert report.load() == "one two"
    inside = f"/{version}/report.html" if version else ""
    assert place_of(report) == f"{STORE}/report.html{inside}"
    with local_copy(report) as file:
        assert (file.name, file.read_text()) == ("report.html", "one two")


def test_a_table_in_a_store_may_not_be_there_yet():
    table = OptionalParquetDataset(filepath=f"{STORE}/known_roles.parquet")
    assert table.load() is None
    table.save(pd.DataFrame({"image_id": ["a"], "role": ["train"]}))
    assert table.load()["role"].tolist() == ["train"]


def test_a_file_that_is_broken_off_leaves_the_one_before():
    report = TextPartsDataset(filepath=f"{STORE}/report.html")
    report.save(["whole"])

    def parts():
        yield "half"
        raise OSError("the disk is full")

    with pytest.raises(DatasetError, match=f"{STORE}/report.html cannot be written: the disk is full"):
        report.save(parts())
    assert report.load() == "whole"


def test_a_damaged_file_is_named_by_its_url(store):
    store.pipe_file("/project/model.safetensors", b"nonsense")
    with pytest.raises(DatasetError, match=f"{STORE}/model.safetensors is damaged"):
        SafetensorsDataset(filepath=f"{STORE}/model.safetensors").load()


def test_a_folder_goes_from_machine_to_machine(machine, store):
    first = machine("first")
    fill(first, a="1", deep_b="2")
    (first.folder / ".lock").touch()
    (first.folder / "c.part").touch()
    assert not first.exists(True)
    first.share()
    second = machine("second")
    assert second.exists(False) and second.folder != first.folder
    second.bring()
    assert contents(second) == {"a": "1", "deep/b": "2"}
    assert second.place == first.place and second.place.startswith(f"{STORE}/folder/20")
    fill(second, a="3")
    (second.folder / "deep/b").unlink()
    second.share()
    first.bring()
    assert contents(first) == {"a": "3"}
    states = [path for path in store.ls("/project/folder", detail=False) if not path.endswith(CURRENT)]
    assert len(states) == 1


def test_what_is_here_is_not_brought_again(machine, monkeypatch):
    shared = machine("first")
    fill(shared, a="1")
    shared.share()
    fill(shared, a="not shared yet")
    shared.bring()
    assert contents(shared) == {"a": "not shared yet"}


def test_a_machine_that_is_killed_while_it_shares_leaves_the_state_before(machine, store, monkeypatch):
    shared = machine("first")
    fill(shared, a="1")
    shared.share()
    before = shared.place
    fill(shared, a="2")
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "pipe_file", lambda *_: (_ for _ in ()).throw(ConnectionError("unplugged")))
        with pytest.raises(DatasetError, match=r"cannot be written; what was to be there lies in .*first.*: unplugged"):
            shared.share()
    assert shared.place == before
    other = machine("second")
    other.bring()
    assert contents(other) == {"a": "1"}
    assert contents(shared) == {"a": "2"}
    shared.share()
    other.bring()
    assert contents(other) == {"a": "2"}


def test_what_others_left_is_cleared_away_after_a_day(machine, store):
    shared = machine("first")
    old = f"{datetime.now(UTC) - timedelta(days=2):%Y-%m-%dT%H.%M.%S}.abc"
    new = f"{datetime.now(UTC) - timedelta(hours=2):%Y-%m-%dT%H.%M.%S}.abc"
    for state in (old, new, "notes"):
        store.pipe_file(f"/project/folder/{state}/a", b"x")
    fill(shared, a="1")
    shared.share()
    left = {path.rpartition("/")[2] for path in store.ls("/project/folder", detail=False)}
    assert old not in left and {new, "notes", CURRENT} <= left


def test_a_folder_that_another_machine_replaces_meanwhile_is_brought_as_it_is_then(machine, store, monkeypatch):
    first, second = machine("first"), machine("second")
    fill(first, a="1")
    first.share()
    get, calls = type(store).get, []

    def meanwhile(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            fill(first, a="2")
            first.share()
        return get(self, *arguments, **options)

    monkeypatch.setattr(type(store), "get", meanwhile)
    second.bring()
    assert contents(second) == {"a": "2"}


def test_a_file_that_comes_cut_short_is_refused(machine, store):
    shared = machine("first")
    fill(shared, a="12345")
    shared.share()
    store.pipe_file(f"{shared.place.removeprefix('memory://')}/a", b"1")
    other = machine("second")
    with pytest.raises(DatasetError, match=r"cannot be brought to .*a came with 1 of 5 bytes"):
        other.bring()
    assert not other.folder.exists()


def test_a_foreign_file_in_its_place_is_named(machine, store):
    store.pipe_file(f"/project/folder/{CURRENT}", b"[]")
    with pytest.raises(DatasetError, match=f"{CURRENT} was not written here"):
        machine("first").bring()


def test_a_folder_of_the_disk_is_itself(tmp_path):
    shared = SharedFolder(str(tmp_path))
    fill(shared, a="1")
    shared.share()
    shared.bring()
    assert (shared.folder, shared.place, shared.url) == (tmp_path, str(tmp_path), str(tmp_path))
    assert (shared.exists(True), shared.exists(False)) == (True, False)
    assert contents(shared) == {"a": "1"}


def test_copies_lie_in_the_project_unless_told(tmp_path, monkeypatch):
    monkeypatch.delenv(DISK, raising=False)
    monkeypatch.chdir(tmp_path)
    assert SharedFolder(f"{STORE}/folder").folder == tmp_path / "data/mirrored/memory/project/folder"


def test_a_stack_is_mapped_on_a_machine_that_did_not_write_it(machine):
    machine("first")
    photographs = [np.full((6, 4, 3), number, np.uint8) for number in range(3)]
    assert not ImageStackDataset(filepath=f"{STORE}/images").exists()
    write_stack(STORE, photographs, [np.zeros((6, 4), np.uint8)] * 3)
    machine("second")
    found = ImageStackDataset(filepath=f"{STORE}/images")
    assert found.exists() and place_of(found).startswith(f"{STORE}/images/20")
    np.testing.assert_array_equal(found.load().photograph(2), photographs[2])


def test_records_and_rendered_folders_are_shared(machine):
    machine("first")
    record = Record("a.jpg", "key", {"cracks": 2}, {"mask.png": b"mask"})
    RecordFolderDataset(filepath=f"{STORE}/records").save(RecordChunk([record], [], [], 0, True, "root"))
    RenderedFolderDataset(filepath=f"{STORE}/drawn").save([("images/a.png", b"picture")])
    machine("second")
    records = RecordFolderDataset(filepath=f"{STORE}/records")
    assert records.exists()
    assert records.load().read("a.jpg", "mask.png") == b"mask"
    drawn = RenderedFolderDataset(filepath=f"{STORE}/drawn")
    assert drawn.exists()
    assert drawn.load()["images/a.png"]() == b"picture"


def test_figures_go_straight_to_the_store(store):
    store.pipe_file("/project/maps/old.png", b"x")
    dataset = FigureFolderDataset(filepath=f"{STORE}/maps")
    dataset.save({"a": Figure()})
    dataset.save({"b": Figure()})
    assert dataset.exists()
    names = [path.rpartition("/")[2] for path in store.ls("/project/maps", detail=False)]
    assert sorted(names) == ["a.png", "b.png"]
    assert store.cat_file("/project/maps/a.png").startswith(b"\x89PNG")
    assert place_of(dataset) == f"{STORE}/maps"


def test_datasets_of_kedro_are_found_as_well(tmp_path):
    stored = JSONDataset(filepath=f"{STORE}/metrics.json", version=Version(None, "v"))
    stored.save({"f1": 1})
    assert place_of(stored) == f"{STORE}/metrics.json/v/metrics.json"
    with local_copy(stored) as file:
        assert json.loads(file.read_text()) == {"f1": 1}
    assert place_of(JSONDataset(filepath=str(tmp_path / "a.json"))) == str(tmp_path / "a.json")
