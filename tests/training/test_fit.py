import logging

import pandas as pd
import pytest
import torch

from crack_pipeline.training import fit as fit_module
from crack_pipeline.training.compute import Compute, resolve
from crack_pipeline.training.fit import History, epoch_seed, fingerprint


class KilledError(Exception):
    pass


@pytest.fixture
def interrupted(monkeypatch, train):
    """Begin a training that dies in the middle of an epoch."""

    def interrupted(epoch, **options):
        def die(self, trainer, pl_module, outputs, batch, batch_idx):
            if (trainer.current_epoch, batch_idx) == (epoch, 2):
                raise KilledError

        with monkeypatch.context() as patched:
            patched.setattr(fit_module.Progress, "on_train_batch_end", die)
            with pytest.raises(KilledError):
                train(**options)

    return interrupted


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def checkpoints(folder):
    return sorted(folder.rglob("*.ckpt"))


def test_the_loss_falls_and_every_epoch_is_in_the_history(train):
    _, history = train(8)
    assert history["epoch"].tolist() == list(range(8))
    assert set(history) == {"epoch"} | {
        f"{stage}_{what}" for stage in ("train", "validation") for what in ("loss", "reconstruction", "kl")
    }
    for stage in ("train", "validation"):
        assert history[f"{stage}_loss"].iloc[-1] < 0.8 * history[f"{stage}_loss"].iloc[0]


def test_the_seed_decides_everything(train, tmp_path):
    one, first = train(2, checkpoints=tmp_path / "a")
    other, second = train(2, checkpoints=tmp_path / "b")
    third, _ = train(2, checkpoints=tmp_path / "c", seed=1)
    assert same(one, other)
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    assert not same(one, third)


@pytest.mark.parametrize(("epoch", "one_cycle"), [(1, False), (3, True)])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(train, interrupted, tmp_path, caplog, epoch, one_cycle):
    expected, expected_history = train(5, one_cycle=one_cycle, checkpoints=tmp_path / "other")
    interrupted(epoch, epochs=5, one_cycle=one_cycle)
    torch.rand(7)  # what ran before must not matter, nor what the network was initialised with
    with caplog.at_level(logging.INFO, fit_module.__name__):
        weights, history = train(5, one_cycle=one_cycle, initial=99)
    assert f"going on after epoch {epoch} of an interrupted training" in caplog.text
    assert same(weights, expected)
    pd.testing.assert_frame_equal(history, expected_history, check_exact=True)


def test_a_training_killed_after_its_last_epoch_is_only_read(train, caplog):
    expected, expected_history = train(3)
    caplog.clear()
    with caplog.at_level(logging.INFO, fit_module.__name__):
        weights, history = train(3, initial=99)
    assert "going on after epoch 3" in caplog.text
    assert "epoch 3 of 3" not in caplog.text
    assert same(weights, expected)
    pd.testing.assert_frame_equal(history, expected_history, check_exact=True)


@pytest.mark.parametrize("damage", ["cut", "emptied", "overwritten"])
def test_a_damaged_checkpoint_costs_an_epoch_not_the_training(train, interrupted, tmp_path, caplog, damage):
    expected, expected_history = train(5, checkpoints=tmp_path / "other")
    interrupted(3, epochs=5)
    newest = checkpoints(tmp_path / "checkpoints")[-1]
    content = newest.read_bytes()
    newest.write_bytes({"cut": content[: len(content) // 2], "emptied": b"", "overwritten": b"x" * 999}[damage])
    with caplog.at_level(logging.INFO, fit_module.__name__):
        weights, history = train(5, initial=99)
    assert f"checkpoint {newest.name} cannot be read" in caplog.text
    assert "going on after epoch 2" in caplog.text
    assert same(weights, expected)
    pd.testing.assert_frame_equal(history, expected_history, check_exact=True)


def test_with_every_checkpoint_damaged_it_begins_anew(train, interrupted, tmp_path, caplog):
    expected, _ = train(4, checkpoints=tmp_path / "other")
    interrupted(2, epochs=4)
    for path in checkpoints(tmp_path / "checkpoints"):
        path.write_bytes(b"")
    with caplog.at_level(logging.INFO, fit_module.__name__):
        weights, _ = train(4)
    assert "going on" not in caplog.text
    assert same(weights, expected)


@pytest.mark.parametrize("other", [{"data": "others"}, {"seed": 3}, {"epochs": 5}])
def test_another_training_does_not_go_on_where_this_one_stopped(train, interrupted, caplog, other):
    interrupted(2, epochs=4)
    with caplog.at_level(logging.INFO, fit_module.__name__):
        train(**{"epochs": 4, **other})
    assert "going on" not in caplog.text


def test_only_the_newest_checkpoints_are_kept(train, tmp_path):
    train(5)
    assert len(checkpoints(tmp_path / "checkpoints")) == 2


def test_checkpoints_are_read_without_unpickling_code(train, tmp_path):
    train(2)
    for path in checkpoints(tmp_path / "checkpoints"):
        assert torch.load(path, weights_only=True)["epoch"] in (0, 1)


def test_a_fingerprint_depends_on_content_not_on_order():
    assert fingerprint(a=1, b=[2]) == fingerprint(b=[2], a=1)
    assert fingerprint(a=1, b=[2]) != fingerprint(a=1, b=[3])


def test_epochs_differ_in_their_randomness():
    assert len({epoch_seed(seed, epoch) for seed in range(5) for epoch in range(50)}) == 250


def test_the_history_comes_back_from_its_state():
    history, other = History(), History()
    history.rows = [{"epoch": 0, "train_loss": 0.5}]
    other.load_state_dict(history.state_dict())
    assert other.rows == history.rows


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is found")
def test_a_gpu_trains_and_goes_on(train, interrupted, caplog):
    plan = resolve(Compute(accelerator="cuda"))
    assert set(plan.reasons) == {"accelerator", "devices", "precision", "batch_size", "workers", "compile"}
    interrupted(1, epochs=4, plan=plan)
    with caplog.at_level(logging.INFO, fit_module.__name__):
        weights, history = train(4, plan=plan)
    assert "going on after epoch 1" in caplog.text
    assert history["train_loss"].iloc[-1] < history["train_loss"].iloc[0]
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
