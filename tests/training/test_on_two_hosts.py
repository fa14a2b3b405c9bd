"""Training on a cluster of two hosts: how good it is, what happens when one is lost, and what is refused."""

import json
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from crack_pipeline.engines.compute import Compute, resolve
from ray_hosts import ADDRESSES, two_hosts, why_not
from small_training import train, write_images

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "never")]

SCRIPT = Path(__file__).parents[1] / "small_training.py"
COMPUTE = Compute(accelerator="cpu", precision="32-true", batch_size=16, workers=0, patience=60)
EPOCHS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "stack"
    write_images(folder)
    return folder


@pytest.fixture(scope="module")
def hosts():
    with two_hosts() as hosts:
        yield hosts


def command(what, folder, output, address, epochs=EPOCHS, **compute):
    asked = COMPUTE.model_copy(update={"engine": "ray", "address": address, **compute})
    return sys.executable, str(SCRIPT), what, str(folder), str(output), str(epochs), "0", asked.model_dump_json()


def check(output, epochs=EPOCHS, ranks=2):
    """One network in all processes, and every epoch once."""
    networks = {(output / f"rank-{rank}.txt").read_text() for rank in range(ranks)}
    assert len(networks) == 1
    history = pd.read_parquet(output / "history.parquet")
    assert history["epoch"].tolist() == list(range(epochs))
    return history


def wait_for_checkpoint(output, epoch, running):
    while running.poll() is None:
        kept = sorted(path.name for path in output.glob("ckpt/*/epoch-*.ckpt"))
        if kept and kept[-1] >= f"epoch-epoch={epoch:05d}.ckpt":
            return
        time.sleep(0.05)
    raise AssertionError(running.communicate()[0][-4000:])


@pytest.mark.parametrize(("what", "metric"), [("vae", "validation_loss"), ("segmenter", "validation_dice")])
def test_two_hosts_are_as_good_as_one(hosts, folder, tmp_path, what, metric):
    plan = resolve(COMPUTE)
    alone = [
        train(what, folder, tmp_path / f"seed-{seed}", plan, epochs=EPOCHS, seed=seed)[1][metric] for seed in range(3)
    ]
    done = hosts.run("head", *command(what, folder, tmp_path / "ray", hosts.address))
    assert done.returncode == 0, done.stdout[-4000:]
    assert "training with 2 workers" in done.stdout
    ends = [history.iloc[-1] for history in alone]
    found = check(tmp_path / "ray")[metric].iloc[-1]
    print(f"{what}: {metric} {found:.5f} on two hosts, {', '.join(f'{end:.5f}' for end in ends)} alone")
    assert min(ends) <= found <= max(ends)


def test_a_host_that_is_lost_costs_no_more_than_an_epoch(hosts, folder, tmp_path):
    running = hosts.start("head", *command("vae", folder, tmp_path, hosts.address, epochs=150))
    wait_for_checkpoint(tmp_path, 5, running)
    hosts.kill("other")
    printed, _ = running.communicate(timeout=400)
    assert running.returncode == 0, printed[-4000:]
    assert "training goes on without some of its workers" in printed
    assert "training with 1 workers" in printed
    history = check(tmp_path, epochs=150, ranks=1)
    assert json.loads((tmp_path / "ended.json").read_text())["digest"] == (tmp_path / "rank-0.txt").read_text()
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    hosts.start_ray("other")


NODE = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
print([node["NodeID"] for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] == sys.argv[2]][0])
"""


def test_a_host_that_is_taken_back_is_used_until_it_goes(hosts, folder, tmp_path):
    running = hosts.start("head", *command("vae", folder, tmp_path, hosts.address, epochs=300))
    wait_for_checkpoint(tmp_path, 3, running)
    asked = hosts.run("head", sys.executable, "-c", NODE, hosts.address, ADDRESSES["other"])
    drain = ["drain-node", f"--address={hosts.address}", f"--node-id={asked.stdout.split()[-1]}"]
    drain += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=taken back", "--deadline-remaining-seconds=4"]
    drained = hosts.run("head", sys.executable, "-m", "ray.scripts.scripts", *drain)
    assert drained.returncode == 0, drained.stdout[-4000:]
    printed, _ = running.communicate(timeout=400)
    hosts.kill("other")
    assert running.returncode == 0, printed[-4000:]
    assert "training goes on without some of its workers: nodes of the Ray cluster are being taken away" in printed
    assert printed.count("training with 2 workers") == printed.count("training with 1 workers") == 1
    check(tmp_path, epochs=300, ranks=1)
    hosts.start_ray("other")


def test_a_command_that_is_killed_goes_on_when_it_is_typed_again(hosts, folder, tmp_path):
    running = hosts.start("head", *command("segmenter", folder, tmp_path, hosts.address, epochs=30))
    wait_for_checkpoint(tmp_path, 3, running)
    running.kill()
    running.communicate()
    done = hosts.run("head", *command("segmenter", folder, tmp_path, hosts.address, epochs=30))
    assert done.returncode == 0, done.stdout[-4000:]
    assert "going on after epoch" in done.stdout
    assert "epoch 1 of 30" not in done.stdout
    check(tmp_path, epochs=30)


def test_more_workers_than_there_is_room_for_are_refused(hosts, folder, tmp_path):
    done = hosts.run("head", *command("vae", folder, tmp_path, hosts.address, devices=3))
    assert done.returncode == 1
    assert "compute.devices is 3, and the Ray cluster has room for 2 workers of 1 cores and 0 GPUs" in done.stdout
    assert "Traceback" not in done.stdout
    done = hosts.run("head", *command("vae", folder, tmp_path, hosts.address, accelerator="cuda"))
    assert done.returncode == 1
    assert "Traceback" not in done.stdout


def test_checkpoints_that_one_host_does_not_see_are_refused(hosts, folder, tmp_path):
    hosts.kill("other")
    (tmp_path / "output").mkdir()
    hosts.start_ray("other", hide=tmp_path)
    done = hosts.run("head", *command("vae", folder, tmp_path / "output", hosts.address))
    hosts.kill("other")
    hosts.start_ray("other")
    assert done.returncode == 1, done.stdout[-4000:]
    assert "not all nodes of the cluster reach what they must read and write" in done.stdout
    assert "10.213.7.2: FileNotFoundError" in done.stdout
    assert not list(tmp_path.glob("output/ckpt/*/*.ckpt"))
