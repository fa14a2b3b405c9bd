import numpy as np
import pytest

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.training.random_features import random_features
from crack_pipeline.training.telling_apart import tell_apart


@pytest.fixture(scope="module")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", workers=0))


def pictures(seed, number=48, grain=10.0, channels=3):
    shape = (number, 32, 32, 3) if channels == 3 else (number, 32, 32)
    return np.random.default_rng(seed).normal(128, grain, shape).clip(0, 255).astype(np.uint8)


def right(real, generated, plan, steps=120):
    groups = np.concatenate([np.arange(len(real)) // 4, 100 + np.arange(len(generated))])
    judged = tell_apart(real, generated, groups, plan, folds=3, steps=steps, seed=0)
    assert judged.shape == (len(real) + len(generated),)
    return ((judged > 0.5) == np.repeat([False, True], [len(real), len(generated)])).mean()


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_with_another_grain_are_told_apart(plan, channels):
    assert right(pictures(0, channels=channels), pictures(1, grain=25.0, channels=channels), plan) > 0.9


def test_pictures_of_the_same_kind_are_not(plan):
    assert right(pictures(0), pictures(1), plan, steps=60) < 0.75


def test_pictures_of_one_group_are_never_on_both_sides(plan):
    # Each group is a tone of its own: who has seen the group knows it, who has not can only guess.
    tones = np.repeat(np.arange(8) * 20 + 40, 6).astype(np.uint8)
    real = np.broadcast_to(tones[:, None, None], (48, 32, 32)).copy()
    generated = real[np.random.default_rng(0).permutation(48)] + np.uint8(10)
    groups = np.concatenate([np.arange(48) // 6, 8 + np.arange(48)])
    judged = tell_apart(real, generated, groups, plan, folds=4, steps=60, seed=0)
    assert ((judged > 0.5) == np.repeat([False, True], 48)).mean() < 0.9


@pytest.mark.parametrize("alike", [slice(0, 48), slice(48, 96)])
def test_one_group_is_not_enough(plan, alike):
    groups = np.arange(96)
    groups[alike] = 100
    with pytest.raises(ValueError, match="two groups"):
        tell_apart(pictures(0), pictures(1), groups, plan, folds=3, steps=2, seed=0)


def test_features_are_the_same_every_time_and_differ_with_the_grain(plan):
    one, again, other = (random_features(batch, plan) for batch in (pictures(0), pictures(0), pictures(0, grain=25.0)))
    assert one.shape == (48, 960)
    assert (one == again).all()
    assert np.abs(one - other).mean() > 10 * np.abs(one - random_features(pictures(1), plan)).mean() / 10
