import errno
import pickle
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kedro.io.core import DatasetError

from crack_pipeline.datasets import ImageStackDataset
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


def save(dataset, chunks):
    for one in chunks:
        dataset.save(one)


@settings(max_examples=25, deadline=None)
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

    monkeypatch.setattr("crack_pipeline.datasets.image_stack._ShardWriter.append", full)
    with pytest.raises(DatasetError, match=r"is full .* the earlier image stack is untouched"):
        dataset.save(chunk(1, 3, value=2))
    assert dataset.load().take(np.arange(3)).max() == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["images"]


def test_chunks_out_of_turn_and_wrong_places_are_refused(tmp_path):
    dataset = ImageStackDataset(filepath=str(tmp_path / "images"))
    with pytest.raises(DatasetError, match=r"chunk 1 .* out of turn"):
        dataset.save(chunk(1, 2))
    with pytest.raises(DatasetError, match="run the ingestion first"):
        dataset.load()
    with pytest.raises(DatasetError, match="not on this machine"):
        ImageStackDataset(filepath="s3://bucket/images")
    assert not dataset.exists()
    assert not pickle.loads(pickle.dumps(dataset)).exists()
