import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crack_pipeline.imaging.quality import brightness, sharpness


def noise(seed=0, shape=(40, 50)):
    return np.random.default_rng(seed).integers(40, 200, shape).astype(np.uint8)


@given(st.integers(0, 55))
def test_light_makes_brighter_and_not_sharper(light):
    image = noise()
    assert brightness(image + np.uint8(light)) - brightness(image) == light
    assert np.isclose(sharpness(image + np.uint8(light)), sharpness(image))


def test_blur_makes_less_sharp():
    image = noise()
    found = [sharpness(cv2.GaussianBlur(image, (0, 0), sigma)) for sigma in (0.5, 1, 2, 4)]
    assert sharpness(image) > found[0] > found[1] > found[2] > found[3] > 0


def test_colours_count_as_the_eye_sees_them():
    red, green = (np.zeros((4, 4, 3), np.uint8) for _ in range(2))
    red[..., 0] = green[..., 1] = 255
    assert round(brightness(red)) == 76 and round(brightness(green)) == 150
    grey = noise()
    assert np.isclose(brightness(np.dstack([grey] * 3)), brightness(grey), atol=0.5)
