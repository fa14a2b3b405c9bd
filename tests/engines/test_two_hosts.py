"""A cluster of two hosts: what is predicted, what happens when one is lost, and what is refused before any work."""

import os
import re
import shutil
import sys
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from crack_pipeline.engines.compute import Compute
from ray_hosts import SOURCE, two_hosts, why_not
from small_prediction import inspect, predict, write_photographs

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")]

SCRIPT = Path(__file__).parents[1] / "small_prediction.py"
COMPUTE = Compute(accelerator="cpu", precision="32-true", block=2, workers=0, patience=60)
NUMBER = 40


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs") / "root"
    write_photographs(folder, NUMBER, 384)
    return folder


@pytest.fixture(scope="module")
def expected(root, tmp_path_factory):
    return predict(root, tmp_path_factory.mktemp("local"), COMPUTE)


@pytest.fixture(scope="module")
def hosts():
    with two_hosts() as hosts:
        yield hosts


@pytest.fixture
def other_again(hosts):
    """The node of the host ``other`` goes, and an ordinary one comes in its place afterwards."""
    hosts.kill("other")
    yield
    hosts.kill("other")
    hosts.start_ray("other")


def command(root, output, address, what="predict"):
    compute = COMPUTE.model_copy(update={"engine": "ray", "address": address})
    return sys.executable, str(SCRIPT), what, str(root), str(output), compute.model_dump_json()


def refused(hosts, root, output):
    done = hosts.run("head", *command(root, output, hosts.address))
    assert done.returncode == 1, done.stdout[-4000:]
    assert "Traceback" not in done.stdout
    assert not list(output.glob("blocks/*.parquet"))
    return done.stdout


def finished(blocks):
    return len(list(blocks.glob("*.parquet"))) if blocks.exists() else 0


def check(output, expected):
    predictions, rejected = expected
    found = pd.read_parquet(output / "predictions.parquet")
    assert len(found) == NUMBER - 2 and found["path"].is_unique and found["image_id"].is_unique
    assert set(found["image_id"]) == set(predictions["image_id"])
    pd.testing.assert_frame_equal(found, predictions, rtol=1e-3, atol=1 / 256, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_parquet(output / "rejected.parquet"), rejected, check_dtype=False)


def test_two_hosts_predict_what_this_machine_predicts_and_only_once(hosts, root, tmp_path, expected):
    done = hosts.run("head", *command(root, tmp_path, hosts.address))
    assert done.returncode == 0, done.stdout[-4000:]
    check(tmp_path, expected)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "blocks").iterdir()}
    again = hosts.run("head", *command(root, tmp_path, hosts.address))
    assert again.returncode == 0, again.stdout[-4000:]
    check(tmp_path, expected)
    assert set(before) == set((tmp_path / "blocks").iterdir())


def test_a_host_that_is_lost_costs_no_photograph(hosts, root, tmp_path, expected):
    running = hosts.start("head", *command(root, tmp_path, hosts.address))
    while finished(tmp_path / "blocks") < 4 and running.poll() is None:
        time.sleep(0.1)
    assert running.poll() is None, running.communicate()[0][-4000:]
    hosts.kill("other")
    assert finished(tmp_path / "blocks") < NUMBER // 2, "it was over before the host was lost"
    printed, _ = running.communicate(timeout=300)
    assert running.returncode == 0, printed[-4000:]
    check(tmp_path, expected)
    hosts.start_ray("other")


def test_a_host_of_many_workers_that_is_lost_does_not_end_the_run(tmp_path):
    write_photographs(tmp_path / "root", 100, 384)
    with two_hosts() as hosts:
        compute = COMPUTE.model_copy(update={"engine": "ray", "address": hosts.address, "block": 1, "cores": 0.25})
        work = sys.executable, str(SCRIPT), "predict", str(tmp_path / "root"), str(tmp_path), compute.model_dump_json()
        running = hosts.start("head", *work)
        while finished(tmp_path / "blocks") < 10 and running.poll() is None:
            time.sleep(0.1)
        assert running.poll() is None, running.communicate()[0][-4000:]
        hosts.kill("other")
        printed, _ = running.communicate(timeout=400)
    assert running.returncode == 0, printed[-4000:]
    found = pd.read_parquet(tmp_path / "predictions.parquet")
    assert len(found) == 100 - 2 and found["path"].is_unique
    assert set(pd.read_parquet(tmp_path / "rejected.parquet")["kind"]) == {"copy", "damaged"}


