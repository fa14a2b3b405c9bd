import time

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import skeletonize

from crack_pipeline.imaging.crack_width import REACH, centreline, crack_widths


def a_line(width, degrees, size=200, shift=(0.13, -0.21)):
    """Draw a line of known width, at right angles to it, through the middle of a picture."""
    y, x = np.mgrid[:size, :size] - size / 2
    y, x = y + shift[0], x + shift[1]
    angle = np.deg2rad(degrees)
    return np.abs(x * np.sin(angle) - y * np.cos(angle)) < width / 2


def many_lines(size, seed, number=12, widest=12):
    rng = np.random.default_rng(seed)
    picture = np.zeros((size, size + 7), np.uint8)
    for start, end in rng.integers(0, size, (number, 2, 2)).tolist():
        cv2.line(picture, start, end, 1, int(rng.integers(1, widest)))
    return picture.astype(bool)


def largest_discs(crack):
    """Paint the disc of every crack pixel and of every point between pixels, the larger over the smaller."""
    twice = np.repeat(np.repeat(crack.astype(np.uint8), 2, axis=0), 2, axis=1)
    radius = cv2.distanceTransform(twice, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    y, x = np.indices(twice.shape)
    painted = np.zeros(twice.shape)
    for row, column in np.argwhere(twice):
        inside = (y - row) ** 2 + (x - column) ** 2 < radius[row, column] ** 2
        painted[inside] = np.maximum(painted[inside], radius[row, column])
    return painted.reshape(crack.shape[0], 2, crack.shape[1], 2).max(axis=(1, 3))[crack]


@pytest.mark.parametrize("width", range(1, 20))
def test_a_straight_line_has_exactly_its_width(width):
    picture = np.zeros((40, 60), bool)
    picture[10 : 10 + width] = True
    assert (crack_widths(picture) == width).all()
    assert (crack_widths(picture.T) == width).all()


@pytest.mark.parametrize("degrees", [0, 17, 30, 45, 63, 90, 135])
@pytest.mark.parametrize("width", [2, 3, 4, 5, 8, 9, 16, 21, 40])
def test_a_line_in_any_direction_has_about_its_width(width, degrees):
    line = a_line(width, degrees)
    inner = np.zeros(line.shape, bool)
    inner[60:-60, 60:-60] = True  # at the border the crack may go on in any way
    found = crack_widths(line)[inner[line]]
    assert np.abs(np.quantile(found, [0.02, 0.5, 0.98]) - width).max() <= 0.75
    assert np.median(found) == pytest.approx(width, abs=0.65)


def test_a_line_of_one_pixel_is_thin_in_any_direction():
    for end in ((5, 90), (40, 90), (90, 90), (90, 30), (90, 5)):
        picture = np.zeros((100, 100), np.uint8)
        cv2.line(picture, (5, 5), end, 1, 1)
        assert crack_widths(picture.astype(bool)).max() == 1


@pytest.mark.parametrize("seed", range(3))
def test_close_to_the_largest_disc_that_covers_the_pixel(seed):
    crack = many_lines(40, seed, number=4)
    found, exact = crack_widths(crack), largest_discs(crack)
    assert np.abs(found - exact).mean() < 0.2 and (found - exact).min() > -1.5
    # what sticks out of an edge by a pixel may be given the disc beside it
    assert (np.abs(found - exact) <= 0.5).mean() > 0.85


def test_a_thin_crack_beside_a_wide_one_and_a_ragged_edge():
    picture = np.zeros((60, 120), bool)
    picture[10:30] = True
    picture[32] = True
    picture[30, ::3] = True
    widths = np.zeros(picture.shape, np.float32)
    widths[picture] = crack_widths(picture)
    assert (widths[32] == 1).all()
    assert (widths[10:30] >= 20).all()
    assert (widths[30, ::3] >= 20).all()


def test_the_order_is_that_of_the_crack_pixels():
    picture = np.zeros((30, 700), bool)
    picture[5:8, 10:650] = True
    picture[20:25, 300:650] = True
    widths = np.zeros(picture.shape, np.float32)
    widths[picture] = crack_widths(picture, tile=64)
    assert (widths[5:8, 20:640] == 3).all() and (widths[20:25, 310:640] == 5).all()


@settings(max_examples=15)
@given(st.integers(0, 1000), st.integers(20, 90))
def test_squares_leave_no_seam(seed, tile):
    crack = many_lines(150, seed)
    np.testing.assert_allclose(crack_widths(crack, tile=tile), crack_widths(crack), atol=1e-5)
    assert (centreline(crack, tile=tile) == centreline(crack)).all()


def test_squares_limit_only_what_is_very_wide():
    crack = np.ones((450, 500), bool)
    found = crack_widths(crack, tile=50)
    assert found.min() >= REACH
    assert (crack_widths(crack) == 500).all()


def test_borders_and_tiny_pictures():
    edge = np.zeros((20, 30), bool)
    edge[:4] = True
    assert crack_widths(edge).max() <= 8  # beyond the border the crack may go on
    assert (crack_widths(np.ones((1, 1), bool)) == 1).all()
    one_wide = np.zeros((50, 1), bool)
    one_wide[10:20] = True
    assert crack_widths(one_wide).shape == (10,) and (crack_widths(one_wide) >= 1).all()
    for empty in (np.zeros((5, 6), bool), np.zeros((0, 6), bool)):
        assert crack_widths(empty).shape == (0,) and crack_widths(empty).dtype == np.float32
        assert not centreline(empty).any() and centreline(empty).shape == empty.shape


@settings(max_examples=15)
@given(st.integers(0, 1000))
def test_the_centreline_is_thin_and_inside(seed):
    crack = many_lines(80, seed)
    line = centreline(crack)
    assert (line == skeletonize(crack)).all()
    assert line.any() and not (line & ~crack).any()
    # no 2 x 2 block is filled but at crossings
    blocks = line[1:, 1:] & line[:-1, 1:] & line[1:, :-1] & line[:-1, :-1]
    assert blocks.sum() <= 0.02 * line.sum()


def test_an_integer_mask_is_refused():
    with pytest.raises(ValueError, match=r"bool array \(H, W\), got uint8 of shape \(4, 5\)"):
        crack_widths(np.zeros((4, 5), np.uint8))
    with pytest.raises(ValueError, match=r"got bool of shape \(4, 5, 1\)"):
        centreline(np.zeros((4, 5, 1), bool))


def test_a_photograph_takes_a_few_hundredths_of_a_second():
    crack = np.zeros((384, 544), bool)
    crack[:, :391] = many_lines(384, 0, number=4, widest=8)
    crack_widths(crack)
    times = []
    for _ in range(7):
        started = time.process_time()
        crack_widths(crack)
        times.append(time.process_time() - started)
    # 15 ms on an idle core
    assert min(times) < 0.1
