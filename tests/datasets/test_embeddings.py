import os

import pytest
import torch
from kedro.io import DataCatalog
from kedro.io.core import DatasetError

from crack_pipeline.datasets import EmbeddingsDataset
from crack_pipeline.models.embedding import Embedding


def embedding(value=1.0, side=16):
    return Embedding(torch.full((1, 8, side, side), value), (96, 128), (960, 1280))


def embeddings(folder, **options):
    entry = {"type": "crack_pipeline.datasets.EmbeddingsDataset", "filepath": str(folder), **options}
    return DataCatalog.from_config({"embeddings": entry}).load("embeddings")


def test_what_was_put_is_got(tmp_path):
    kept = embeddings(tmp_path / "kept")
    assert kept.get("a") is None
    kept.put("a", embedding(1))
    kept.put("a/../b \n", embedding(2))
    for key, value in {"a": 1, "a/../b \n": 2}.items():
        found = embeddings(tmp_path / "kept").get(key)
        assert found[1:] == embedding()[1:]
        assert torch.equal(found.features, embedding(value).features)
    assert kept.get("c") is None


@pytest.mark.parametrize("content", [b"", b"damaged", None])
def test_what_is_damaged_is_as_if_it_were_not_there(tmp_path, content):
    kept = embeddings(tmp_path)
    kept.put("a", embedding())
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-10] if content is None else content)
    assert kept.get("a") is None
    kept.put("a", embedding())
    assert kept.get("a") is not None


def test_what_was_not_used_for_the_longest_time_goes_first(tmp_path):
    kept = embeddings(tmp_path, megabytes=0.03)  # three of them
    for number, key in enumerate("abc"):
        kept.put(key, embedding())
        newest = max(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        os.utime(newest, (number, number))
    assert kept.get("a") is not None
    kept.put("d", embedding())
    assert [kept.get(key) is not None for key in "abcd"] == [True, False, True, True]


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    kept = embeddings(tmp_path / "file")
    kept.put("a", embedding())
    assert "cannot be kept" in caplog.text
    assert kept.get("a") is None


def test_wrong_uses_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="filled while photographs are encoded"):
        EmbeddingsDataset(filepath=str(tmp_path)).save(embedding())
    with pytest.raises(DatasetError, match="megabytes is 0, and must be above 0"):
        EmbeddingsDataset(filepath=str(tmp_path), megabytes=0)
