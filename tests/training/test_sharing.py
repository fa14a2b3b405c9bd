from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from crack_pipeline.training.batches import loader
from crack_pipeline.training.fit import epoch_seed
from crack_pipeline.training.sharing import Place

numbers, processes = st.integers(1, 40), st.integers(1, 9)


@given(numbers, processes)
def test_parts_are_equally_long_and_together_the_batch(number, of):
    batch = np.arange(number)
    parts = [Place(rank, of).part(batch) for rank in range(of)]
    assert {len(part) for part in parts} == {-(-number // of)}
    images, times = np.unique(np.concatenate(parts), return_counts=True)
    assert images.tolist() == batch.tolist()
    if number % of == 0:
        assert times.max() == 1


@given(numbers, processes)
def test_a_part_has_its_share_of_both_halves(number, of):
    cracked = np.arange(2 * of * number) < of * number  # as batches of labels are made
    assert all(Place(rank, of).part(cracked).mean() == 0.5 for rank in range(of))


def test_all_that_belongs_to_an_image_goes_with_it():
    rows, corners = np.arange(5), np.arange(10).reshape(5, 2)
    (one, seeds), listed = Place(1, 2).part(((corners, rows), list(range(5))))
    assert one.tolist() == [[2, 3], [6, 7], [0, 1]]
    assert seeds.tolist() == listed == [1, 3, 0]


@given(st.lists(st.integers(), max_size=20), processes)
def test_every_batch_of_a_validation_is_dealt_once_unless_there_are_too_few(batches, of):
    dealt = [Place(rank, of).deal(batches) for rank in range(of)]
    if len(batches) >= of:
        assert sorted(chain(*dealt)) == sorted(batches)
        assert all(dealt)
    else:
        assert all(part == batches for part in dealt)


@pytest.mark.parametrize("of", [2, 3])
def test_processes_learn_from_the_batches_of_one(images, of):
    whole = list(loader(images, np.arange(40), 8, seed=3))
    shared = [list(loader(images, np.arange(40), 8, seed=3, place=Place(rank, of))) for rank in range(of)]
    assert {len(batches) for batches in shared} == {len(whole)}
    for at, batch in enumerate(whole):
        found = np.unique(np.concatenate([batches[at] for batches in shared]), axis=0)
        np.testing.assert_array_equal(found, np.unique(batch.numpy(), axis=0))
    dealt = [list(loader(images, np.arange(40), 8, place=Place(rank, of))) for rank in range(of)]
    assert sum(map(len, dealt)) == len(BatchSampler(range(40), 8, drop_last=False))


def test_processes_have_different_noise_and_the_first_that_of_one_alone():
    assert epoch_seed(7, 3, 0) == epoch_seed(7, 3)
    assert len({epoch_seed(seed, epoch, rank) for seed in range(3) for epoch in range(9) for rank in range(9)}) == 243
