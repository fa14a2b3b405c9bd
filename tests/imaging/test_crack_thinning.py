import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import thin as thinned_whole

from crack_pipeline.imaging.crack_thinning import thin


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_the_line_is_that_of_going_through_the_whole_picture(seed):
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(60, 75)).astype(np.float32), (0, 0), float(rng.uniform(0.4, 5)))
    mask = np.pad(noise > np.quantile(noise, rng.uniform(0.1, 0.95)), 1)
    line = mask.astype(np.uint8)
    places = thin(line)
    assert ((line > 0) == thinned_whole(mask)).all()
    assert (places == np.flatnonzero(line)).all()


def test_nothing_and_one_pixel():
    picture = np.zeros((5, 5), np.uint8)
    assert thin(picture).tolist() == []
    picture[2, 2] = 1
    assert thin(picture).tolist() == [12]
