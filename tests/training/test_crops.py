import time
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from crack_pipeline.imaging.photograph_stack import CRACK, IGNORED
from crack_pipeline.training.crops import Crops, GridCrops, RandomCrops


class Masks:
    """Photographs that are their own masks, and cracks at some pixels of them."""

    def __init__(self, sizes, cracks):
        self.sizes = np.array(sizes, np.int64)
        self._masks = [np.zeros(size, np.uint8) for size in sizes]
        for mask, pixels in zip(self._masks, cracks, strict=True):
            for y, x in pixels:
                mask[y % mask.shape[0], x % mask.shape[1]] = CRACK

    def mask(self, row):
        return self._masks[row]

    def crops(self, rows, corners, size):
        cut = np.full((len(rows), size, size), IGNORED, np.uint8)
        for crop, row, (y, x) in zip(cut, rows, corners, strict=True):
            inside = self._masks[row][y : y + size, x : x + size]
            crop[: inside.shape[0], : inside.shape[1]] = inside
        return cut, cut.copy()


class Noted(Masks):
    """Notes where it is cut."""

    def __init__(self, sizes, cracks=None):
        super().__init__(sizes, cracks or [()] * len(sizes))
        self.places = []

    def crops(self, rows, corners, size):
        self.places += [(int(row), int(y), int(x)) for row, (y, x) in zip(rows, corners, strict=True)]
        return super().crops(rows, corners, size)


def crops(photographs, train=None, validation=(0,), **options):
    options = {"size": 16, "batch_size": 5, "steps": 4, "centred": 0.5, "validation_crops": 99, "seed": 0} | options
    train = np.arange(len(photographs.sizes)) if train is None else np.array(train)
    size, batch_size, steps = options["size"], options["batch_size"], options["steps"]
    return Crops(
        RandomCrops(photographs, train, size=size, batch_size=batch_size, steps=steps, centred=options["centred"]),
        GridCrops(
            photographs, np.array(validation), size=size, batch_size=batch_size, most=options["validation_crops"]
        ),
        batch_size=batch_size,
        steps=steps,
        seed=options["seed"],
        workers=options.get("workers", 0),
    )


def epoch(data, number):
    data.trainer = SimpleNamespace(current_epoch=number, global_rank=0, world_size=1)
    return list(data.train_dataloader())


sizes = st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), min_size=1, max_size=5)
pixels = st.lists(st.tuples(st.integers(0, 89), st.integers(0, 89)), max_size=3)


@settings(max_examples=60)
@given(data=st.data(), sizes=sizes, size=st.integers(1, 40), centred=st.floats(0, 1), seed=st.integers(0, 99))
def test_crops_lie_inside_and_come_again_with_their_seed(data, sizes, size, centred, seed):
    cracks = [data.draw(pixels) for _ in sizes]
    drawn = []
    for _ in range(2):
        photographs = Noted(sizes, cracks)
        for images, masks in epoch(crops(photographs, size=size, centred=centred, seed=seed), 3):
            assert images.shape == (5, 1, size, size)
            assert masks.shape == (5, size, size)
            assert images.dtype == masks.dtype == torch.uint8
        drawn.append(photographs.places)
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 20
    for row, y, x in drawn[0]:
        for corner, length in ((y, sizes[row][0]), (x, sizes[row][1])):
            assert 0 <= corner <= max(length - size, 0)


def test_validation_finds_the_few_crops_with_a_crack():
    places = [(40, 16 * at + 3) for at in range(0, 60, 20)]
    masks = Masks([(160, 960)] * 4, [places, (), (), ()])
    grid = GridCrops(masks, np.arange(4), size=16, batch_size=8, most=64)
    shown = [crop for batch in grid.draw(0) for crop in grid.make(batch)[1]]
    assert len(shown) == 64
    assert sum((crop == CRACK).any() for crop in shown) == len(places)
    many = Masks([(160, 960)] * 4, [[(16 * y + 3, 16 * x + 3) for y in range(10) for x in range(2)], (), (), ()])
    grid = GridCrops(many, np.arange(4), size=16, batch_size=8, most=64)
    shown = [(grid.make(batch)[1] == CRACK).any(axis=(1, 2)) for batch in grid.draw(0)]
    assert np.concatenate(shown).sum() == 8