@pytest.mark.parametrize("where", ["other", "head"])
def test_a_head_that_is_lost_costs_nothing_that_was_finished(root, tmp_path, expected, where):
    with two_hosts() as hosts:
        running = hosts.start(where, *command(root, tmp_path, hosts.address))
        while finished(tmp_path / "blocks") < 4 and running.poll() is None:
            time.sleep(0.1)
        assert running.poll() is None, running.communicate()[0][-4000:]
        hosts.kill("head")
        printed, _ = running.communicate(timeout=180)
    assert running.returncode != 0
    if where == "other":
        assert "the head of the Ray cluster does not answer any more" in printed
        assert "ConnectionError: the head of the Ray cluster has not answered for 30 s" in printed
        assert "Traceback" not in printed
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("blocks/*.parquet")}
    assert 4 <= len(before) < NUMBER // 2, "it was over before the head was lost"
    with two_hosts() as hosts:
        done = hosts.run("head", *command(root, tmp_path, hosts.address))
    assert done.returncode == 0, done.stdout[-4000:]
    check(tmp_path, expected)
    changed = [path for path, written in before.items() if path.stat().st_mtime_ns != written]
    assert len(changed) <= 1, "only a block with a damaged photograph is tried again"


def test_a_run_without_room_for_a_worker_waits_for_a_node_and_says_so(root, tmp_path, expected):
    with two_hosts(nodes=()) as hosts:
        hosts.start_ray("head", cores=0)
        hosts.start_ray("other")
        running = hosts.start("head", *command(root, tmp_path, hosts.address))
        while finished(tmp_path / "blocks") < 4 and running.poll() is None:
            time.sleep(0.1)
        assert running.poll() is None, running.communicate()[0][-4000:]
        hosts.kill("other")
        time.sleep(60)  # until the cluster notices, and the run looks
        assert running.poll() is None, running.communicate()[0][-4000:]
        hosts.start_ray("other")
        printed, _ = running.communicate(timeout=300)
    assert running.returncode == 0, printed[-4000:]
    assert "no node that is left in the Ray cluster has room for a worker: the run waits for one to join" in printed
    check(tmp_path, expected)


def test_a_node_that_joins_a_run_gets_a_worker(tmp_path):
    write_photographs(tmp_path / "root", 120, 512)
    with two_hosts(nodes=("head",)) as hosts:
        running = hosts.start("head", *command(tmp_path / "root", tmp_path, hosts.address))
        while finished(tmp_path / "blocks") < 2 and running.poll() is None:
            time.sleep(0.1)
        hosts.start_ray("other")
        while not hosts.works("other") and running.poll() is None:
            time.sleep(0.1)
        assert running.poll() is None, "it was over before the node had a worker: " + running.communicate()[0][-4000:]
        printed, _ = running.communicate(timeout=300)
    assert running.returncode == 0, printed[-4000:]
    assert len(pd.read_parquet(tmp_path / "predictions.parquet")) == 120 - 2


def test_an_inspection_goes_on_where_it_was_killed_and_is_that_of_this_machine(hosts, tmp_path):
    root = tmp_path / "root"
    write_photographs(root, 16, 192)
    expected, left_out = inspect(root, tmp_path / "local", COMPUTE)
    output = tmp_path / "ray"
    running = hosts.start("head", *command(root, output, hosts.address, "inspect"))
    while len(list(output.glob("inspected/*/record.json"))) < 3 and running.poll() is None:
        time.sleep(0.1)
    assert running.poll() is None, running.communicate()[0][-4000:]
    running.kill()
    running.communicate()
    before = {path: path.stat().st_mtime_ns for path in output.glob("inspected/*/record.json")}
    done = hosts.run("head", *command(root, output, hosts.address, "inspect"))
    assert done.returncode == 0, done.stdout[-4000:]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    found = pd.read_parquet(output / "predictions.parquet")
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1 / 256, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_parquet(output / "rejected.parquet"), left_out, check_dtype=False)
    assert finished(output / "blocks") == 0


def test_a_host_that_is_lost_costs_an_inspection_no_photograph(hosts, tmp_path):
    root, output = tmp_path / "root", tmp_path / "ray"
    write_photographs(root, 40, 384)
    expected, left_out = inspect(root, tmp_path / "local", COMPUTE)
    running = hosts.start("head", *command(root, output, hosts.address, "inspect"))

    def records():
        return len(list(output.glob("inspected/*/record.json")))

    while records() < 5 and running.poll() is None:
        time.sleep(0.1)
    assert running.poll() is None, running.communicate()[0][-4000:]
    hosts.kill("other")
    assert records() < len(expected), "it was over before the host was lost"
    printed, _ = running.communicate(timeout=300)
    assert running.returncode == 0, printed[-4000:]
    found = pd.read_parquet(output / "predictions.parquet")
    assert found["path"].is_unique and found["image_id"].is_unique
    pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1 / 256, check_dtype=False)
    pd.testing.assert_frame_equal(pd.read_parquet(output / "rejected.parquet"), left_out, check_dtype=False)
    hosts.start_ray("other")


@pytest.fixture(scope="module")
def archive(root):
    with zipfile.ZipFile(root.parent / "photographs.zip", "w") as file:
        for path in root.iterdir():
            file.write(path, path.name)
    return root.parent / "photographs.zip"


def test_photographs_in_an_archive_are_read_on_both_hosts(hosts, archive, tmp_path, expected):
    done = hosts.run("head", *command(archive, tmp_path, hosts.address))
    assert done.returncode == 0, done.stdout[-4000:]
    check(tmp_path, expected)


