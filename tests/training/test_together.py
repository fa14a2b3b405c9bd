import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.training import listening, together
from crack_pipeline.training.fit import DivergedError
from ray_hosts import SOURCE
from small_training import UNCHANGED, digest, train, write_images

PLAN = resolve(Compute(accelerator="cpu", precision="32-true", batch_size=16, workers=0))


@pytest.fixture
def heard():
    epochs = []
    listening.listen(lambda epoch, metrics: epochs.append((epoch, metrics, threading.current_thread())))
    yield epochs
    listening.listen(None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images") / "stack"
    write_images(folder)
    return folder


@pytest.mark.slow
def test_two_processes_go_on_where_one_stopped_and_end_with_one_network(folder, tmp_path, killed, heard, caplog):
    options = {"folder": folder, "output": tmp_path, "epochs": 6}
    with killed(2):
        train("vae", plan=PLAN, **options)
    caplog.clear()
    with caplog.at_level(logging.INFO, "crack_pipeline"):
        network, history = train("vae", plan=PLAN.model_copy(update={"devices": 2}), **options)
    assert [rank.name for rank in sorted(tmp_path.glob("rank-*"))] == ["rank-0.txt", "rank-1.txt"]
    assert {rank.read_text() for rank in tmp_path.glob("rank-*")} == {digest(network)}
    assert history["epoch"].tolist() == list(range(6))
    assert history["train_loss"].iloc[-1] < 0.8 * history["train_loss"].iloc[0]
    assert "going on after epoch 2 of an interrupted training" in caplog.text
    assert [caplog.text.count(f"epoch {number} of 6: ") for number in range(1, 7)] == [0, 0, 1, 1, 1, 1]
    assert [epoch for epoch, _, _ in heard] == [2, 3, 4, 5]
    told = pd.DataFrame([metrics for _, metrics, _ in heard])
    expected = history.iloc[2:].drop(columns="epoch").reset_index(drop=True)
    pd.testing.assert_frame_equal(told[expected.columns], expected, check_exact=True)
    # Who tracks runs knows the active one by its thread.
    assert {thread for _, _, thread in heard} == {threading.current_thread()}
    assert not list(tmp_path.rglob("*.jsonl"))
    assert "MASTER_PORT" not in os.environ


@pytest.mark.slow
def test_two_processes_follow_the_losses_of_one(folder, tmp_path):
    """Also where a network normalises by batches and the loss is one of whole batches."""
    options = {"epochs": 3, "augmentation": UNCHANGED}  # what is drawn by chance differs
    alone, together = (
        train("segmenter", folder, tmp_path / str(devices), PLAN.model_copy(update={"devices": devices}), **options)[1]
        for devices in (1, 2)
    )
    pd.testing.assert_frame_equal(together, alone, rtol=1e-3)


@pytest.mark.slow
def test_a_training_that_diverges_says_so_whichever_process_notices_first(folder, tmp_path):
    with pytest.raises(DivergedError, match=r"train_loss is (nan|inf)"):
        train("vae", folder, tmp_path, PLAN.model_copy(update={"devices": 2}), epochs=3, rate=1e20)


def test_a_batch_that_cannot_be_divided_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="a batch of 8 cannot be divided among 9 devices"):
        train("vae", folder, tmp_path, PLAN.model_copy(update={"devices": 9}), epochs=1)


def test_what_goes_wrong_elsewhere_is_raised_here():
    text = 'Traceback\n  File "a.py"\ncrack_pipeline.training.fit.DivergedError: the training diverged: loss is nan'
    diverged = together._raised_there([together._last_line(text)])
    assert isinstance(diverged, DivergedError)
    assert str(diverged) == "the training diverged: loss is nan"
    assert str(together._raised_there([together._last_line("Traceback\nValueError: 3: 4\n")])) == "ValueError: 3: 4"


def test_the_cause_is_told_from_what_it_does_to_other_processes(tmp_path):
    def work(told):
        for error in (
            RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer"),
            FileNotFoundError("images-00000.npy\nis gone"),
        ):
            with pytest.raises(type(error)), together._told_of(told):
                raise error

    failures = []
    together.followed(tmp_path, work, failures)
    assert str(together._raised_there(failures)) == "FileNotFoundError: images-00000.npy\nis gone"
    assert "Connection closed" in str(together._raised_there(failures[:1]))


def test_what_is_told_is_passed_on_once_and_line_by_line(tmp_path, heard, caplog):
    def work(told):
        for epoch in range(3):
            together._append(told, {"epoch": epoch, "metrics": {"train_loss": epoch / 2}})
        together._append(told, {"logger": "crack_pipeline.training.fit", "level": logging.WARNING, "says": "100 %s"})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        together.followed(tmp_path, work)
    assert [(epoch, metrics) for epoch, metrics, _ in heard] == [(n, {"train_loss": n / 2}) for n in range(3)]
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", "100 %s")]
    assert list(tmp_path.iterdir()) == []


def test_half_a_line_waits_for_the_other_half(tmp_path, heard):
    line = json.dumps({"epoch": 0, "metrics": {}}) + "\n"
    told = tmp_path / "told"
    told.write_text(line + line[:9])
    at = together._pass_on(told, 0, [])
    assert (at, len(heard)) == (len(line), 1)
    told.write_text(line * 2)
    assert together._pass_on(told, at, []) == 2 * len(line)
    assert len(heard) == 2


def test_what_is_told_to_nobody_is_forgotten(tmp_path):
    together._append(tmp_path / "gone", {"epoch": 0})
    assert list(tmp_path.iterdir()) == []


def test_parts_that_are_compiled_are_found_by_name():
    network = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.Sequential(torch.nn.ReLU()))
    network[1]._compiled_call_impl = network[1].forward
    assert together.Member(network, None)._compiled == ["1"]


@pytest.mark.slow
def test_a_command_that_is_killed_leaves_no_process_and_goes_on(folder, tmp_path):
    compute = Compute(accelerator="cpu", precision="32-true", batch_size=16, workers=0, devices=2)
    script = Path(__file__).parents[1] / "small_training.py"
    where = os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE), str(script.parent)])}
    command = [sys.executable, str(script), "segmenter", str(folder), str(tmp_path), "40", "0"]
    command.append(compute.model_dump_json())
    running = subprocess.Popen(command, env=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("ckpt/*/epoch-epoch=00003.ckpt")) and running.poll() is None:
        time.sleep(0.02)
    processes = psutil.Process(running.pid).children(recursive=True)
    running.kill()
    running.wait()
    assert len(processes) >= 2
    assert psutil.wait_procs(processes, timeout=60)[1] == []
    assert not (tmp_path / "ended.json").exists()
    done = subprocess.run(command, env=where, capture_output=True, text=True, check=True)
    assert "going on after epoch" in done.stderr
    assert "epoch 1 of 40" not in done.stderr
    assert "epoch 40 of 40" in done.stderr
    assert len({rank.read_text() for rank in tmp_path.glob("rank-*")}) == 1