def test_every_epoch_and_every_seed_is_drawn_anew():
    drawn = set()
    for seed, number in ((0, 0), (0, 1), (1, 0)):
        photographs = Noted([(200, 200), (100, 300)])
        epoch(crops(photographs, seed=seed), number)
        drawn.add(tuple(photographs.places))
    assert len(drawn) == 3


def test_an_epoch_does_not_depend_on_those_before_it():
    photographs = Noted([(200, 200)])
    data = crops(photographs)
    for number in (0, 1, 2, 1):
        epoch(data, number)
    assert photographs.places[20:40] == photographs.places[60:]


@settings(max_examples=60)
@given(data=st.data(), sizes=sizes, size=st.integers(1, 40), seed=st.integers(0, 99))
def test_centred_crops_hold_a_crack(data, sizes, size, seed):
    cracks = [data.draw(pixels) for _ in sizes]
    if not any(cracks):
        cracks[-1] = [(5, 7)]
    for _, masks in epoch(crops(Masks(sizes, cracks), size=size, centred=1, seed=seed), 0):
        assert (masks == CRACK).flatten(1).any(1).all()


@pytest.mark.parametrize("centred", [0.0, 0.3, 1.0])
def test_the_share_of_centred_crops_is_as_asked_for(centred):
    photographs = Masks([(2000, 2000), (2000, 1000)], [[(700, 900)], []])
    masks = torch.cat([masks for _, masks in epoch(crops(photographs, centred=centred, steps=200), 0)])
    assert (masks == CRACK).flatten(1).any(1).float().mean().item() == pytest.approx(centred, abs=0.05)


