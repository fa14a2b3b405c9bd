import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.imaging.repaired import before_after


@settings(max_examples=50)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    side=st.integers(1, 60),
    at=st.tuples(*[st.floats(0, 0.999)] * 2),
)
def test_the_most_cracked_part_is_shown_in_full_size_where_the_whole_is_shrunk(height, width, side, at):
    crack = np.zeros((height, width), bool)
    y, x = int(at[0] * height), int(at[1] * width)
    crack[y, x] = True
    before, after = np.where(crack, 0, 255).astype(np.uint8), np.full((height, width), 255, np.uint8)
    picture = before_after(before, after, crack, side)
    assert picture.ndim == 3
    across = (picture.shape[1] - 8) // 2
    assert across <= side
    assert (picture[:, across + 8 :] == 255).all()
    # A pixel is seen in full only in full size.
    assert picture[:, :across].min() == 0


def test_colours_stay():
    red = np.zeros((20, 30, 3), np.uint8)
    red[..., 0] = 200
    assert (before_after(red, red, np.eye(20, 30, dtype=bool))[0, [0, -1]] == (200, 0, 0)).all()
