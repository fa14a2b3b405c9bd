import numpy as np
import pytest
import torch

from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.training.fit import Batches, fit
from crack_pipeline.training.trials import EpochReport, ran_out_of_memory
from crack_pipeline.training.vae import VAETraining


class StopError(Exception):
    pass


@pytest.fixture
def train(images, plan, tmp_path):
    """Train a tiny network with a receiver of its validation losses; gives the history."""

    def train(receive, epochs=4):
        torch.manual_seed(0)
        module = VAETraining(ConvVAE(16, 1, (4, 8), latent=4), learning_rate=1e-2, kl_weight=0.01, seed=0)
        data = Batches(images, np.arange(40), np.arange(40, 48), batch_size=8, seed=0, workers=0)
        report = EpochReport("validation_loss", receive)
        return fit(module, data, plan, epochs=epochs, checkpoints=tmp_path, identity={}, callbacks=[report])

    return train


def test_every_epoch_is_handed_on_with_its_value(train):
    received = []
    history = train(lambda *report: received.append(report))
    assert received == list(zip(range(4), history["validation_loss"], [True, True, True, False], strict=True))


def test_an_error_of_the_receiver_ends_the_training_and_a_resumed_one_hands_on_what_was_before(train):
    expected, received = [], []

    def stop(epoch, value, more):
        expected.append((epoch, value, more))
        if epoch == 2:
            raise StopError

    with pytest.raises(StopError):
        train(stop)
    history = train(lambda *report: received.append(report))
    # The epoch that was rejected is not kept, and is trained again.
    assert received[:3] == expected
    assert [epoch for epoch, _, _ in received] == history["epoch"].tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("error", "exhausted"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_memory_that_does_not_suffice_is_told_from_other_errors(error, exhausted):
    assert ran_out_of_memory(error) is exhausted


def test_the_allocator_of_the_processor_is_recognised():
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert ran_out_of_memory(caught.value)
