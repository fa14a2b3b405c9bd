import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crack_pipeline.imaging.inpainting import METHODS, Inpainting, inpaint


def wall(seed, shape=(80, 110), colours=3):
    """A surface that becomes lighter from side to side, with some grain."""
    slope = np.linspace(90, 190, shape[1])[None, :, None]
    grain = np.random.default_rng(seed).normal(0, 3, (*shape, colours))
    return np.clip(slope + grain, 0, 255).astype(np.uint8).squeeze()


def line(shape=(80, 110), width=5):
    mask = np.zeros(shape, np.uint8)
    cv2.line(mask, (10, 8), (100, 70), 1, width)
    return mask.astype(bool)


def median_of_sound(picture, unknown, y, x, window):
    reach = window // 2
    box = slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1)
    return np.sort(picture[box][~unknown[box]], axis=0)


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_a_crack_disappears_and_all_else_stays(method, colours):
    sound, crack = wall(0, colours=colours), line()
    cracked = sound.copy()
    cracked[crack] = 20
    filled = inpaint(cracked, crack, Inpainting(method=method, margin=1))
    assert (filled.dtype, filled.shape) == (np.uint8, sound.shape)
    near = cv2.dilate(crack.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    assert (filled[~near] == sound[~near]).all()
    assert np.abs(filled[crack].astype(float) - sound[crack]).mean() < 8


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("width", [1, 9, 41])
def test_an_even_surface_is_as_it_was(method, width):
    crack = line(width=width)
    flat = np.full(crack.shape, 140, np.uint8)
    filled = inpaint(np.where(crack, 10, flat).astype(np.uint8), crack, Inpainting(method=method, margin=0))
    # OpenCV's Telea is lighter by a few levels, even where there is but one.
    assert np.abs(filled.astype(int) - 140).max() <= (6 if method == "telea" else 1)


@pytest.mark.parametrize("method", METHODS)
def test_without_a_crack_nothing_changes(method):
    picture = wall(1)
    assert (inpaint(picture, np.zeros(picture.shape[:2], bool), Inpainting(method=method)) == picture).all()


@given(
    crack=arrays(np.bool_, (24, 30), elements=st.booleans()),
    window=st.sampled_from([5, 9, 15]),
    seed=st.integers(0, 100),
)
def test_the_median_is_that_of_the_sound_pixels_around(crack, window, seed):
    crack[0, 0] = False
    picture = np.random.default_rng(seed).integers(0, 256, (24, 30)).astype(np.uint8)
    filled = inpaint(picture, crack, Inpainting(window=window, margin=0))
    assert (filled[~crack] == picture[~crack]).all()
    for y, x in np.argwhere(crack):
        around = median_of_sound(picture, crack, y, x, window)
        if len(around) >= window:  # others are filled in a later round, with what is filled around them
            rank = 0.05 * len(around) + 1
            low, high = (round((len(around) - 1) / 2 + side * rank) for side in (-1, 1))
            assert around[max(0, low)] <= filled[y, x] <= around[min(len(around) - 1, high)]


def test_what_hides_in_a_crack_does_not_matter():
    picture, crack = wall(2), line(width=21)
    one, other = picture.copy(), picture.copy()
    one[crack], other[crack] = 0, 255
    how = Inpainting(window=15, margin=0)
    assert (inpaint(one, crack, how) == inpaint(other, crack, how)).all()


def test_a_single_sound_pixel_fills_the_picture():
    crack = np.ones((40, 50), bool)
    crack[7, 9] = False
    picture = np.where(crack, 3, 200).astype(np.uint8)
    assert (inpaint(picture, crack, Inpainting(window=9, margin=0)) == 200).all()


def test_tiles_leave_no_seam(monkeypatch):
    picture, crack = wall(3, shape=(150, 170)), line((150, 170), width=7)
    whole = inpaint(picture, crack, Inpainting())
    monkeypatch.setattr("crack_pipeline.imaging.inpainting._WIDTHS", (40,))
    difference = inpaint(picture, crack, Inpainting()).astype(int) - whole
    assert np.abs(difference).max() <= 3


def test_nothing_sound_is_a_clear_message():
    with pytest.raises(ValueError, match=r"nothing of the photograph is sound, 2 px around"):
        inpaint(wall(0), np.ones((80, 110), bool), Inpainting())
    with pytest.raises(ValueError, match=r"got uint8 \(80, 110, 3\) and bool \(5, 5\)"):
        inpaint(wall(0), np.ones((5, 5), bool), Inpainting())
    with pytest.raises(ValueError, match="window is 8, and must be odd"):
        Inpainting(window=8)


@pytest.mark.parametrize("method", METHODS)
def test_a_large_photograph_is_filled_as_a_part_of_it_alone(method):
    """Nothing far off is looked at, so that memory and time depend on the cracks, not on the photograph."""
    picture, crack = wall(4, shape=(700, 900), colours=1), np.zeros((700, 900), bool)
    cv2.line(crack.view(np.uint8), (420, 380), (640, 560), 1, 7)
    part = slice(256, 640), slice(256, 768)
    how = Inpainting(method=method, grain=0, window=15)
    difference = inpaint(picture, crack, how)[part].astype(int) - inpaint(picture[part], crack[part], how)
    assert np.abs(difference).max() <= 2


def test_a_deep_hole_takes_seconds_with_every_method():
    wall = np.random.default_rng(0).normal(150, 8, (220, 300)).clip(0, 255).astype(np.uint8)
    hole = np.zeros(wall.shape, bool)
    hole[40:180, 40:260] = True
    for method in METHODS:
        filled = inpaint(np.where(hole, 0, wall).astype(np.uint8), hole, Inpainting(method=method))
        assert filled[hole].mean() == pytest.approx(150, abs=25)
