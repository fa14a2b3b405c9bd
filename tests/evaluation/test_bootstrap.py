import numpy as np
import pytest

from crack_pipeline.evaluation import bootstrap
from crack_pipeline.evaluation.bootstrap import percentile_interval, resampled_weights


def test_images_of_a_group_are_drawn_together():
    groups = np.array([7, 3, 7, 9, 3, 3])
    weights = np.concatenate(list(resampled_weights(groups, resamples=500, seed=1)))
    assert weights.shape == (500, 6)
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, [1, 4]] == weights[:, [5]]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert abs(weights.mean() - 1) < 0.05


def test_the_chunks_do_not_hold_more_than_they_may(monkeypatch):
    monkeypatch.setattr(bootstrap, "CELLS", 100)
    chunks = list(resampled_weights(np.arange(40), resamples=7, seed=0))
    assert [len(chunk) for chunk in chunks] == [2, 2, 2, 1]


def test_the_seed_decides_and_the_numbers_of_the_groups_do_not():
    one, same, other = (
        np.concatenate(list(resampled_weights(groups, resamples=20, seed=seed)))
        for groups, seed in (([1, 2, 2, 5], 0), ([3, 40, 40, 77], 0), ([1, 2, 2, 5], 1))
    )
    assert (one == same).all() and (one != other).any()


def test_interval_leaves_undefined_values_aside():
    assert percentile_interval([*np.linspace(0, 1, 101), np.nan], 0.9) == pytest.approx([0.05, 0.95])
    assert percentile_interval([np.nan]) is None
    with pytest.raises(ValueError, match="got 95"):
        percentile_interval([1.0], 95)


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(60), 4)
    covered = []
    for trial in range(150):
        values = np.repeat(rng.normal(size=60), 4)  # four copies of each place
        means = [w @ values / w.sum(axis=1) for w in resampled_weights(groups, resamples=300, seed=trial)]
        low, high = percentile_interval(np.concatenate(means), 0.9)
        covered.append(low <= 0 <= high)
    assert 0.82 <= np.mean(covered) <= 0.97


def test_nothing_to_draw_from():
    with pytest.raises(ValueError, match="got 0 and 10"):
        list(resampled_weights([], resamples=10, seed=0))
