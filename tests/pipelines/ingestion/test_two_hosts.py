"""An ingestion on a cluster of two hosts, and what happens when one is lost, or the run is killed."""

import json
import sys
import time
from pathlib import Path

import pytest

import hostile
from ingesting import Workspace
from ray_hosts import two_hosts, why_not
from small_ingestion import assert_same, ingest, write_walls

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")]

SCRIPT = Path(__file__).parents[2] / "small_ingestion.py"
SETTINGS = {"reading": {"max_bad_share": 0.9}, "image": {"size": 64}}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs") / "root"
    hostile.make(folder)
    write_walls(folder, 200, 400)
    return folder


@pytest.fixture(scope="module")
def expected(root, tmp_path_factory):
    return ingest(root, tmp_path_factory.mktemp("local"), "folders", SETTINGS, partitioned=True)


@pytest.fixture(scope="module")
def hosts():
    with two_hosts() as hosts:
        yield hosts


def command(hosts, root, output):
    compute = {"engine": "ray", "address": hosts.address, "block": 5, "patience": 120}
    return sys.executable, str(SCRIPT), str(root), str(output), "folders", json.dumps({**SETTINGS, "compute": compute})


def finished(output, what):
    place = {
        "parts": output / "data/03_primary/ingestion/image_parts",
        "blocks": output / "data/02_intermediate/ingestion/group_blocks",
    }[what]
    return [path for path in place.glob("[!.]*")] if place.exists() else []


def wait_for(running, output, what, number):
    while len(finished(output, what)) < number and running.poll() is None:
        time.sleep(0.05)
    assert running.poll() is None, running.communicate()[0][-4000:]


def check(output, expected):
    found = Workspace(output)
    assert_same(found, expected)
    assert finished(output, "parts") == finished(output, "blocks") == []


def test_a_host_that_is_lost_costs_no_image_and_makes_none_twice(hosts, root, tmp_path, expected):
    running = hosts.start("head", *command(hosts, root, tmp_path))
    wait_for(running, tmp_path, "parts", 6)
    hosts.kill("other")
    assert len(finished(tmp_path, "parts")) < 30, "it was over before the host was lost"
    printed, _ = running.communicate(timeout=900)
    assert running.returncode == 0, printed[-4000:]
    check(tmp_path, expected)
    hosts.start_ray("other")


def test_a_head_that_is_lost_costs_nothing_that_was_finished(root, tmp_path, expected):
    with two_hosts() as hosts:
        running = hosts.start("other", *command(hosts, root, tmp_path))
        wait_for(running, tmp_path, "parts", 6)
        hosts.kill("head")
        printed, _ = running.communicate(timeout=180)
    assert running.returncode != 0
    assert "ConnectionError: the head of the Ray cluster has not answered for 30 s" in printed
    assert "Traceback" not in printed
    before = {path.stat().st_ino for path in tmp_path.rglob("image_parts/[!.]*/fingerprints-*.npy")}
    assert 6 <= len(before) < 30, "it was over before the head was lost"
    with two_hosts() as hosts:
        done = hosts.run("head", *command(hosts, root, tmp_path), seconds=900)
    assert done.returncode == 0, done.stdout[-4000:]
    check(tmp_path, expected)
    assert before <= {path.stat().st_ino for path in tmp_path.rglob("images/fingerprints-*.npy")}


def test_a_run_that_is_killed_twice_goes_on(hosts, root, tmp_path, expected):
    running = hosts.start("head", *command(hosts, root, tmp_path))
    wait_for(running, tmp_path, "parts", 8)
    running.kill()
    running.communicate()
    before = {path: path.stat().st_mtime_ns for path in finished(tmp_path, "parts")}
    running = hosts.start("head", *command(hosts, root, tmp_path))
    wait_for(running, tmp_path, "blocks", 1)  # all is decoded, and the search goes on
    running.kill()
    running.communicate()
    images = tmp_path / "data/03_primary/ingestion/images"
    kept = {path.stat().st_mtime_ns for path in images.glob("fingerprints-*.npy")}
    assert len(before) >= 8
    assert len(kept) >= len(before)
    done = hosts.run("head", *command(hosts, root, tmp_path), seconds=900)
    assert done.returncode == 0, done.stdout[-4000:]
    check(tmp_path, expected)
