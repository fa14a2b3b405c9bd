import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crack_pipeline.imaging.hole_windows import hole_windows


@given(
    hole=arrays(np.bool_, st.tuples(st.integers(1, 60), st.integers(1, 60)), elements=st.booleans()),
    size=st.integers(4, 40),
    least=st.integers(1, 20),
)
def test_every_hole_is_filled_once_and_can_be_seen_past(hole, size, least):
    times = np.zeros(hole.shape, int)
    for window in hole_windows(hole, size=size, least=least):
        times[window.core] += 1
        around = hole[window.around]
        assert around.shape == hole.shape or not around.all()
        assert (around[window.inner] == hole[window.core]).all()
        for core, seen, length in zip(window.core, window.around, hole.shape, strict=True):
            assert seen.start <= max(0, core.start - least)
            assert seen.stop >= min(length, core.stop + least)
    assert (times[hole] == 1).all()
    assert times.max() <= 1


def test_deep_holes_are_looked_at_from_further_away_and_squares_without_one_not_at_all():
    hole = np.zeros((400, 2000), bool)
    hole[198:202, 10:20] = True
    cv2.circle(hole.view(np.uint8), (1500, 200), 90, 1, -1)
    windows = list(hole_windows(hole, size=200, least=8))
    assert {window.core[1].start for window in windows} == {0, 1400}
    narrow, *_, deep = windows
    assert narrow.around[1].stop < 220
    assert deep.around[1].start <= 1400 - 8 - 2 * 80
