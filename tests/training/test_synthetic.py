import numpy as np
import pytest

from crack_pipeline.training.crops import Crops
from crack_pipeline.training.synthetic import GeneratedSquares, Mixed


class Numbered:
    """Squares that show their seed."""

    def squares(self, seeds, size):
        images = np.zeros((len(seeds), size, size), np.uint8) + (1 + seeds % 200).astype(np.uint8)[:, None, None]
        return images, np.ones_like(images)


class Black:
    """A source of black squares."""

    def draw(self, seed):
        return [(np.zeros(50, np.int64), np.zeros((50, 2), np.int64))] * 4

    def make(self, batch):
        images = np.zeros((len(batch[0]), 8, 8), np.uint8)
        return images, np.zeros_like(images)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_so_many_squares_are_generated_as_asked_for_and_masks_go_with_them(share):
    source = Mixed(Black(), Numbered(), share=share, size=8)
    generated = []
    for batch in source.draw(5):
        images, masks = source.make(batch)
        assert ((images > 0) == (masks == 1)).all()
        generated += (images[:, 0, 0] > 0).tolist()
    assert np.mean(generated) == pytest.approx(share, abs=0.1)


def test_epochs_differ_and_come_again():
    source = GeneratedSquares(Numbered(), size=8, batch_size=3, steps=4)
    first, again, other = (np.stack(source.draw(seed)) for seed in (1, 1, 2))
    assert first.shape == (4, 3)
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_make_the_same_squares(workers):
    train = Mixed(Black(), Numbered(), share=0.5, size=8)
    validation = GeneratedSquares(Numbered(), size=8, batch_size=3, steps=2)
    data = Crops(train, validation, batch_size=50, steps=4, seed=3, workers=workers)
    expected = [train.make(batch)[0] for batch in train.draw(data.epoch_seed)]
    for (images, _), wanted in zip(data.train_dataloader(), expected, strict=True):
        assert (images[:, 0].numpy() == wanted).all()
    shown = [images[:, 0].numpy() for images, _ in data.val_dataloader()]
    again = [images[:, 0].numpy() for images, _ in data.val_dataloader()]
    assert len(shown) == 2
    assert all((a == b).all() for a, b in zip(shown, again, strict=True))
    data.release()