def test_photographs_in_an_object_store_are_read_on_both_hosts(root, tmp_path, expected, monkeypatch):
    pytest.importorskip("moto", reason="the object store of the tests is not installed (pip install 'moto[s3]')")
    variables = {
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": "http://10.213.7.1:5555",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    fill = (
        "import fsspec, sys; store = fsspec.filesystem('s3'); store.mkdir('bucket'); "
        "store.put(sys.argv[1] + '/', 's3://bucket/photographs/', recursive=True)"
    )
    with two_hosts() as hosts:
        hosts.start("head", sys.executable, "-m", "moto.server", "-H", "10.213.7.1", "-p", "5555")
        filled = None
        for _ in range(30):
            filled = hosts.run("head", sys.executable, "-c", fill, str(root))
            if filled.returncode == 0:
                break
            time.sleep(1)
        assert filled.returncode == 0, filled.stdout[-4000:]
        done = hosts.run("head", *command("s3://bucket/photographs", tmp_path, hosts.address))
        assert done.returncode == 0, done.stdout[-4000:]
        check(tmp_path, expected)
        assert not any(value in done.stdout for value in ("somebody", "secret"))


def test_storage_that_one_host_does_not_see_is_refused(hosts, root, archive, tmp_path, other_again):
    hosts.start_ray("other", hide=root.parent)
    said = refused(hosts, root, tmp_path)
    assert "not all nodes of the cluster reach what they must read and write" in said
    assert re.search(rf"raw_root {root}\n    10\.213\.7\.2: OSError: \d+\.png cannot be read there: No such file", said)
    assert "10.213.7.1" not in said
    said = refused(hosts, archive, tmp_path)
    assert re.search(rf"raw_root {archive}\n    10\.213\.7\.2: OSError: \d+\.png cannot be read there: No such", said)


def test_photographs_that_one_host_alone_cannot_read_are_left_out_of_nothing(hosts, root, tmp_path, other_again):
    shutil.copytree(root, tmp_path / "root")
    (tmp_path / "root/hidden").mkdir()
    for at in range(10, 20):
        (tmp_path / f"root/{at:04d}.png").rename(tmp_path / f"root/hidden/{at:04d}.png")
    hosts.start_ray("other", hide=tmp_path / "root/hidden")
    for what, work in (("predict", predict), ("inspect", inspect)):
        expected, left_out = work(tmp_path / "root", tmp_path / what / "local", COMPUTE)
        done = hosts.run("head", *command(tmp_path / "root", tmp_path / what / "ray", hosts.address, what))
        assert done.returncode == 0, done.stdout[-4000:]
        assert "a worker could not read hidden/00" in done.stdout
        found, rejected = (
            pd.read_parquet(tmp_path / what / f"ray/{name}.parquet") for name in ("predictions", "rejected")
        )
        pd.testing.assert_frame_equal(found, expected, rtol=1e-3, atol=1 / 256, check_dtype=False)
        pd.testing.assert_frame_equal(rejected, left_out, check_dtype=False)


def test_another_version_of_the_package_is_refused(hosts, root, tmp_path, other_again):
    shutil.copytree(SOURCE / "crack_pipeline", tmp_path / "src/crack_pipeline")
    with (tmp_path / "src/crack_pipeline/hooks.py").open("a") as file:
        file.write("\n# changed\n")
    hosts.start_ray("other", PYTHONPATH=f"{tmp_path}/src:{Path(__file__).parents[1]}")
    said = refused(hosts, root, tmp_path / "output")
    assert "10.213.7.2: other source files of crack-pipeline" in said
    assert "10.213.7.1" not in said


def test_a_machine_without_a_node_is_told_to_become_one(hosts, root, tmp_path, other_again):
    alone = ("unshare", "--pid", "--fork", "--mount-proc")  # Ray looks for its node among all processes that it sees
    done = hosts.run("other", *alone, *command(root, tmp_path, hosts.address))
    assert done.returncode == 1
    assert f"ray start --address={hosts.address} --num-cpus=0" in done.stdout


def test_another_token_is_refused(hosts, root, tmp_path):
    (tmp_path / "token").write_text("0" * 64)
    done = hosts.run("head", *command(root, tmp_path, hosts.address), RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert done.returncode == 1
    assert "does not know this machine's token" in done.stdout


def test_nothing_is_left_of_the_hosts():
    with two_hosts(nodes=("head",)) as hosts:
        names, folder = list(hosts.names.values()), hosts.folder
        assert folder.is_dir()
    assert not folder.exists()
    assert not any(Path("/run/netns", name).exists() for name in names)
    assert not [pid for pid in Path("/proc").iterdir() if pid.name.isdigit() and str(folder) in _command_of(pid)]


def _command_of(process):
    try:
        return os.fsdecode((process / "cmdline").read_bytes())
    except OSError:
        return ""
