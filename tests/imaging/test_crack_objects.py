import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.imaging.crack_objects import find_cracks

SIZE = 260


def straight(angle, width, length, centre=(130.0, 130.0)):
    """A band as a camera sees it: pixels of which it covers at least half; y goes down."""
    y, x = np.mgrid[:SIZE, :SIZE]
    inside = np.zeros((SIZE, SIZE))
    for down in np.arange(-0.375, 0.5, 0.25):
        for right in np.arange(-0.375, 0.5, 0.25):
            dy, dx = y + down - centre[0], x + right - centre[1]
            along = dx * np.cos(angle) + dy * np.sin(angle)
            across = dy * np.cos(angle) - dx * np.sin(angle)
            inside += (np.abs(along) <= length / 2) & (np.abs(across) <= width / 2)
    return inside >= 8


def drawn(*lines, width=5):
    mask = np.zeros((SIZE, SIZE), np.uint8)
    for start, end in lines:
        cv2.line(mask, start, end, 1, width)
    return mask.astype(bool)


@settings(max_examples=25)
@given(
    angle=st.floats(0, np.pi),
    width=st.floats(1.6, 30),
    shift=st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
def test_length_width_and_direction_of_a_straight_crack(angle, width, shift):
    found = find_cracks(straight(angle, width, 200.0, (130 + shift[0], 130 + shift[1])))[0]
    assert found.length == pytest.approx(200, rel=0.03)
    # Where the edges run along the pixels, half a pixel on each side can be in or out.
    assert found.mean_width == pytest.approx(width, abs=1.3)
    assert found.mean_width - 0.3 <= found.max_width <= width + 1.9
    apart = abs(found.orientation - np.degrees(angle)) % 180
    assert min(apart, 180 - apart) < 2


def test_widths_are_exact_on_average_in_all_directions():
    errors = [
        find_cracks(straight(angle, width, 180.0, (130.3, 129.8)))[0].mean_width - width
        for width in (1.7, 3.3, 7.6, 18.2)
        for angle in np.linspace(0.1, 3.0, 9)
    ]
    assert np.median(np.abs(errors)) < 0.2


def test_a_curve_is_as_long_as_it_is():
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.ellipse(mask, (130, 130), (90, 90), 0, 20, 200, 1, 6)
    (found,) = find_cracks(mask.astype(bool))
    # With its round ends
    assert found.length == pytest.approx(np.pi * 90 + 6, rel=0.03)
    assert found.mean_width == pytest.approx(6.5, abs=0.6)


def test_a_ring_has_no_end():
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.circle(mask, (130, 130), 80, 1, 5)
    (found,) = find_cracks(mask.astype(bool))
    assert len(found.branches) == 1
    assert found.length == pytest.approx(2 * np.pi * 80, rel=0.03)


def test_a_fork_has_three_branches_and_a_stub_is_none():
    (fork,) = find_cracks(drawn(((20, 130), (130, 130)), ((130, 130), (220, 60)), ((130, 130), (220, 200))))
    assert len(fork.branches) == 3
    assert fork.length == pytest.approx(110 + 2 * np.hypot(90, 70), rel=0.04)
    (stub,) = find_cracks(drawn(((20, 130), (220, 130)), ((120, 130), (120, 126)), width=9))
    assert len(stub.branches) == 1
    assert stub.length == pytest.approx(209, rel=0.03)


def test_a_ragged_edge_does_not_lengthen_a_crack():
    rng = np.random.default_rng(0)
    rough = straight(0.4, 12, 200)
    edge = cv2.dilate(rough.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~rough
    rough |= edge & (rng.random(rough.shape) < 0.5)
    found = find_cracks(rough)[0]
    assert found.length == pytest.approx(202, rel=0.03)
    assert found.mean_width == pytest.approx(13, abs=0.6)


def test_a_crack_ends_where_the_photograph_does():
    mask = np.zeros((60, 200), bool)
    mask[26:33] = True
    (found,) = find_cracks(mask)
    assert found.length == pytest.approx(200, abs=1)
    assert found.mean_width == pytest.approx(7, abs=0.15)
    assert found.box == (26, 0, 7, 200)


def test_cracks_are_apart_the_longest_first_and_small_spots_are_none():
    mask = drawn(((20, 40), (100, 40)), ((20, 200), (240, 200)), width=3)
    mask[100:103, 100:103] = True
    long, short = find_cracks(mask)
    assert (long.box[0] > 190, short.box[0] < 50) == (True, True)
    assert long.length > short.length
    assert long.area == mask[190:].sum()
    assert len(find_cracks(mask, least_pixels=9)) == 3
    assert find_cracks(np.zeros((10, 10), bool)) == []


@pytest.mark.parametrize("spot", [np.s_[5:6, 5:6], np.s_[4:9, 4:9], np.s_[0:10, 0:10], np.s_[3:5, 0:10]])
def test_any_spot_has_a_size(spot):
    mask = np.zeros((10, 10), bool)
    mask[spot] = True
    (found,) = find_cracks(mask, least_pixels=1)
    height, width = mask[spot].shape
    assert 0 < found.length <= np.hypot(height, width) + 1
    assert 0.5 <= found.mean_width <= found.max_width + 1e-6
    assert found.area == mask.sum()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_any_mask_is_measured(seed):
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(48, 64)).astype(np.float32), (0, 0), float(rng.uniform(0.5, 4)))
    mask = noise > np.quantile(noise, rng.uniform(0.3, 0.99))
    for found in find_cracks(mask, least_pixels=1):
        assert found.length > 0
        assert np.isfinite([found.mean_width, found.max_width, found.orientation]).all()
        assert 0 < found.mean_width <= max(found.box[2:]) * 1.5 + 1
