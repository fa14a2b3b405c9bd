import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crack_pipeline.imaging.photograph_stack import IGNORED, PhotographStack, open_stack
from crack_pipeline.imaging.stack import ImageStack

SIZES = [(5, 7), (1, 1), (12, 3), (1, 9), (8, 8)]
SHARDS = [[0, 1], [2], [3, 4]]
SMAPS = Path("/proc/self/smaps")


def write(folder, photographs, masks, shards):
    channels = 1 if photographs[0].ndim == 2 else 3
    about = {"format": 1, "fingerprints": {"shape": [0, 4], "rows": []}}
    about["photographs"] = {"count": len(photographs), "channels": channels, "masks": None}
    for name, arrays in (("pixels", photographs), ("masks", masks)):
        if arrays is None:
            continue
        parts = [np.concatenate([arrays[row].ravel() for row in rows]) for rows in shards]
        for number, part in enumerate(parts):
            np.save(folder / f"{name}-{number:05d}.npy", part)
        about["photographs"][name] = [len(part) for part in parts]
    (folder / "stack.json").write_text(json.dumps(about))
    sizes = [photograph.shape[:2] for photograph in photographs]
    pd.DataFrame(sizes, columns=["height", "width"]).to_parquet(folder / "index.parquet")
    return PhotographStack(folder)


def pictures(colours=(), seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, *colours), np.uint8) for size in SIZES]


def some_masks():
    return [picture % 3 for picture in pictures(seed=1)]


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    return write(tmp_path_factory.mktemp("grey"), pictures(), some_masks(), SHARDS)


@pytest.fixture(scope="module")
def rgb(tmp_path_factory):
    return write(tmp_path_factory.mktemp("rgb"), pictures((3,)), some_masks(), SHARDS)


def reflected(picture, y, x, size):
    """The slow way: every position by itself, as numpy pads."""
    height, width = picture.shape[:2]
    far = size + max(abs(y), abs(x))
    padding = ((far, far + size), (far, far + size), (0, 0))[: picture.ndim]
    wide = np.pad(picture, padding, mode="reflect") if min(height, width) > 1 else np.pad(picture, padding, "edge")
    return wide[far + y : far + y + size, far + x : far + x + size]


def test_photographs_and_masks_are_views_that_cannot_be_written(grey, rgb):
    for stack, expected in ((grey, pictures()), (rgb, pictures((3,)))):
        assert len(stack) == len(SIZES)
        assert stack.sizes.tolist() == [list(size) for size in SIZES]
        assert all(np.array_equal(one, other) for one, other in zip(stack, expected, strict=True))
        for row, mask in enumerate(some_masks()):
            assert np.array_equal(stack.mask(row), mask)
        for view in (stack.photograph(2), stack.mask(2)):
            assert not view.flags.writeable
            assert not view.flags.owndata
    assert (grey.channels, rgb.channels) == (1, 3)


@given(row=st.sampled_from([0, 1, 2, 4]), y=st.integers(-30, 30), x=st.integers(-30, 30), size=st.integers(1, 20))
def test_crops_are_what_lies_there_reflected_beyond_the_border(rgb, row, y, x, size):
    images, masks = rgb.crops(np.array([row]), np.array([[y, x]]), size)
    assert np.array_equal(images[0], reflected(pictures((3,))[row], y, x, size))
    height, width = SIZES[row]
    known = np.full((size, size), IGNORED)
    for i in range(size):
        for j in range(size):
            if 0 <= y + i < height and 0 <= x + j < width:
                known[i, j] = some_masks()[row][y + i, x + j]
    assert np.array_equal(masks[0], known)


def test_a_line_is_reflected_along_and_repeated_across(grey):
    images, masks = grey.crops(np.array([3]), np.array([[-1, -2]]), 4)
    line = pictures()[3][0]
    assert np.array_equal(images[0], np.tile(line[[2, 1, 0, 1]], (4, 1)))
    known = np.full((4, 4), IGNORED)
    known[1, 2:] = some_masks()[3][0, :2]
    assert np.array_equal(masks[0], known)


def test_crops_come_in_the_order_asked_for_and_are_copies(grey):
    rows, corners = np.array([4, 0, 4]), np.array([[0, 0], [1, 2], [3, 3]])
    images, masks = grey.crops(rows, corners, 4)
    assert images.shape == masks.shape == (3, 4, 4)
    for image, mask, row, (y, x) in zip(images, masks, rows, corners, strict=True):
        assert np.array_equal(image, grey.photograph(row)[y : y + 4, x : x + 4])
        assert np.array_equal(mask, grey.mask(row)[y : y + 4, x : x + 4])
    images[:] = 0
    assert grey.photograph(4).any()
    assert [array.shape for array in grey.crops(np.zeros(0, np.int64), np.zeros((0, 2), np.int64), 4)] == [
        (0, 4, 4)
    ] * 2


