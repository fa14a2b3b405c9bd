import errno
import pickle
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io.core import DatasetError

from crack_pipeline.datasets import ImageStackDataset
from crack_pipeline.imaging.photograph_stack import PhotographChunk, PhotographStack
from crack_pipeline.imaging.stack import ImageChunk


def chunk(number, n, last=False, value=None, rejected=()):
    images = np.random.default_rng(number).integers(0, 256, (n, 4, 5), np.uint8)
    if value is not None:
        images[:] = value
    ids = [f"{number}-{i}" for i in range(n)]
    return ImageChunk(
        images=images,
        fingerprints=images[:, 0, :3].copy(),
        index=pd.DataFrame(
            {
                "image_id": ids,
                "photo_id": ids,
                "photo": range(n),
                "label": ["crack", None][:n] + ["normal"] * max(n - 2, 0),
                "width": 5,
                "height": 4,
                "crack_pixels": pd.array([1, None][:n] + [0] * max(n - 2, 0), "Int64"),
            }
        ),
        photos=pd.DataFrame(
            {
                "photo_id": ids,
                "path": ids,
                "label": None,
                "mask_path": None,
                "source": "",
                "width": 5,
                "height": 4,
            }
        ),
        rejected=pd.DataFrame(list(rejected), columns=["path", "kind", "reason"]),
        number=number,
        last=last,
    )


def ragged(number, sizes, last=False, masks=True, channels=3):
    """A chunk of photographs of their own sizes, as many as sizes."""
    rng = np.random.default_rng(number)
    like = chunk(number, len(sizes), last=last)
    colours = () if channels == 1 else (channels,)
    return PhotographChunk(
        photographs=[rng.integers(0, 256, (*size, *colours), np.uint8) for size in sizes],
        masks=[rng.integers(0, 3, size, np.uint8) for size in sizes] if masks else None,
        channels=channels,
        fingerprints=like.fingerprints,
        index=like.index.assign(height=[size[0] for size in sizes], width=[size[1] for size in sizes]),
        photos=like.photos,
        rejected=like.rejected,
        number=number,
        last=last,
    )


def save(dataset, chunks):
    for one in chunks:
        dataset.save(one)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(1, 200))
def test_what_is_saved_is_loaded(tmp_path_factory, sizes, shard_bytes):
    folder = tmp_path_factory.mktemp("data") / "images"
    chunks = [chunk(i, n, last=i == len(sizes) - 1, rejected=[(f"{i}", "k", "r")]) for i, n in enumerate(sizes)]
    dataset = ImageStackDataset(filepath=str(folder), shard_bytes=shard_bytes)
    save(dataset, chunks)
    stack = dataset.load()
    images = np.concatenate([one.images for one in chunks])
    assert stack.shape == (sum(sizes), 4, 5)
    assert np.array_equal(stack.take(np.arange(len(stack))), images)
    assert np.array_equal(stack.fingerprints.take(np.arange(len(stack))), images[:, 0, :3])
    assert stack.index["image_id"].tolist() == [i for one in chunks for i in one.index["image_id"]]
    assert stack.index["crack_pixels"].dtype == "Int64"
    assert stack.rejected["path"].tolist() == [str(i) for i in range(len(sizes))]
    assert len(stack.photos) == len(stack)
    for shard in folder.glob("images-*.npy"):
        assert np.load(shard).nbytes <= max(shard_bytes, 20)
    assert [path.name for path in folder.parent.iterdir()] == ["images"]


@settings(max_examples=25)
@given(
    st.lists(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), max_size=4), min_size=1, max_size=4),
    st.integers(1, 400),
    st.booleans(),
    st.sampled_from([1, 3]),
)
def test_photographs_of_their_own_sizes_are_loaded_as_they_were(tmp_path_factory, sizes, shard_bytes, masks, channels):
    folder = tmp_path_factory.mktemp("data") / "images"
    chunks = [ragged(i, some, i == len(sizes) - 1, masks, channels) for i, some in enumerate(sizes)]
    dataset = ImageStackDataset(filepath=str(folder), shard_bytes=shard_bytes)
    save(dataset, chunks)
    stack = dataset.load()
    photographs = [photograph for one in chunks for photograph in one.photographs]
    assert isinstance(stack, PhotographStack)
    assert (stack.channels, stack.has_masks, len(stack)) == (channels, masks, len(photographs))
    assert stack.sizes.tolist() == [list(photograph.shape[:2]) for photograph in photographs]
    assert all(np.array_equal(one, other) for one, other in zip(stack, photographs, strict=True))
    if masks:
        stored = [mask for one in chunks for mask in one.masks]
        assert all(np.array_equal(stack.mask(row), mask) for row, mask in enumerate(stored))
    assert len(stack.photos) == len(photographs)
    largest = max((photograph.nbytes for photograph in photographs), default=0)
    for shard in [*folder.glob("pixels-*.npy"), *folder.glob("masks-*.npy")]:
        assert 0 < np.load(shard).nbytes <= max(shard_bytes, largest)
    assert bool(list(folder.glob("masks-*.npy"))) == (masks and bool(photographs))


def test_a_photograph_larger_than_a_shard_has_one_of_its_own(tmp_path):
    dataset = ImageStackDataset(filepath=str(tmp_path / "images"), shard_bytes=100)
    dataset.save(ragged(0, [(3, 3), (20, 20), (3, 3), (4, 4)], last=True))
    sizes = {name: [np.load(path).size for path in sorted((tmp_path / "images").glob(f"{name}-*"))]
             for name in ("pixels", "masks")}  # fmt: skip
    assert sizes == {"pixels": [27, 1200, 75], "masks": [9, 400, 25]}


