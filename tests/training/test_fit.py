import logging
import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.training import fit as fit_module
from crack_pipeline.training.fit import DivergedError, Finite, History, Watch, epoch_seed, fingerprint

BEST = Watch("validation_loss", "min")


@pytest.fixture
def interrupted(killed, train):
    """Begin a training that dies in the middle of an epoch."""

    def interrupted(epoch, **options):
        with killed(epoch):
            train(**options)

    return interrupted


class Spoil(Callback):
    """Makes the weights useless in the later epochs."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch > 1:
            for parameter in pl_module.parameters():
                parameter.data.mul_(1.5)


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


@pytest.mark.parametrize("damage", [False, True])
def test_the_best_epoch_is_what_comes_out_also_after_an_interruption(train, interrupted, tmp_path, damage, caplog):
    until, _ = train(2, checkpoints=tmp_path / "until")
    expected, expected_history = train(4, checkpoints=tmp_path / "other", watch=BEST, callbacks=[Spoil()])
    assert expected_history["validation_loss"].idxmin() == 1
    assert same(expected, until)
    interrupted(3, epochs=4, watch=BEST, callbacks=[Spoil()])
    if damage:
        checkpoints(tmp_path / "checkpoints")[-1].write_bytes(b"")
    with caplog.at_level(logging.INFO, fit_module.__name__):
        weights, history = train(4, initial=99, watch=BEST, callbacks=[Spoil()])
    assert f"going on after epoch {2 if damage else 3}" in caplog.text
    assert "the best epoch was 2: validation_loss" in caplog.text
    assert same(weights, expected)
    pd.testing.assert_frame_equal(history, expected_history, check_exact=True)


def test_the_last_epoch_is_what_comes_out_where_nothing_is_watched(train, tmp_path):
    spoilt, history = train(4, callbacks=[Spoil()])
    kept = torch.load(checkpoints(tmp_path / "checkpoints")[-1], weights_only=True)["state_dict"]
    assert history["validation_loss"].idxmin() < 3
    assert same({f"network.{name}": tensor for name, tensor in spoilt.items()}, kept)


def test_patience_ends_a_training_early(train, caplog):
    with caplog.at_level(logging.INFO, fit_module.__name__):
        _, history = train(9, watch=Watch("validation_loss", "min", patience=2), callbacks=[Spoil()])
    assert history["epoch"].tolist() == [0, 1, 2, 3]
    assert "stopped early: validation_loss has not become better for 2 epochs" in caplog.text


def test_processes_that_read_ahead_change_nothing(train, plan, tmp_path):
    expected, expected_history = train(3, checkpoints=tmp_path / "other")
    weights, history = train(3, plan=plan.model_copy(update={"workers": 1}))
    assert same(weights, expected)
    pd.testing.assert_frame_equal(history, expected_history, check_exact=True)


def test_a_training_that_diverges_ends_with_what_to_do(train, tmp_path):
    with pytest.raises(DivergedError, match=r"diverged: train_loss is (nan|inf) in epoch 1; lower the learning rate$"):
        train(3, rate=1e20)
    assert checkpoints(tmp_path / "checkpoints") == []


def test_a_gpu_is_not_made_to_wait_for_every_loss_and_half_precision_may_overflow():
    def look(step, device, precision):
        trainer = SimpleNamespace(precision=precision, current_epoch=0)
        module = SimpleNamespace(device=torch.device(device))
        Finite().on_train_batch_end(trainer, module, {"loss": torch.tensor(math.inf)}, None, step)

    for step in range(100):
        look(step, "cpu", "16-mixed")
    look(0, "cuda", "bf16-mixed")
    with pytest.raises(DivergedError, match=r"train_loss is inf in epoch 1; .* 32-true instead of bf16-mixed"):
        for step in range(100):
            look(step, "cuda", "bf16-mixed")
    epoch = SimpleNamespace(precision="16-mixed", current_epoch=0, callback_metrics={"train_loss": torch.tensor(1e99)})
    Finite().on_train_epoch_end(epoch, None)
    epoch.callback_metrics["validation_loss"] = torch.tensor(math.nan)
    with pytest.raises(DivergedError, match="validation_loss is nan in epoch 1"):
        Finite().on_train_epoch_end(epoch, None)


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
    history.rows, history.seconds = [{"epoch": 0, "train_loss": 0.5}], 7.0
    other.load_state_dict(history.state_dict())
    assert (other.rows, other.seconds) == (history.rows, history.seconds)


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