@pytest.mark.skipif(not SMAPS.exists(), reason="only Linux says how much of a file is in memory")
def test_a_small_crop_of_a_large_photograph_reads_little_of_it(tmp_path):
    side = 9000
    about = {"count": 1, "channels": 3, "pixels": [side * side * 3], "masks": [side * side]}
    about = {"format": 1, "photographs": about, "fingerprints": {"shape": [0, 4], "rows": []}}
    (tmp_path / "stack.json").write_text(json.dumps(about))
    for name, channels in (("pixels", 3), ("masks", 1)):  # files with holes: they take no space on the disk
        np.lib.format.open_memmap(tmp_path / f"{name}-00000.npy", "w+", np.uint8, (side * side * channels,))
    pd.DataFrame({"height": [side], "width": [side]}).to_parquet(tmp_path / "index.parquet")
    stack = PhotographStack(tmp_path)
    corners = np.array([[0, 0], [-100, 4000], [side - 100, side - 100], [4000, 4000]])
    stack.crops(np.zeros(1, np.int64), corners[:1], 256)

    def resident():
        text = SMAPS.read_text().split(str(tmp_path / "pixels-00000.npy"))[1]
        return int(text[text.index("Rss:") :].split()[1]) * 1024

    stack.crops(np.zeros(4, np.int64), corners, 256)
    assert resident() < 0.25 * side * side * 3


def test_it_travels_without_its_pictures(rgb):
    rgb.crops(np.arange(5), np.zeros((5, 2), np.int64), 4)
    data = pickle.dumps(rgb)
    assert len(data) < 2000
    assert np.array_equal(pickle.loads(data).photograph(4), rgb.photograph(4))


@pytest.mark.parametrize("row", [5, -1])
def test_rows_that_are_not_there_are_refused(grey, row):
    for read in (grey.photograph, grey.mask, lambda row: grey.crops(np.array([row]), np.zeros((1, 2), np.int64), 2)):
        with pytest.raises(IndexError, match=f"row {row} of a stack of 5 photographs"):
            read(row)


def test_arguments_that_do_not_fit_are_refused(grey):
    for rows, corners, size in (([0], [[0, 0], [1, 1]], 4), ([0], [0, 0], 4), ([0], [[0, 0]], 0)):
        with pytest.raises(ValueError, match=r"crops need n rows, corners of \(n, 2\)"):
            grey.crops(np.array(rows), np.array(corners), size)


def test_without_masks_there_are_none_to_look_at(tmp_path):
    stack = write(tmp_path, pictures(), None, SHARDS)
    assert not stack.has_masks
    assert np.array_equal(stack.photograph(4), pictures()[4])
    for read in (lambda: stack.mask(0), lambda: stack.crops(np.array([0]), np.array([[0, 0]]), 2)):
        with pytest.raises(ValueError, match=r"holds no masks: ingest again with image.masks: true"):
            read()


def test_tables_of_another_run_are_noticed(tmp_path):
    write(tmp_path, pictures(), None, SHARDS)
    pd.DataFrame({"height": [5] * 5, "width": [7] * 5}).to_parquet(tmp_path / "index.parquet")
    with pytest.raises(ValueError, match="are not of its pixels"):
        PhotographStack(tmp_path).photograph(0)


def test_the_kind_of_a_stack_is_known_and_the_wrong_one_is_said(tmp_path, grey):
    assert isinstance(open_stack(grey.folder), PhotographStack)
    with pytest.raises(ValueError, match=r"holds photographs of their own sizes.* give image.size a number"):
        ImageStack(grey.folder)
    images = {"format": 1, "images": {"shape": [0, 3, 3], "rows": []}, "fingerprints": {"shape": [0, 4], "rows": []}}
    (tmp_path / "stack.json").write_text(json.dumps(images))
    assert isinstance(open_stack(tmp_path), ImageStack)
    with pytest.raises(ValueError, match=r"holds images of one size.* set image.size to null"):
        PhotographStack(tmp_path)


def test_a_stack_without_masks_gives_the_same_pixels_and_refuses_masks(rgb):
    bare = pickle.loads(pickle.dumps(rgb.without_masks()))
    rows, corners = np.array([0, 2]), np.array([[1, -2], [0, 0]])
    assert np.array_equal(bare.cut(rows, corners, 6), rgb.crops(rows, corners, 6)[0])
    for look in (lambda: bare.mask(0), lambda: bare.crops(rows, corners, 6)):
        with pytest.raises(ValueError, match="holds no masks"):
            look()
    assert rgb.has_masks
