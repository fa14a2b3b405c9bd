"""Normalisation over the images of several processes, which are threads here."""

import copy
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed, nn

from crack_pipeline.training import normalising
from crack_pipeline.training.losses import CrossEntropy, Dice, loss
from crack_pipeline.training.settling import settle
from crack_pipeline.training.sharing import Place, as_of_all, whole


class Group:
    """Collectives between threads, each of which has a rank."""

    def __init__(self, of):
        self.of, self.barrier, self.mine = of, threading.Barrier(of, timeout=20), threading.local()
        self.given = [None] * of

    def exchange(self, tensor):
        self.given[self.mine.rank] = tensor.detach().clone()
        self.barrier.wait()
        found = list(self.given)
        self.barrier.wait()
        return found

    def all_reduce(self, tensor):
        tensor.copy_(torch.stack(self.exchange(tensor)).sum(0))

    def all_gather(self, parts, tensor):
        for part, found in zip(parts, self.exchange(tensor), strict=True):
            part.copy_(found)

    def run(self, work):
        def begin(rank):
            self.mine.rank = rank
            return work(rank)

        with ThreadPoolExecutor(self.of) as executor:
            return list(executor.map(begin, range(self.of)))


@pytest.fixture
def group(monkeypatch):
    def group(of):
        made = Group(of)
        monkeypatch.setattr(distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(distributed, "get_world_size", lambda: of)
        monkeypatch.setattr(distributed, "all_reduce", made.all_reduce)
        monkeypatch.setattr(distributed, "all_gather", made.all_gather)
        return made

    return group


class Part:
    """Stands for a module that is trained by several."""

    def __init__(self, rank, of):
        self._trainer = type("Trainer", (), {"global_rank": rank, "world_size": of})()


def network(seed, affine=True):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 5, 3, padding=1), nn.BatchNorm2d(5, affine=affine), nn.ReLU(), nn.Conv2d(5, 1, 1))


@pytest.mark.parametrize(("of", "affine"), [(2, True), (3, True), (2, False)])
def test_parts_learn_what_the_whole_batch_teaches(group, of, affine):
    """Gradients, statistics and losses are those of one process, with normalisation by batches and with Dice."""
    made, alone = group(of), network(0, affine)
    rng = np.random.default_rng(1)
    images = torch.from_numpy(3 + 2 * rng.normal(size=(6, 2, 8, 8)).astype(np.float32))
    masks = torch.from_numpy(rng.choice(3, (6, 8, 8), p=[0.7, 0.2, 0.1]).astype(np.uint8))
    copies = [copy.deepcopy(alone) for _ in range(of)]
    expected, _ = loss(alone(images), masks, [CrossEntropy(), Dice()])
    expected.backward()

    def learn(rank):
        part, module = Place(rank, of).part(np.arange(6)), Part(rank, of)
        normalising.share_normalisation(copies[rank], torch.device("cpu"))
        found = copies[rank](images[part].to(memory_format=torch.channels_last))
        value, _ = loss(whole(module, found), whole(module, masks[part]), [CrossEntropy(), Dice()])
        value = as_of_all(module, value)
        value.backward()
        return value.item()

    values = made.run(learn)
    assert values == pytest.approx([expected.item()] * of, rel=1e-5)
    for name, parameter in alone.named_parameters():
        found = torch.stack([dict(one.named_parameters())[name].grad for one in copies]).mean(0)
        torch.testing.assert_close(found, parameter.grad, rtol=1e-4, atol=1e-6, msg=name)
    for one in copies:
        assert one.state_dict().keys() == alone.state_dict().keys()
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(getattr(one[1], name), getattr(alone[1], name), rtol=1e-5, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(shift=st.floats(-1e3, 1e3), scale=st.floats(0.1, 10), number=st.integers(1, 4), seed=st.integers(0, 99))
def test_statistics_do_not_suffer_from_large_means(shift, scale, number, seed):
    rng = np.random.default_rng(seed)
    images = torch.from_numpy((shift + scale * rng.normal(size=(number, 3, 5, 4))).astype(np.float32))
    alone, shared = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
    normalising.share_normalisation(shared, torch.device("cpu"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "is_initialized", lambda: True)
        patch.setattr(distributed, "get_world_size", lambda: 1)
        patch.setattr(distributed, "all_reduce", lambda _: None)
        found = shared(images)
    torch.testing.assert_close(found, alone(images), rtol=1e-3, atol=2e-3)
    torch.testing.assert_close(shared.running_var, alone.running_var, rtol=1e-3, atol=1e-5)


def test_statistics_settle_to_those_of_all_images(group):
    made, alone = group(2), network(3)
    copies = [copy.deepcopy(alone) for _ in range(2)]
    batches = [torch.rand(4, 2, 8, 8) * (1 + at) for at in range(3)]
    settle(alone, (alone(batch) for batch in batches))

    def settle_part(rank):
        normalising.share_normalisation(copies[rank], torch.device("cpu"))
        settle(copies[rank], (copies[rank](batch[rank::2]) for batch in batches))

    with torch.no_grad():
        made.run(settle_part)
    for one in copies:
        assert not one[1].training
        torch.testing.assert_close(one[1].running_mean, alone[1].running_mean)
        torch.testing.assert_close(one[1].running_var, alone[1].running_var)
        torch.testing.assert_close(one(batches[0]), alone(batches[0]))


def test_outside_of_a_training_together_it_is_the_usual_layer():
    alone, shared = network(5), network(5)
    normalising.share_normalisation(shared, torch.device("cpu"))
    images = torch.rand(3, 2, 8, 8)
    assert torch.equal(shared(images), alone(images))
    assert torch.equal(shared.eval()(images), alone.eval()(images))


def test_on_gpus_it_is_the_layer_of_torch():
    shared = network(5)
    before = {name: value.clone() for name, value in shared.state_dict().items()}
    normalising.share_normalisation(shared, torch.device("cuda"))
    assert isinstance(shared[1], nn.SyncBatchNorm)
    assert all(torch.equal(value, before[name]) for name, value in shared.state_dict().items())
    images = torch.rand(3, 2, 8, 8)
    assert torch.equal(shared.eval()(images), network(5).eval()(images))
