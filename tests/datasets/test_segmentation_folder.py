import errno
import os
import pickle
import signal
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io.core import DatasetError

from crack_pipeline.datasets import segmentation_folder
from crack_pipeline.datasets.safe_names import SafeNames
from crack_pipeline.datasets.segmentation_folder import SegmentationFolderDataset
from crack_pipeline.imaging.segmented import SegmentedChunk, SegmentedPhotograph


def segmented(path, value=1, size=(6, 8), **facts):
    mask = np.zeros(size, np.uint8)
    mask[1:3] = value
    picture = np.full((*size, 3), (200, 30, 30), np.uint8)
    return SegmentedPhotograph(path, mask, picture, mask * np.uint8(99), facts)


def chunk(number, paths, last=False, rejected=(), **options):
    return SegmentedChunk([segmented(path, **options) for path in paths], list(rejected), number, last)


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "output" / "segmented"


@pytest.fixture
def dataset(folder):
    return SegmentationFolderDataset(filepath=str(folder))


def test_files_and_tables_come_back(dataset, folder):
    assert not dataset.exists()
    dataset.save(chunk(0, ["a/1.jpg", "a/1.png"], share=np.float32(0.25), pixels=np.int64(12)))
    assert not dataset.exists()
    dataset.save(chunk(1, [], rejected=[("b.jpg", "damaged", "cannot be decoded\nat all")]))
    dataset.save(chunk(2, ["007"], last=True, share=float("nan")))
    assert dataset.exists()
    photographs, rejected = dataset.load()
    assert photographs["path"].tolist() == ["a/1.jpg", "a/1.png", "007"]
    assert photographs["share"].tolist()[:2] == [0.25, 0.25]
    assert photographs["share"].isna().tolist() == [False, False, True]
    assert photographs.columns.tolist() == ["path", "share", "pixels", "mask", "overlay", "probability"]
    assert rejected.to_numpy().tolist() == [["b.jpg", "damaged", "cannot be decoded\nat all"]]
    files = photographs[["mask", "overlay", "probability"]].to_numpy().ravel().tolist()
    assert names(folder) == sorted([*files, "photographs.jsonl", "rejected.jsonl"])
    assert "masks/a/1.jpg.png" in files
    assert [path.name for path in folder.parent.iterdir()] == ["segmented"]

    mask = cv2.imread(str(folder / photographs["mask"][0]), cv2.IMREAD_UNCHANGED)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, segmented("").mask * 255)
    probability = cv2.imread(str(folder / photographs["probability"][0]), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(probability, segmented("").probability)
    overlay = cv2.imread(str(folder / photographs["overlay"][0]), cv2.IMREAD_COLOR_RGB)
    assert np.abs(overlay.astype(int) - (200, 30, 30)).max() < 12


def test_a_table_is_the_same_however_many_lines_are_read_at_once(dataset, monkeypatch):
    dataset.save(chunk(0, ["a", "b", "c"], pixels=np.int64(3)))
    dataset.save(chunk(1, ["d"], last=True, share=0.5))
    whole = dataset.load().photographs
    monkeypatch.setattr(segmentation_folder, "_LINES", 2)
    pd.testing.assert_frame_equal(dataset.load().photographs, whole)


def test_nothing_to_segment_gives_empty_tables(dataset):
    dataset.save(chunk(0, [], last=True))
    photographs, rejected = dataset.load()
    assert photographs.empty
    assert photographs.columns.tolist() == ["path", "mask", "overlay", "probability"]
    assert rejected.columns.tolist() == ["path", "kind", "reason"]


def test_pictures_are_optional_and_of_bounded_size(folder):
    dataset = SegmentationFolderDataset(filepath=str(folder), overlay_side=16)
    large = segmented("large", size=(40, 100))
    small = SegmentedPhotograph("small", large.mask)
    dataset.save(SegmentedChunk([large, small], [], 0, True))
    photographs = dataset.load().photographs
    assert cv2.imread(str(folder / photographs["overlay"][0])).shape == (6, 16, 3)
    assert cv2.imread(str(folder / photographs["mask"][0])).shape[:2] == (40, 100)
    assert photographs.iloc[1][["overlay", "probability"]].isna().all()
    assert not list(folder.glob("*/small.jpg"))


def test_the_next_run_replaces_the_whole_folder(dataset, folder):
    dataset.save(chunk(0, ["old", "both"], last=True))
    again = SegmentationFolderDataset(filepath=str(folder))
    again.save(chunk(0, ["both"]))
    assert again.load().photographs["path"].tolist() == ["old", "both"]
    again.save(chunk(1, ["new"], last=True))
    assert again.load().photographs["path"].tolist() == ["both", "new"]
    assert [Path(name).stem for name in names(folder / "masks")] == ["both", "new"]
    assert [path.name for path in folder.parent.iterdir()] == ["segmented"]


def test_kill_9_keeps_the_earlier_run_and_every_finished_photograph(dataset, folder):
    dataset.save(chunk(0, ["old"], last=True))
    # A fork, since half of the time of a process of its own is importing.
    child = os.fork()
    if not child:
        try:
            for number in range(3):
                dataset.save(chunk(number, [f"{number}/a", f"{number}/b"]))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    assert dataset.load().photographs["path"].tolist() == ["old"]
    unfinished = folder.with_name("segmented.unfinished")
    lines = segmentation_folder._read_lines(unfinished / "photographs.jsonl")
    assert [line["path"] for line in lines] == ["0/a", "0/b", "1/a", "1/b", "2/a", "2/b"]
    for line in lines:
        assert cv2.imread(str(unfinished / line["mask"])) is not None
        assert cv2.imread(str(unfinished / line["overlay"])) is not None
    assert not list(unfinished.rglob("*.part"))
    dataset.save(chunk(0, ["new"], last=True))
    assert [path.name for path in folder.parent.iterdir()] == ["segmented"]
    assert len(names(folder)) == 5


def test_an_unfinished_run_alone_is_pointed_at(dataset, folder):
    dataset.save(chunk(0, ["a"]))
    with pytest.raises(DatasetError, match=rf"no finished segmentation .* is in {folder}\.unfinished"):
        SegmentationFolderDataset(filepath=str(folder)).load()


def test_a_run_killed_between_the_two_renames_is_mended(dataset, folder):
    dataset.save(chunk(0, ["old"], last=True))
    folder.rename(folder.with_name(".segmented.old"))
    assert dataset.exists()
    assert dataset.load().photographs["path"].tolist() == ["old"]


@pytest.mark.parametrize("full_at", ["photograph", "table"])
def test_a_full_disk_is_one_clear_message_and_leaves_nothing_half_written(dataset, folder, monkeypatch, full_at):
    dataset.save(chunk(0, ["old"], last=True))
    dataset.save(chunk(0, ["a", "b"]))
    unfinished = folder.with_name("segmented.unfinished")
    before = {name: (unfinished / name).read_bytes() for name in names(unfinished)}

    class Full:
        """A file on a disk with room for five more bytes."""

        def __init__(self, file):
            self.file, self.room = file, 5

        def write(self, data):
            written = self.file.write(bytes(data)[: self.room])
            self.room -= written
            if not written:
                raise OSError(errno.ENOSPC, "No space left on device")
            return written

        def __getattr__(self, name):
            return getattr(self.file, name)

    def write_half(path, content):
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if full_at == "photograph":
            patch.setattr(Path, "write_bytes", write_half)
        else:
            lines = dataset._writer._table
            patch.setattr(lines, "_file", Full(lines._file))
        with pytest.raises(DatasetError, match=r"is full .*: 2 photographs are finished, in .*unfinished; the earlier"):
            dataset.save(chunk(1, ["c"]))
    assert {name: (unfinished / name).read_bytes() for name in names(unfinished)} == before
    assert dataset.load().photographs["path"].tolist() == ["old"]
    with pytest.raises(DatasetError, match="out of turn"):
        dataset.save(chunk(2, ["d"]))
    dataset.save(chunk(0, ["new"], last=True))
    assert dataset.load().photographs["path"].tolist() == ["new"]


def test_another_error_of_the_system_is_told(dataset, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(DatasetError, match=r"cannot be written to .*Permission denied; 0 photographs are finished"):
        dataset.save(chunk(0, ["a"]))


def test_files_from_elsewhere_are_never_replaced(dataset, folder):
    (folder / "masks").mkdir(parents=True)
    (folder / "masks" / "1.png").write_bytes(b"drawn by hand")
    with pytest.raises(DatasetError, match=r"no segmentation \(masks, …\) and is not replaced"):
        dataset.save(chunk(0, ["a"]))
    assert names(folder.parent) == ["segmented/masks/1.png"]


def test_an_empty_folder_may_be_taken(dataset, folder):
    folder.mkdir(parents=True)
    (folder / ".gitkeep").touch()
    dataset.save(chunk(0, ["a"], last=True))
    assert dataset.load().photographs["path"].tolist() == ["a"]


HOSTILE = ["../x", "/x", "x", "a/../x", "..", ".", "", "a//b", "C:\\x", "x.", "x ", "a\0b", "nul\n", "%2E"]
HOSTILE += ["é", "e\u0301", "x/y", "x.png/y", "X", "y" * 300, "y" * 301, "é" * 300, "~", "*?", "x.png", "x.png.part/z"]


def test_odd_paths_stay_inside_the_folder_and_apart(dataset, folder):
    dataset.save(chunk(0, HOSTILE, last=True))
    photographs = dataset.load().photographs
    assert photographs["path"].tolist() == HOSTILE
    assert photographs["mask"].str.casefold().nunique() == len(HOSTILE)
    for kind in ("mask", "overlay", "probability"):
        for file in photographs[kind]:
            assert (folder / file).resolve().is_relative_to(folder.resolve())
            assert (folder / file).is_file()
    assert len(names(folder)) == 3 * len(HOSTILE) + 2
    assert [path.name for path in folder.parent.iterdir()] == ["segmented"]
    assert dataset.load().photographs.set_index("path").loc["x", "mask"] == "masks/x.png"


@settings(max_examples=300)
@given(st.lists(st.text(st.sampled_from("aA.%~/2Eß\x01\udcffpngPNG"), max_size=12), unique=True, max_size=12))
def test_names_never_meet(paths):
    given_names = SafeNames()
    files = [f"{given_names.of(path)}.png".casefold() for path in paths]
    assert len(set(files)) == len(paths)
    folders = {file.rsplit("/", depth)[0] for file in files for depth in range(1, file.count("/") + 1)}
    assert not folders & set(files)
    assert not any(part in ("", ".", "..") for file in files for part in file.split("/"))


@pytest.mark.parametrize(
    ("photograph", "message"),
    [
        (segmented("a", value=2), "mask of a has the value 2; it takes 0 and 1"),
        (SegmentedPhotograph("a", np.zeros((2, 2))), r"mask of a is float64 \(2, 2\), not uint8"),
        (SegmentedPhotograph("a", np.zeros((0, 2), np.uint8)), "mask of a is uint8"),
        (segmented("a", mask=3), "must not have the names mask"),
    ],
)
def test_what_is_no_mask_is_refused(dataset, photograph, message):
    with pytest.raises(DatasetError, match=message):
        dataset.save(SegmentedChunk([photograph], [], 0, True))
    assert not dataset.exists()


def test_a_photograph_that_comes_twice_is_refused(dataset):
    dataset.save(chunk(0, ["a"]))
    with pytest.raises(DatasetError, match="photograph a came twice"):
        dataset.save(chunk(1, ["a"]))


def test_chunks_out_of_turn_and_wrong_settings_are_refused(dataset, folder):
    with pytest.raises(DatasetError, match=r"chunk 1 .* out of turn"):
        dataset.save(chunk(1, ["a"]))
    with pytest.raises(DatasetError, match="no finished segmentation"):
        dataset.load()
    for options, message in (
        ({"filepath": str(folder), "overlay_side": 0}, "overlay_side .* not 0"),
        ({"filepath": str(folder), "jpeg_quality": 101}, "quality .* 101"),
    ):
        with pytest.raises(DatasetError, match=message):
            SegmentationFolderDataset(**options)
    assert not pickle.loads(pickle.dumps(dataset)).exists()
