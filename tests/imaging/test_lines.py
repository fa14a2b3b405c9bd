from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from crack_pipeline.imaging.lines import simplify

coordinates = st.tuples(st.integers(0, 60), st.integers(0, 60))


def dense(line):
    """Points all along a line."""
    steps = np.linspace(0, 1, 200)[:, None]
    return np.concatenate([one + steps * (other - one) for one, other in pairwise(line)])


@given(st.lists(coordinates, min_size=2, max_size=30), st.floats(0.1, 5))
def test_no_point_is_further_from_the_line_than_allowed_and_the_ends_stay(points, tolerance):
    line = np.array(points, np.float64)
    simple = simplify(line, tolerance)
    np.testing.assert_array_equal(simple[[0, -1]], line[[0, -1]])
    assert len(simple) <= len(line)
    assert cdist(line, dense(simple)).min(axis=1).max() <= tolerance + 0.5


@pytest.mark.parametrize("points", [4, 12, 300])
def test_a_ring_stays_closed_and_as_long(points):
    angles = np.linspace(0, 2 * np.pi, points + 1)
    ring = 40 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    ring[-1] = ring[0]
    simple = simplify(ring, 0.5)
    np.testing.assert_array_equal(simple[0], simple[-1])
    lengths = [np.hypot(*np.diff(line, axis=0).T).sum() for line in (simple, ring)]
    assert lengths[0] == pytest.approx(lengths[1], rel=0.02)
