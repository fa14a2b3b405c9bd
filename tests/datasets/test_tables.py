import logging

import fsspec
import pandas as pd
import pytest
from kedro.io import DatasetError

from crack_pipeline.datasets import AnnouncedCSVDataset, OptionalParquetDataset, ParquetTableDataset


def test_a_table_that_is_not_there_is_none(tmp_path):
    path = tmp_path / "partition.parquet"
    dataset = OptionalParquetDataset(filepath=str(path))
    assert dataset.load() is None
    assert not dataset.exists()
    table = pd.DataFrame({"image_id": ["a"], "role": ["train"]})
    table.to_parquet(path)
    pd.testing.assert_frame_equal(dataset.load(), table)
    dataset.save(table.assign(role="test"))
    assert dataset.load()["role"].tolist() == ["test"]
    assert [file.name for file in tmp_path.iterdir()] == ["partition.parquet"]


def test_a_store_that_does_not_answer_is_not_one_without_the_table(monkeypatch):
    """Otherwise every role would be given anew."""
    store = fsspec.filesystem("memory")
    dataset = OptionalParquetDataset(filepath="memory:///tables/known_roles.parquet")
    dataset.save(pd.DataFrame({"image_id": ["a"], "role": ["external"]}))
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "info", lambda *_, **__: (_ for _ in ()).throw(PermissionError("the token is old")))
        with pytest.raises(DatasetError, match="the token is old"):
            dataset.load()
    assert dataset.load()["role"].tolist() == ["external"]
    store.rm("/tables", recursive=True)


@pytest.mark.parametrize("dataset", [OptionalParquetDataset, ParquetTableDataset])
def test_a_run_that_is_killed_while_it_writes_leaves_the_table(tmp_path, monkeypatch, dataset):
    table = dataset(filepath=str(tmp_path / "manifest.parquet"))
    table.save(pd.DataFrame({"image_id": ["a"]}))

    def killed(self, path, **_):
        path.write_bytes(b"PAR1")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", killed)
        with pytest.raises(KeyboardInterrupt):
            table.save(pd.DataFrame({"image_id": ["b"]}))
    assert table.load()["image_id"].tolist() == ["a"]


def test_a_table_with_rows_says_where_it_lies(tmp_path, caplog):
    dataset = AnnouncedCSVDataset(filepath=str(tmp_path / "quarantine.csv"), save_args={"index": False})
    with caplog.at_level(logging.WARNING):
        dataset.save(pd.DataFrame({"path": []}))
        assert not caplog.records
        dataset.save(pd.DataFrame({"path": ["a\nb", "c"]}))
    assert f"2 rows in {tmp_path}/quarantine.csv" in caplog.text
    assert dataset.load()["path"].tolist() == ["a\nb", "c"]
