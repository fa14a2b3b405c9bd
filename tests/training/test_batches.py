import numpy as np
import pytest
import torch

from crack_pipeline.training.batches import as_tensor, loader, normalise


class Numbers:
    """Image number i is i everywhere."""

    def take(self, rows):
        return np.broadcast_to(rows.astype(np.uint8)[:, None, None], (len(rows), 2, 3)).copy()


def read(**options):
    rows = np.array([9, 4, 7, 1, 30, 12, 5])
    return [batch[:, 0, 0, 0].tolist() for batch in loader(Numbers(), rows, 3, **options)]


def test_rows_come_in_their_order():
    assert read() == [[9, 4, 7], [1, 30, 12], [5]]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_seed_shuffles_always_the_same_way(workers):
    shuffled = read(seed=3, workers=workers)
    assert shuffled == read(seed=3)
    assert shuffled != read(seed=4)
    assert [len(batch) for batch in shuffled] == [3, 3, 1]
    assert sorted(number for batch in shuffled for number in batch) == [1, 4, 5, 7, 9, 12, 30]


@pytest.mark.parametrize(("shape", "expected"), [((2, 4, 5), (2, 1, 4, 5)), ((2, 4, 5, 3), (2, 3, 4, 5))])
def test_channels_come_first(shape, expected):
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    tensor = as_tensor(pixels)
    assert tensor.shape == expected
    assert tensor.dtype == torch.uint8
    np.testing.assert_array_equal(tensor[:, 0].numpy(), pixels.reshape(*shape[:3], -1)[..., 0])


def test_the_range_becomes_0_to_1():
    images = normalise(torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8), torch.device("cpu"))
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.flatten(), torch.tensor([0, 0.2, 1]))


def test_reading_leaves_the_noise_of_the_training_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    read(seed=3)
    read()
    torch.testing.assert_close(torch.rand(3), expected)