def test_one_kind_of_stack_takes_the_place_of_the_other(tmp_path):
    dataset = ImageStackDataset(filepath=str(tmp_path / "images"))
    dataset.save(chunk(0, 2, last=True))
    save(dataset, [ragged(0, [(3, 4)]), ragged(1, [(5, 6)], last=True)])
    assert isinstance(dataset.load(), PhotographStack)
    assert not list((tmp_path / "images").glob("images-*"))
    dataset.save(chunk(0, 2, last=True))
    assert dataset.load().shape == (2, 4, 5)
    assert [entry.name for entry in tmp_path.iterdir()] == ["images"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"masks": [np.full((3, 4), 3, np.uint8)]}, "a value above 2"),
        ({"masks": [np.zeros((4, 3), np.uint8)]}, "not of the sizes of the photographs"),
        ({"photographs": [np.zeros((3, 4), np.uint8)]}, "not of the sizes and channels"),
        ({"photographs": []}, "not of the sizes and channels"),
        ({"masks": []}, "not of the sizes of the photographs"),
        ({"number": 1, "channels": 1, "photographs": [np.zeros((3, 4), np.uint8)]}, "in a stack of"),
        ({"number": 1, "masks": None}, "in a stack of"),
        ({"fingerprints": np.zeros((0, 3), np.uint8)}, "0 fingerprints with 1 photographs"),
    ],
)
def test_a_chunk_that_does_not_fit_is_refused(tmp_path, changed, message):
    dataset = ImageStackDataset(filepath=str(tmp_path / "images"))
    dataset.save(ragged(0, [(3, 4)]))
    with pytest.raises(DatasetError, match=message):
        dataset.save(replace(ragged(0, [(3, 4)]), **changed))


def test_missing_values_stay_missing(tmp_path):
    dataset = ImageStackDataset(filepath=str(tmp_path / "images"))
    dataset.save(chunk(0, 2, last=True))
    index = dataset.load().index
    assert index["label"].isna().tolist() == [False, True]
    assert index["crack_pixels"].isna().tolist() == [False, True]


def test_an_unfinished_stack_leaves_the_earlier_one_and_is_cleared_later(tmp_path):
    path = str(tmp_path / "images")
    save(ImageStackDataset(filepath=path), [chunk(0, 3, value=1), chunk(1, 2, value=1, last=True)])
    killed = ImageStackDataset(filepath=path)
    save(killed, [chunk(0, 7, value=2), chunk(1, 7, value=2)])
    assert ImageStackDataset(filepath=path).load().take(np.arange(5)).max() == 1
    again = ImageStackDataset(filepath=path)
    assert again.exists()
    save(again, [chunk(0, 2, value=3, last=True)])
    assert again.load().shape[0] == 2
    assert again.load().take(np.arange(2)).min() == 3
    assert [entry.name for entry in tmp_path.iterdir()] == ["images"]


def test_the_same_dataset_begins_anew_after_a_failure(tmp_path):
    dataset = ImageStackDataset(filepath=str(tmp_path / "images"))
    save(dataset, [chunk(0, 7), chunk(1, 7)])
    save(dataset, [chunk(0, 2), chunk(1, 1, last=True)])
    assert len(dataset.load()) == 3


def test_a_run_killed_between_the_two_renames_is_mended(tmp_path):
    path = tmp_path / "images"
    dataset = ImageStackDataset(filepath=str(path))
    dataset.save(chunk(0, 3, value=1, last=True))
    path.rename(tmp_path / ".images.old")
    assert dataset.exists()
    assert dataset.load().take(np.arange(3)).max() == 1


def test_kill_9_leaves_the_earlier_stack(tmp_path):
    dataset = ImageStackDataset(filepath=str(tmp_path / "images"))
    dataset.save(chunk(0, 3, value=1, last=True))
    code = f"""
        import os, signal, sys
        sys.path.insert(0, {str(__file__).rsplit("/", 1)[0]!r})
        from test_image_stack import ImageStackDataset, chunk
        dataset = ImageStackDataset(filepath={str(tmp_path / "images")!r}, shard_bytes=60)
        for number in range(5):
            dataset.save(chunk(number, 7, value=2))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / ".images.partial").exists()
    assert dataset.load().take(np.arange(3)).max() == 1
    dataset.save(chunk(0, 2, value=3, last=True))
    assert [entry.name for entry in tmp_path.iterdir()] == ["images"]


def test_a_full_disk_is_one_clear_message_and_leaves_the_earlier_stack(tmp_path, monkeypatch):
    dataset = ImageStackDataset(filepath=str(tmp_path / "images"))
    dataset.save(chunk(0, 3, value=1, last=True))
    dataset.save(chunk(0, 3, value=2))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("crack_pipeline.datasets.stack_writing._RowWriter.append", full)
    with pytest.raises(DatasetError, match=r"is full .* the earlier image stack is untouched"):
        dataset.save(chunk(1, 3, value=2))
    assert dataset.load().take(np.arange(3)).max() == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["images"]


def test_chunks_out_of_turn_are_refused(tmp_path):
    dataset = ImageStackDataset(filepath=str(tmp_path / "images"))
    with pytest.raises(DatasetError, match=r"chunk 1 .* out of turn"):
        dataset.save(chunk(1, 2))
    with pytest.raises(DatasetError, match="run the ingestion first"):
        dataset.load()
    assert not dataset.exists()
    assert not pickle.loads(pickle.dumps(dataset)).exists()