def test_a_share_of_the_crops_holds_what_another_mask_marks():
    photographs = Masks([(2000, 2000), (2000, 1000)], [[(300, 400)], []])
    other = Masks([(2000, 2000), (2000, 1000)], [[], [(1500, 700)]])
    source = RandomCrops(
        photographs, np.arange(2), size=16, batch_size=5, steps=400, centred=0.5, others=(other.mask, 0.25)
    )
    drawn = source.draw(0)
    for marked, share in ((photographs, 0.5), (other, 0.25)):
        held = np.concatenate([marked.crops(*batch, 16)[1].max(axis=(1, 2)) == CRACK for batch in drawn])
        assert held.mean() == pytest.approx(share, abs=0.04)
    plain = RandomCrops(photographs, np.arange(2), size=16, batch_size=5, steps=400, centred=0.5)
    nothing = RandomCrops(
        photographs,
        np.arange(2),
        size=16,
        batch_size=5,
        steps=400,
        centred=0.5,
        others=(Masks([(9, 9)] * 2, [[]] * 2).mask, 0.25),
    )
    for one, same in zip(plain.draw(3), nothing.draw(3), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    with pytest.raises(ValueError, match=r"0\.8 and 0\.25 are more than all"):
        RandomCrops(photographs, np.arange(2), size=16, batch_size=5, steps=4, centred=0.8, others=(other.mask, 0.25))


def test_a_crack_may_lie_anywhere_in_a_centred_crop():
    photographs = Masks([(500, 500)], [[(250, 250)]])
    masks = torch.cat([masks for _, masks in epoch(crops(photographs, size=64, centred=1, steps=400), 0)])
    y, x = torch.nonzero(masks == CRACK)[:, 1:].T
    for at in (y, x):
        assert at.min() < 14
        assert at.max() > 49
        assert at.float().mean().item() == pytest.approx(32, abs=4)


def test_cracked_photographs_and_all_of_their_cracks_are_drawn_equally():
    photographs = Noted([(100, 100)] * 3, [[(5, 5), (95, 95), (5, 95)], [(50, 50)], []])
    epoch(crops(photographs, centred=1, steps=200), 0)
    rows = np.bincount([row for row, _, _ in photographs.places], minlength=3) / 1000
    np.testing.assert_allclose(rows, [0.5, 0.5, 0], atol=0.05)
    of_first = [(y > 50, x > 50) for row, y, x in photographs.places if row == 0]
    for corner in ((False, False), (True, True), (False, True)):
        assert of_first.count(corner) / len(of_first) == pytest.approx(1 / 3, abs=0.06)


def test_only_the_rows_of_the_training_are_drawn():
    photographs = Noted([(50, 50)] * 6, [[(9, 9)]] * 6)
    epoch(crops(photographs, train=[1, 4], validation=[0, 5]), 0)
    assert {row for row, _, _ in photographs.places} == {1, 4}


@settings(max_examples=60)
@given(sizes=sizes, size=st.integers(1, 40))
def test_validation_covers_every_pixel(sizes, size):
    photographs = Noted(sizes)
    number = sum(
        len(batch) for batch, _ in crops(photographs, validation=range(len(sizes)), size=size).val_dataloader()
    )
    covered = [np.zeros(size, bool) for size in sizes]
    for row, y, x in photographs.places:
        covered[row][y : y + size, x : x + size] = True
    if number < 99:
        assert all(one.all() for one in covered)
    assert number == len(set(photographs.places)) <= 99


@settings(max_examples=30)
@given(most=st.integers(1, 70))
@example(most=10)
def test_fewer_validation_crops_are_spread_over_all_photographs(most):
    photographs = Noted([(32, 48)] * 10)
    data = crops(photographs, validation=range(10), validation_crops=most)
    first = [batch for batch, _ in data.val_dataloader()]
    per_photograph = np.bincount([row for row, _, _ in photographs.places], minlength=10)
    assert per_photograph.sum() == min(most, 60)
    assert np.ptp(per_photograph) <= 2
    if most >= 10:  # not the same corner of each
        assert len({(y, x) for _, y, x in photographs.places}) > 2
    assert all(torch.equal(one, other) for one, (other, _) in zip(first, data.val_dataloader(), strict=True))


def test_what_lies_beyond_a_smaller_photograph_is_ignored(stack):
    photograph = np.random.default_rng(0).integers(0, 256, (10, 40, 3), np.uint8)
    photographs = stack([photograph], [np.zeros((10, 40), np.uint8)])
    data = crops(photographs, size=24)
    for images, masks in epoch(data, 0) + list(data.val_dataloader()):
        assert images.shape[1:] == (3, 24, 24)
        assert images.stride(1) == 1
        assert (masks[:, :10] == 0).all()
        assert (masks[:, 10:] == IGNORED).all()
        # Rows 0 to 9, then 8 down to 0.
        assert torch.equal(images[:, :, 10:19], images[:, :, :9].flip(2))


def workers_of(data, kind):
    return getattr(data, f"{kind}_dataloader")()._iterator._workers


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_give_the_same_and_stay_from_epoch_to_epoch(lines):
    alone, helped = (crops(lines, size=32, workers=workers) for workers in (0, 2))
    processes = []
    for number in (0, 1, 5):
        for one, other in zip(epoch(alone, number), epoch(helped, number), strict=True):
            assert torch.equal(one[0], other[0])
            assert torch.equal(one[1], other[1])
        processes.append([worker.pid for worker in workers_of(helped, "train")])
    assert processes == [processes[0]] * 3
    for one, other in zip(alone.val_dataloader(), helped.val_dataloader(), strict=True):
        assert torch.equal(one[0], other[0])
    workers = [worker for kind in ("train", "val") for worker in workers_of(helped, kind)]
    assert len(workers) == 4 and all(worker.is_alive() for worker in workers)
    began = time.monotonic()
    helped.release()
    assert time.monotonic() - began < 4  # torch gives one of them 5 s
    assert not any(worker.is_alive() for worker in workers)
    assert len(epoch(helped, 0)) == 4  # and there are new ones when they are needed again
    helped.release()


def test_reading_leaves_the_randomness_of_the_training_alone(lines):
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    expected = torch.rand(3), np.random.rand(3)  # noqa: NPY002
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    data = crops(lines)
    epoch(data, 0)
    list(data.val_dataloader())
    assert torch.equal(torch.rand(3), expected[0])
    assert np.array_equal(np.random.rand(3), expected[1])  # noqa: NPY002


def test_a_large_mask_is_never_in_memory_as_a_whole(tmp_path):
    side = 8000
    mask = np.lib.format.open_memmap(tmp_path / "mask.npy", "w+", np.uint8, (side, side))
    mask[7990, 3] = CRACK

    class Large:
        sizes = np.array([[side, side]])

        def mask(self, row):
            return mask

        def crops(self, rows, corners, size):
            cut = np.stack([mask[y : y + size, x : x + size] for y, x in corners])
            return cut, cut

    tracemalloc.start()
    data = crops(Large(), centred=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < side * side / 5
    assert all((masks == CRACK).flatten(1).any(1).all() for _, masks in epoch(data, 0))
