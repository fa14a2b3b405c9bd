import socket
from importlib.util import find_spec

import pytest

from crack_pipeline.datasets import BlockFolderDataset, RawRootDataset
from crack_pipeline.engines import cluster
from crack_pipeline.engines.cluster import About, check_same
from crack_pipeline.engines.compute import Compute

HERE = About("2.60.0", "3.11.7", "0.1.0", "aa")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (HERE._replace(ray="2.59.0"), r"10\.0\.0\.2: Ray 2\.59\.0, here 2\.60\.0"),
        (HERE._replace(python="3.12.1"), r"Python 3\.12, here 3\.11"),
        (HERE._replace(package="0.2.0"), r"crack-pipeline 0\.2\.0, here 0\.1\.0"),
        (HERE._replace(code="bb"), r"other source files of crack-pipeline 0\.1\.0"),
        (HERE._replace(package="missing", code=""), r"crack-pipeline is not installed"),
    ],
)
def test_a_node_that_runs_something_else_is_named(other, message):
    with pytest.raises(RuntimeError, match=message) as caught:
        check_same(HERE, {"10.0.0.1": HERE, "10.0.0.2": other})
    assert "10.0.0.1" not in str(caught.value)


def test_nodes_that_run_the_same_pass():
    check_same(HERE, {"10.0.0.1": HERE, "10.0.0.2": HERE._replace(python="3.11.9")})


@pytest.mark.parametrize(
    ("says", "expected", "message"),
    [
        (
            "RuntimeError: Version mismatch: The cluster was started with:\n    Ray: 2.55.0\n    Python: 3.12.1\n"
            "This process on 10.0.0.3 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n",
            RuntimeError,
            r"h:1 runs Ray 2\.55\.0, Python 3\.12\.1, and this machine Ray 2\.60\.0, Python 3\.11\.7",
        ),
        ("AuthenticationError: Token authentication is enabled", ConnectionError, r"~/\.ray/auth_token"),
        (
            "RuntimeError: No node info found matching attributes: '' when trying to resolve node to connect to.",
            ConnectionError,
            "ray start --address=h:1 --num-cpus=0",
        ),
        ("OSError: something odd", ConnectionError, "cannot be joined: OSError: something odd"),
    ],
)
def test_what_ray_says_is_said_in_our_words(says, expected, message):
    error = cluster._translated("h:1", says)
    assert type(error) is expected
    with pytest.raises(expected, match=message):
        raise error


def test_without_ray_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'crack-pipeline\[ray\]'"):
        cluster.join(Compute(engine="ray"))


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_an_address_where_nothing_answers_is_given_up_in_time(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "one")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"no Ray cluster answers at {address} within 2 s"):
            cluster.join(Compute(engine="ray", address=address, patience=2))
    with pytest.raises(ConnectionError, match="the address of Ray's client server"):
        cluster.join(Compute(engine="ray", address="ray://10.0.0.1:10001"))


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.parametrize("address", ["10.0.0.1", "head", "10.0.0.1:", "ray://10.0.0.1:10001"])
def test_what_is_no_address_of_a_head_is_refused_at_once(monkeypatch, address):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setattr(cluster.subprocess, "run", None)
    with pytest.raises(ConnectionError, match=f"compute.address is {address}, .*such as 10.0.0.1:6379"):
        cluster.join(Compute(engine="ray", address=address))


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")
def test_a_run_is_given_up_before_anything_else_is_looked_at(project, kedro):
    asked = "compute.engine=ray,compute.address=127.0.0.1:1,compute.patience=2"
    done = kedro(project, "run", "--pipeline", "anomaly_predict", "--params", asked)
    assert done.returncode != 0
    assert "ConnectionError: " in done.stdout
    assert "at 127.0.0.1:1 " in done.stdout
    assert "Traceback" not in done.stdout
    assert "photographs are read from" not in done.stdout


def test_storage_that_all_share_passes_and_nothing_is_left(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.jpg").write_bytes(b"a")
    raw = RawRootDataset(filepath=str(tmp_path / "raw")).ticket()
    blocks = BlockFolderDataset(filepath=str(tmp_path / "blocks")).ticket()
    for ticket in (raw, blocks):
        ticket.open()
        ticket.use("10.0.0.1")
        assert ticket.close(["10.0.0.1"]) == []
    assert list((tmp_path / "blocks").iterdir()) == []


def test_storage_that_is_another_one_elsewhere_is_found_out(tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/a.jpg").write_bytes(b"a")
    raw = RawRootDataset(filepath=str(tmp_path / "raw")).ticket()
    raw.open()
    (tmp_path / "raw/a.jpg").write_bytes(b"b")
    with pytest.raises(OSError, match=r"a\.jpg is another file there"):
        raw.use("10.0.0.2")
    (tmp_path / "raw/a.jpg").unlink()
    with pytest.raises(OSError, match=r"a\.jpg cannot be read there: No such file"):
        raw.use("10.0.0.2")
    blocks = BlockFolderDataset(filepath=str(tmp_path / "blocks")).ticket()
    blocks.open()
    for file in (tmp_path / "blocks").iterdir():
        file.unlink()
    with pytest.raises(OSError, match="another folder there, or none"):
        blocks.use("10.0.0.2")
    assert blocks.close(["10.0.0.2"]) == ["10.0.0.2"]
