import logging

import pandas as pd
import pytest
from kedro.io import DatasetError

from crack_pipeline.datasets import AnnouncedCSVDataset, OptionalParquetDataset


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


def test_half_a_table_is_an_error_unless_it_counts_as_none(tmp_path, caplog):
    path = tmp_path / "manifest.parquet"
    pd.DataFrame({"image_id": ["a"]}).to_parquet(path)
    for whole in (path.read_bytes()[:-20], b""):
        path.write_bytes(whole)
        with pytest.raises(DatasetError):
            OptionalParquetDataset(filepath=str(path)).load()
        caplog.clear()
        assert OptionalParquetDataset(filepath=str(path), damaged="ignored").load() is None
        assert "manifest.parquet is no whole table" in caplog.text


def test_a_table_with_rows_says_where_it_lies(tmp_path, caplog):
    dataset = AnnouncedCSVDataset(filepath=str(tmp_path / "quarantine.csv"), save_args={"index": False})
    with caplog.at_level(logging.WARNING):
        dataset.save(pd.DataFrame({"path": []}))
        assert not caplog.records
        dataset.save(pd.DataFrame({"path": ["a\nb", "c"]}))
    assert f"2 rows in {tmp_path}/quarantine.csv" in caplog.text
    assert dataset.load()["path"].tolist() == ["a\nb", "c"]
