"""What a training on a cluster does when workers are lost; the cluster itself is pretended."""

from importlib.util import find_spec

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.training.fit import DivergedError, Training

if find_spec("ray") is None:
    pytest.skip("Ray is not installed", allow_module_level=True)

from ray.exceptions import RayActorError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError

from crack_pipeline.engines import cluster
from crack_pipeline.training import on_ray

PLAN = resolve(Compute(accelerator="cpu", precision="32-true", batch_size=4)).model_copy(update={"engine": "ray"})
LOST = on_ray._LostError("a worker died")
BUSY = on_ray.NoRoomError("no room")


@pytest.fixture
def attempts(monkeypatch, tmp_path):
    """Train with attempts that end as told: ``attempts(*ends)``: errors, numbers of finished epochs, and None."""
    monkeypatch.setattr(cluster, "join", lambda plan: None)
    monkeypatch.setattr(cluster, "on_every_node", lambda work, patience: {})
    begun_at = []

    def attempts(*ends):
        left = iter(ends)

        def attempt(training, newest):
            begun_at.append(None if newest is None else newest.name)
            for end in left:
                if isinstance(end, int):
                    torch.save({"epoch": end}, tmp_path / f"epoch-epoch={end:05d}.ckpt")
                elif end is None:
                    return
                else:
                    raise end

        monkeypatch.setattr(on_ray, "_attempt", attempt)
        on_ray.train_on_ray(Training(None, None, PLAN, 9, tmp_path, None, ()))
        return begun_at

    return attempts


def test_what_is_lost_again_and_again_goes_on_as_long_as_epochs_are_finished(attempts):
    begun = attempts(LOST, LOST, 0, LOST, LOST, 1, 2, LOST, LOST, BUSY, None)
    first, third = "epoch-epoch=00000.ckpt", "epoch-epoch=00002.ckpt"
    assert begun == [None, None, None, first, first, third, third, third]


def test_it_gives_up_when_nothing_comes_of_it(attempts):
    with pytest.raises(RuntimeError, match=r"lost 3 times .* at last: a worker died; the 2 epochs that were done"):
        attempts(0, LOST, 1, LOST, LOST, LOST, LOST, None)


def test_a_cluster_that_is_busy_from_the_start_is_said_to_be(attempts):
    with pytest.raises(on_ray.NoRoomError):
        attempts(BUSY, None)


def test_what_goes_wrong_with_the_training_is_not_tried_again(attempts):
    with pytest.raises(DivergedError):
        attempts(DivergedError("train_loss is nan"), None)


@pytest.mark.parametrize(
    "collateral", [RuntimeError("Connection closed by peer"), torch.distributed.DistNetworkError("timed out")]
)
def test_the_cause_is_told_from_what_it_does_to_others(collateral):
    wrong = DivergedError("train_loss is nan")
    assert on_ray._cause([collateral, wrong]) is wrong
    assert isinstance(on_ray._cause([FileNotFoundError("images-00000.npy"), collateral]), FileNotFoundError)
    for lost in (RayActorError(), WorkerHealthCheckFailedError("dead", RayActorError())):
        found = on_ray._cause([collateral, lost])
        assert isinstance(found, on_ray._LostError)
        assert type(lost).__name__ in str(found)
    assert str(collateral) in str(on_ray._cause([collateral]))


def test_an_error_of_torch_is_none_of_the_cluster():
    wrong = RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")
    assert on_ray._cause([wrong, RuntimeError("gloo/transport/tcp/pair.cc: Connection closed by peer")]) is wrong


@given(most=st.integers(1, 70), batch=st.integers(1, 300))
def test_workers_are_as_few_as_make_a_step_as_short(most, batch):
    number = on_ray.number_of_workers(most, batch)
    assert 1 <= number <= min(most, batch)
    assert -(-batch // number) == -(-batch // min(most, batch))
    assert number == 1 or -(-batch // (number - 1)) > -(-batch // number)
