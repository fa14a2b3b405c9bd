import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crack_pipeline.imaging.tiling import count, cut, grid

SIDES = st.integers(1, 40)


@given(SIDES, SIDES, st.integers(1, 12), st.integers(1, 12))
def test_tiles_lie_inside_and_covering_ones_leave_nothing_out(height, width, size, stride):
    for cover in (False, True):
        corners = grid(height, width, size, stride, cover=cover)
        assert ((corners >= 0) & (corners + size <= (height, width))).all()
        assert len(np.unique(corners, axis=0)) == len(corners)
    if min(height, width) < size:
        assert len(corners) == 0
    elif stride <= size:
        seen = np.zeros((height, width), bool)
        for y, x in corners:
            seen[y : y + size, x : x + size] = True
        assert seen.all()


def test_tiles_touch_by_default():
    assert grid(384, 544, 128).tolist() == [[y, x] for y in (0, 128, 256) for x in (0, 128, 256, 384)]


@given(arrays(np.bool_, st.tuples(st.integers(4, 12), st.integers(4, 12))), st.integers(1, 4), st.integers(0, 3))
def test_counts_are_those_of_the_cut_squares(marked, size, margin):
    corners = grid(*marked.shape, size, 1)
    expected = [
        marked[max(y - margin, 0) : y + size + margin, max(x - margin, 0) : x + size + margin].sum() for y, x in corners
    ]
    assert count(marked, corners, size, margin).tolist() == expected
    inside = cut(marked.astype(np.uint8), corners, size)
    assert count(marked, corners, size).tolist() == inside.sum(axis=(1, 2)).tolist()


def test_cut_keeps_channels_and_refuses_what_lies_outside():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    tiles = cut(image, grid(4, 6, 2), 2)
    assert tiles.shape == (6, 2, 2, 3)
    assert np.array_equal(tiles[4], image[2:4, 2:4])
    with pytest.raises(ValueError, match="4 × 6 px"):
        cut(image, np.array([[3, 0]]), 2)
    with pytest.raises(ValueError, match="stride must be at least 1 px, not 0"):
        grid(4, 4, 2, 0)
