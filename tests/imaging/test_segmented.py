import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.imaging.segmented import COLOUR, draw_overlay, shrink_to


@settings(max_examples=50)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 400), st.sampled_from([None, 1, 3]))
def test_a_shrunken_picture_fits_and_keeps_its_mean(height, width, longest, channels):
    shape = (height, width) if channels is None else (height, width, channels)
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    small = shrink_to(picture, longest)
    assert small.ndim == (3 if channels == 3 else 2)
    assert max(small.shape[:2]) == min(longest, max(height, width))
    assert min(small.shape[:2]) >= 1
    assert abs(small.mean() - picture.mean()) < 1.5 or longest < max(height, width)
    assert small.min() >= picture.min()
    assert small.max() <= picture.max()


def test_areas_are_averaged():
    picture = np.zeros((40, 60), np.uint8)
    picture[::2] = 200
    assert np.unique(shrink_to(picture, 30)).tolist() == [100]
    with pytest.raises(ValueError, match="at least 1 px, not 0"):
        shrink_to(picture, 0)


@pytest.mark.parametrize("factor", [1, 3, 10])
def test_a_crack_of_one_pixel_is_drawn_in_full_colour_however_small_the_overlay(factor):
    photograph, mask = np.full((300, 300, 3), 128, np.uint8), np.zeros((300, 300), np.uint8)
    mask[:, 150] = 1
    overlay = draw_overlay(photograph, mask, longest=300 // factor)
    assert overlay.shape == (300 // factor, 300 // factor, 3)
    marked = overlay[:, 150 // factor]
    assert (np.abs(marked - (0.35 * 128 + 0.65 * np.array(COLOUR))) <= 3).all()
    sound = np.delete(overlay, 150 // factor, axis=1)
    assert (sound == 128).all()


def test_what_is_ignored_is_not_drawn_and_grey_becomes_rgb():
    photograph, mask = np.full((9, 1, 1), 77, np.uint8), np.full((9, 1), 2, np.uint8)
    overlay = draw_overlay(photograph, mask)
    assert overlay.shape == (9, 1, 3)
    assert (overlay == 77).all()
    with pytest.raises(ValueError, match=r"mask is \(9, 1\), the photograph \(9, 2\)"):
        draw_overlay(np.zeros((9, 2), np.uint8), mask)
