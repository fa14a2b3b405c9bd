"""An ingestion on a node of Ray gives what one in this process gives: tables, groups, roles and every byte."""

import shutil
from importlib.util import find_spec

import fsspec
import pytest

import hostile
from ray_node import one_node
from servers import free_port, served
from small_ingestion import assert_same, ingest, write_walls

pytestmark = [
    pytest.mark.slow,  # test_spreading.py proves the same without a cluster
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
]

SETTINGS = {"reading": {"max_bad_share": 0.9}, "image": {"size": 32}}


@pytest.fixture(scope="module")
def store(tmp_path_factory, surroundings):
    """An object store on this machine, which the node that is started then knows, too; None if there is no server."""
    if find_spec("moto") is None:
        yield None
        return
    port = free_port()
    clean = {name: value for name, value in surroundings.items() if not name.startswith("AWS_")}
    variables = {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        log = tmp_path_factory.mktemp("store") / "log"
        with served(["moto.server", "-H", "127.0.0.1", "-p", str(port)], port, clean, log):
            yield fsspec.filesystem("s3")


@pytest.fixture(scope="module", autouse=True)
def node(tmp_path_factory, store):
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


@pytest.mark.parametrize("kind", ["a zip", "an object store", "a zip in an object store"])
def test_other_roots(tmp_path, store, kind, monkeypatch):
    folder = tmp_path / "root"
    write_walls(folder, 20, 64)
    expected = ingest(folder, tmp_path / "local", "folders", SETTINGS, partitioned=True)
    root = f"zip://{shutil.make_archive(str(tmp_path / 'root'), 'zip', folder)}".replace(f"{tmp_path}/", "")
    if kind != "a zip":
        if store is None:
            pytest.skip("the object store of the tests is not installed (pip install 'moto[s3]')")
        bucket = kind.replace(" ", "-")
        store.mkdir(bucket)
        root = f"s3://{bucket}/walls/root"
        store.put(f"{folder}/", f"{root}/", recursive=True)
    if kind.startswith("a zip in"):
        store.put(str(tmp_path / "root.zip"), f"{root}.zip")
        root += ".zip"
    monkeypatch.chdir(tmp_path)  # where the workers are not
    compute = {"engine": "ray", "block": 4}
    found = ingest(root, tmp_path / "ray", "folders", {**SETTINGS, "compute": compute}, partitioned=True)
    assert_same(found, expected)
