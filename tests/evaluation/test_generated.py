import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crack_pipeline.evaluation.generated import density_and_coverage, wilson_interval


def points(seed, number=300, centre=0.0, spread=1.0):
    return np.random.default_rng(seed).normal(centre, spread, (number, 6)).astype(np.float32)


def test_the_same_distribution_is_dense_and_covers():
    density, coverage = density_and_coverage(points(0), points(1))
    assert density == pytest.approx(1, abs=0.15)
    assert coverage > 0.9


def test_strange_pictures_are_neither():
    assert density_and_coverage(points(0), points(1, centre=20.0)) == (0.0, 0.0)


def test_one_picture_over_and_over_is_dense_and_covers_little():
    density, coverage = density_and_coverage(points(0), np.zeros((300, 6), np.float32))
    assert density > 1
    assert coverage < 0.2


def test_more_variety_than_there_is_covers_and_is_thin():
    density, coverage = density_and_coverage(points(0), points(1, spread=3.0))
    assert density < 0.3
    assert coverage < 0.5


@pytest.mark.parametrize(("real", "generated"), [(5, 10), (10, 0)])
def test_too_few_pictures_are_refused(real, generated):
    with pytest.raises(ValueError, match=f"not {real} and {generated}"):
        density_and_coverage(points(0, real), points(1, generated))


@given(st.integers(1, 500), st.data())
def test_an_interval_holds_its_share_and_stays_a_share(number, data):
    hits = data.draw(st.integers(0, number))
    low, high = wilson_interval(hits, number)
    assert 0 <= low <= hits / number <= high <= 1
    wider = wilson_interval(2 * hits, 2 * number)
    assert wider[1] - wider[0] <= high - low


def test_an_interval_needs_something_to_count():
    with pytest.raises(ValueError, match="not 0 of 0"):
        wilson_interval(0, 0)
