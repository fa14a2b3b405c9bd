import logging
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback
from torch import nn

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging.photograph_stack import CRACK, IGNORED
from crack_pipeline.training import fit as fit_module
from crack_pipeline.training.augmentation import Augmentation
from crack_pipeline.training.fit import DivergedError
from crack_pipeline.training.losses import CrossEntropy, Dice
from crack_pipeline.training.segmentation import SegmentationTraining

PRECISIONS = pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])


class AfterStep(Callback):
    """Notes something after every step, before the average follows."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(self.look(trainer, pl_module))


def weights(network):
    return {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def module(network=None, **options):
    given = {
        "terms": (CrossEntropy(), Dice()),
        "augmentation": Augmentation(),
        "optimiser": "adamw",
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "steps": 100,
        "schedule": "one_cycle",
        "average": 0.0,
        "seed": 0,
    }
    return SegmentationTraining(network or nn.Conv2d(3, 1, 3, padding=1), **given | options)


@PRECISIONS
def test_it_learns_to_find_dark_lines(segment, plan, precision):
    plan = plan.model_copy(update={"precision": precision})
    _, history = segment(3, steps=12, batch_size=8, plan=plan, initial=1)
    assert history["validation_dice"].max() > 0.8
    assert history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[0]
    assert set(history) == {
        "epoch",
        "train_loss",
        "train_cross_entropy",
        "train_dice",
        "validation_loss",
        "validation_dice",
    }
    assert history.notna().all(axis=None)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(
    ("precision", "workers", "epoch"), [("32-true", 0, 1), ("32-true", 2, 3), ("bf16-mixed", 0, 2)]
)
def test_a_killed_training_ends_as_one_that_was_not(segment, killed, plan, tmp_path, caplog, precision, workers, epoch):
    plan = plan.model_copy(update={"precision": precision})
    expected, expected_history = segment(4, plan=plan, checkpoints=tmp_path / "other")
    with killed(epoch):
        segment(4, plan=plan)
    torch.rand(7)  # what ran before must not matter, nor how many processes read
    helped = plan.model_copy(update={"workers": workers})
    with caplog.at_level(logging.INFO, fit_module.__name__):
        found, history = segment(4, plan=helped, initial=99)
    assert f"going on after epoch {epoch} of an interrupted training" in caplog.text
    assert same(weights(found), weights(expected))
    pd.testing.assert_frame_equal(history, expected_history, check_exact=True)
    assert len(history["train_loss"].unique()) == 4


def test_the_seed_decides_crops_and_changes(segment, tmp_path):
    one, _ = segment(1, checkpoints=tmp_path / "a")
    again, _ = segment(1, checkpoints=tmp_path / "b")
    other, _ = segment(1, checkpoints=tmp_path / "c", seed=1)
    assert same(weights(one), weights(again))
    assert not same(weights(one), weights(other))


def test_the_weights_of_the_best_epoch_are_what_comes_out(segment):
    kept = {}

    class Keep(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            kept[trainer.current_epoch] = weights(pl_module)

    def spoil(trainer, training):
        if trainer.current_epoch > 1:
            training.network.head.weight.data.neg_()

    found, history = segment(4, callbacks=[Keep(), AfterStep(spoil)])
    best = int(history["validation_dice"].idxmax())
    assert best < 2
    assert same(weights(found), kept[best])
    assert not same(weights(found), kept[3])
    # Read once more, after everything was trained.
    again, history_again = segment(4, initial=99)
    assert same(weights(again), kept[best])
    pd.testing.assert_frame_equal(history_again, history, check_exact=True)


def test_what_comes_out_is_what_was_validated(segment):
    data = AfterStep(lambda trainer, _: trainer.datamodule)
    found, history = segment(2, average=0.97, callbacks=[data])
    again, logged = module(found.result).eval(), {}
    again.log = lambda name, value, **_: logged.update({name: float(value)})
    with torch.no_grad():
        for batch in data.seen[0].val_dataloader():
            again.validation_step(batch, 0)
        again.on_validation_epoch_end()
    assert logged["validation_dice"] == pytest.approx(history["validation_dice"].max(), abs=1e-6)


@pytest.mark.parametrize("kill", [None, 1])
def test_it_stops_where_validation_gets_no_better_and_then_for_good(segment, killed, caplog, kill):
    # Steps so short that nothing but the statistics of the crops changes.
    options = {"epochs": 9, "rate": 1e-12, "schedule": "constant", "average": 0.0, "patience": 2}
    steps = AfterStep(lambda trainer, _: trainer.current_epoch)
    if kill is not None:
        with killed(kill):
            segment(**options)
    with caplog.at_level(logging.INFO, fit_module.__name__):
        found, history = segment(**options)
    assert history["epoch"].tolist() == list(range(len(history)))
    assert len(history) < 9
    assert int(history["validation_dice"].idxmax()) == len(history) - 3
    assert "stopped early: validation_dice has not become better for 2 epochs" in caplog.text
    again, history_again = segment(**options, initial=99, callbacks=[steps])
    assert steps.seen == []
    assert same(weights(again), weights(found))
    pd.testing.assert_frame_equal(history_again, history, check_exact=True)


def parameters(network):
    return [parameter.detach().clone() for parameter in network.parameters()]


def test_the_average_is_that_of_the_weights_after_each_step(segment):
    live = AfterStep(lambda _, training: parameters(training.network))
    begin = {}

    class Begin(Callback):
        def on_train_start(self, trainer, pl_module):
            begin.update(enumerate(parameters(pl_module.network)))

    found, _ = segment(1, steps=30, size=16, average=0.7, callbacks=[live, Begin()])
    expected = list(begin.values())
    for number, after in enumerate(live.seen, start=1):
        # Faster at first: what the training begins with is soon forgotten.
        decay = min(0.7, number / (number + 10))
        expected = [decay * before + (1 - decay) * now for before, now in zip(expected, after, strict=True)]
    for mean, right, last in zip(parameters(found.result), expected, live.seen[-1], strict=True):
        torch.testing.assert_close(mean, right, rtol=1e-4, atol=1e-5)
        assert not torch.equal(mean, last)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_normalisations_have_the_statistics_of_the_crops_as_they_are(segment, average):
    crops = []

    class Note(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            crops.append(batch[0] / 255)

    found, _ = segment(1, average=average, callbacks=[Note()], augmentation=Augmentation(brightness=1))
    first, normalisation = found.result.down[0][:2]
    with torch.no_grad():
        seen = torch.stack([first((images - 0.5) / 0.25).transpose(0, 1).flatten(1) for images in crops])
    torch.testing.assert_close(normalisation.running_mean, seen.mean(2).mean(0), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(normalisation.running_var, seen.var(2).mean(0), rtol=1e-3, atol=1e-4)
    assert normalisation.momentum == 0.1


def test_without_an_average_the_network_itself_comes_out(segment):
    found, _ = segment(1, average=0.0)
    assert found.result is found.network
    assert len(weights(found)) == len(weights(found.network))


def test_a_compiled_network_learns_the_same(segment, tmp_path):
    expected, _ = segment(1, checkpoints=tmp_path / "other")
    found, _ = segment(1, prepare=lambda network: network.compile(backend="eager"))
    assert same(weights(found), weights(expected))


def test_a_loss_that_is_no_number_ends_the_training_and_leaves_no_trace_of_it(segment, plan, tmp_path):
    with pytest.raises(DivergedError, match=r"_loss is nan in epoch 1; lower the learning rate$"):
        segment(3, rate=1e30, schedule="constant", checkpoints=tmp_path / "other")
    halved = plan.model_copy(update={"precision": "bf16-mixed"})

    def poison(trainer, training):
        if trainer.current_epoch == 1:
            for parameter in training.parameters():
                parameter.data.fill_(math.nan)

    expected = r"train_loss is nan in epoch 2; .* the precision 32-true instead of bf16-mixed"
    with pytest.raises(DivergedError, match=expected):
        segment(3, plan=halved, callbacks=[AfterStep(poison)])
    (kept,) = (tmp_path / "checkpoints").rglob("*.ckpt")
    state = torch.load(kept, weights_only=True)["state_dict"]
    assert all(tensor.isfinite().all() for tensor in state.values())


def test_validation_that_is_no_number_ends_the_training(segment):
    def poison(trainer, training):
        if trainer.is_last_batch:
            for parameter in training.parameters():
                parameter.data.fill_(math.nan)

    with pytest.raises(DivergedError, match="validation_loss is nan in epoch 1; lower the learning rate"):
        segment(1, callbacks=[AfterStep(poison)])


@settings(max_examples=30)
@given(seed=st.integers(0, 999), batches=st.integers(1, 3), share=st.sampled_from([0.0, 0.2]))
def test_the_dice_of_the_validation_is_the_highest_of_all_thresholds(seed, batches, share):
    training, logged = module(nn.Identity()), {}
    training.log = lambda name, value, **_: logged.update({name: float(value)})
    noise = torch.Generator().manual_seed(seed)
    seen, true = [], []
    for _ in range(batches):
        images = torch.randint(0, 256, (2, 1, 5, 6), generator=noise, dtype=torch.uint8)
        masks = torch.multinomial(torch.tensor([0.8 - share, share, 0.2]), 60, True, generator=noise)
        training.validation_step((images, masks.view(2, 5, 6).to(torch.uint8)), 0)
        seen.append((images / 255).sigmoid().flatten())
        true.append(masks)
    training.on_validation_epoch_end()
    seen, true = torch.cat(seen).numpy(), torch.cat(true).numpy()
    seen, true = seen[true != IGNORED], true[true != IGNORED] == CRACK
    dice = [2 * ((seen >= k / 256) & true).sum() / max((seen >= k / 256).sum() + true.sum(), 1) for k in range(256)]
    assert logged["validation_dice"] == pytest.approx(max(dice), abs=1e-6)
    logged.clear()
    training.on_validation_epoch_end()
    assert logged == {}


@pytest.mark.parametrize("steps", [1, 2, 3, 9, 10, 11, 20, 500])
def test_the_rate_rises_to_its_height_and_falls_to_nothing(steps):
    training = module(steps=steps)
    configured = training.configure_optimizers()
    if steps < 3:
        assert configured.param_groups[0]["lr"] == 1e-2
        return
    rates = []
    for _ in range(steps):
        rates.append(configured["optimizer"].param_groups[0]["lr"])
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    height = int(np.argmax(rates))
    assert rates[height] == pytest.approx(1e-2)
    assert height == max(round(0.1 * steps), 2) - 1
    assert rates == sorted(rates[: height + 1]) + sorted(rates[height + 1 :], reverse=True)
    assert rates[-1] < 1e-2 / 1000


@pytest.mark.parametrize(("schedule", "different"), [("constant", 1), ("one_cycle", 8)])
def test_the_rate_changes_with_every_step_or_not_at_all(segment, schedule, different):
    rates = AfterStep(lambda trainer, _: trainer.optimizers[0].param_groups[0]["lr"])
    segment(2, schedule=schedule, callbacks=[rates])
    assert len(rates.seen) == 8
    assert len(set(rates.seen)) == different


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "nadam", "rmsprop", "sgd"])
def test_every_optimiser_learns_and_draws_only_kernels_to_zero(optimiser):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1))
    training = module(network, optimiser=optimiser, schedule="constant")
    made = training.configure_optimizers()
    decays = {parameter: group["weight_decay"] for group in made.param_groups for parameter in group["params"]}
    assert {name: decays[parameter] for name, parameter in network.named_parameters()} == {
        "0.weight": 0.1,
        "0.bias": 0,
        "1.weight": 0,
        "1.bias": 0,
        "2.weight": 0.1,
        "2.bias": 0,
    }
    before = weights(network)
    images = torch.rand(2, 3, 8, 8)
    losses = []
    for _ in range(10):
        value = network(images).square().mean()
        made.zero_grad()
        value.backward()
        made.step()
        losses.append(value.item())
    assert losses[-1] < losses[0]
    assert not torch.equal(before["1.bias"], network[1].bias)


def test_frozen_weights_and_the_average_are_left_to_themselves():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 1))
    network[0].requires_grad_(False)
    training = module(network, average=0.9)
    groups = training.configure_optimizers()["optimizer"].param_groups
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in network[1].parameters()}
    assert not any(p.requires_grad for p in training.result.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is found")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_trains_and_goes_on(segment, killed, caplog, workers):
    plan = resolve(Compute(accelerator="cuda", workers=workers, compile=False))
    with killed(2):
        segment(4, steps=12, batch_size=8, plan=plan)
    with caplog.at_level(logging.INFO, fit_module.__name__):
        found, history = segment(4, steps=12, batch_size=8, plan=plan, initial=99)
    assert "going on after epoch 2" in caplog.text
    assert history["validation_dice"].max() > 0.8
    assert all(tensor.isfinite().all() for tensor in weights(found).values())
