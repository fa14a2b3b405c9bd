"""An ingestion on a node of Ray gives what one in this process gives: tables, groups, roles and every byte."""

from importlib.util import find_spec

import pytest

import hostile
from ray_node import one_node
from small_ingestion import assert_same, ingest, write_walls

pytestmark = [
    pytest.mark.slow,  # test_spreading.py proves the same without a cluster
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
]

SETTINGS = {"reading": {"max_bad_share": 0.9}, "image": {"size": 32}}


@pytest.fixture(scope="module", autouse=True)
def node(tmp_path_factory):
    with one_node(tmp_path_factory.mktemp("token")):
        yield


def test_a_messy_folder(tmp_path):
    root = tmp_path / "root"
    hostile.make(root)
    write_walls(root, 15)
    expected = ingest(root, tmp_path / "local", "folders", SETTINGS, partitioned=True)
    assert expected.manifest["group"].duplicated().sum() >= 3
    assert len(expected.quarantine) > 30
    compute = {"engine": "ray", "block": 16}
    found = ingest(root, tmp_path / "ray", "folders", {**SETTINGS, "compute": compute}, partitioned=True)
    assert_same(found, expected)
    data = found.folder / "data"
    assert len(list((data / "03_primary/ingestion/images").glob("images-*.npy"))) > 2
    assert not any((data / "03_primary/ingestion/image_parts").iterdir())
    assert not any((data / "02_intermediate/ingestion/group_blocks").iterdir())
