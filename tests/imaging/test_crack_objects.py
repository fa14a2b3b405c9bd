import time

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


@settings(max_examples=15)
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
@settings(max_examples=15)
def test_any_mask_is_measured(seed):
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(48, 64)).astype(np.float32), (0, 0), float(rng.uniform(0.5, 4)))
    mask = noise > np.quantile(noise, rng.uniform(0.3, 0.99))
    for found in find_cracks(mask, least_pixels=1):
        assert found.length > 0
        assert np.isfinite([found.mean_width, found.max_width, found.orientation]).all()
        assert 0 < found.mean_width <= max(found.box[2:]) * 1.5 + 1


def a_crack(seed, size=160):
    """A crooked crack, some with a branch."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((size, size), np.uint8)
    width = int(rng.integers(2, 12))
    turns = rng.uniform(0, 7) + rng.normal(0, 0.15, 12).cumsum()
    path = np.stack([np.cos(turns), np.sin(turns)], axis=1).cumsum(axis=0) * 8
    path += size / 2 - path.mean(axis=0)
    cv2.polylines(mask, [np.round(path).astype(np.int32)], False, 1, width)
    if rng.random() < 0.5:
        side = path[6] + 4.5 * width * np.array([np.sin(turns[6]), -np.cos(turns[6])])
        cv2.line(mask, np.round(path[6]).astype(int).tolist(), np.round(side).astype(int).tolist(), 1, width)
    return mask.astype(bool)


def numbers(crack, down=0, right=0):
    y, x, height, width = crack.box
    places = np.concatenate([branch.path for branch in crack.branches]) - (down, right)
    widths = np.concatenate([branch.widths for branch in crack.branches])
    return (
        (y - down, x - right, height, width, crack.area, len(crack.branches)),
        np.concatenate([places.ravel(), widths, [crack.length, crack.mean_width, crack.max_width, crack.orientation]]),
    )


def differences(some, others, **moved):
    """Name what is not the same of cracks, one after the other."""
    found = [f"{len(some)} and {len(others)}"] if len(some) != len(others) else []
    for one, other in zip(some, others, strict=False):
        (whole, real), (wanted, expected) = numbers(one, **moved), numbers(other)
        if whole != wanted or real.shape != expected.shape or not np.allclose(real, expected, rtol=1e-7, atol=1e-4):
            found.append(f"{whole} and {wanted}")
    return found


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.integers(1, 70))
def test_moved_by_whole_pixels_a_crack_is_the_same(seed, down, right):
    mask = np.pad(a_crack(seed), 1)
    moved = np.pad(mask, ((down, 20), (right, 5)))
    assert differences(find_cracks(moved), find_cracks(mask), down=down, right=right) == []


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["quarter", "half", "mirrored", "transposed"]))
def test_turned_or_mirrored_a_crack_is_as_long_and_wide(seed, how):
    mask = a_crack(seed)
    change = {"quarter": np.rot90, "half": lambda m: np.rot90(m, 2), "mirrored": np.fliplr, "transposed": np.transpose}
    (one,), (other,) = find_cracks(mask), find_cracks(np.ascontiguousarray(change[how](mask)))
    assert other.length == pytest.approx(one.length, rel=0.03, abs=2)
    assert other.mean_width == pytest.approx(one.mean_width, abs=0.25)
    assert other.max_width == pytest.approx(one.max_width, abs=1.5)
    assert (other.area, len(other.branches)) == (one.area, len(one.branches))


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_beside_another_a_crack_is_measured_as_alone(seed, other, gap):
    left, right = np.zeros((160, 340), bool), np.zeros((160, 340), bool)
    left[:, :160] = a_crack(seed)
    # As near as they can be without touching
    second = a_crack(other)
    shift = next(x for x in range(180) if not near(left, moved := placed(second, x), gap) and moved.any())
    right = placed(second, shift)
    both = sorted(find_cracks(left) + find_cracks(right), key=lambda crack: -crack.length)
    assert differences(find_cracks(left | right), both) == []


def placed(crack, x):
    wide = np.zeros((160, 340), bool)
    wide[:, x : x + 160] = crack
    return wide


def near(one, other, gap):
    return (cv2.dilate(one.astype(np.uint8), np.ones((2 * gap + 1,) * 2, np.uint8)).astype(bool) & other).any()


@settings(max_examples=8)
@given(st.integers(0, 2**32 - 1))
def test_twice_as_large_a_crack_is_twice_as_long_and_wide(seed):
    mask = a_crack(seed)
    (one,), (other,) = find_cracks(mask), find_cracks(np.kron(mask, np.ones((2, 2), bool)))
    assert other.length == pytest.approx(2 * one.length, rel=0.04, abs=4)
    assert other.mean_width == pytest.approx(2 * one.mean_width, abs=0.5)
    assert other.area == 4 * one.area


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_the_pixels_of_all_cracks_are_the_mask(seed):
    rng = np.random.default_rng(seed)
    noise = cv2.GaussianBlur(rng.normal(size=(48, 64)).astype(np.float32), (0, 0), float(rng.uniform(0.5, 4)))
    mask = noise > np.quantile(noise, rng.uniform(0.3, 0.99))
    together = np.zeros(mask.shape, int)
    for found in find_cracks(mask, least_pixels=1):
        y, x, height, width = found.box
        pixels = found.pixels()
        assert pixels.sum() == found.area
        assert pixels.any(axis=1)[[0, -1]].all() and pixels.any(axis=0)[[0, -1]].all()
        together[y : y + height, x : x + width] += pixels
    assert (together == mask).all()


def test_the_widest_place_is_where_it_is_wide():
    mask = drawn(((20, 130), (240, 130)), width=5)
    cv2.circle(mask.view(np.uint8), (180, 130), 8, 1, cv2.FILLED)
    (found,) = find_cracks(mask)
    assert found.widest == pytest.approx((130, 180), abs=2)
    assert found.max_width == pytest.approx(16, abs=1.1)
    assert found.mean_width == pytest.approx(7.4, abs=0.3)


def test_a_fork_is_not_the_widest_place():
    side = np.deg2rad(50)
    middle = (130 + 50 * np.sin(side), 130 + 50 * np.cos(side))
    (fork,) = find_cracks(straight(0, 9, 220) | straight(side, 9, 100, middle))
    assert len(fork.branches) == 3
    assert fork.max_width < 10.5
    assert fork.mean_width == pytest.approx(9, abs=0.3)


def test_a_small_hole_is_filled_and_a_large_one_gone_around():
    mask = drawn(((20, 130), (240, 130)), width=15)
    mask[127:133, 100:106] = False
    (filled,) = find_cracks(mask)
    assert len(filled.branches) == 1
    assert filled.area == mask.sum()
    mask[125:136, 60:200] = False
    (ring,) = find_cracks(mask)
    assert len(ring.branches) > 1
    assert ring.length > 320


def test_what_is_very_wide_is_measured_with_fewer_pixels():
    mask = np.zeros((420, 1500), bool)
    mask[50:370, 100:1401] = True
    (found,) = find_cracks(mask)
    assert found.length == pytest.approx(1301, rel=0.03)
    assert found.mean_width == pytest.approx(320, abs=3)
    assert found.widest[0] == pytest.approx(209.5, abs=4)
    assert (found.box, found.area) == ((50, 100, 320, 1301), 320 * 1301)
    assert found.pixels().all()
    beside = np.zeros((60, 300), bool)
    beside[1:51, 1:-1] = True
    assert find_cracks(beside)[0].mean_width == pytest.approx(50, abs=0.5)
    (everything,) = find_cracks(np.ones((301, 700), bool))
    assert everything.length == pytest.approx(700, rel=0.03)
    assert everything.mean_width == pytest.approx(301, abs=3)


def test_a_mask_is_a_bool_array():
    with pytest.raises(ValueError, match=r"bool array \(H, W\), got uint8 of shape \(4, 5\)"):
        find_cracks(np.zeros((4, 5), np.uint8))
    assert find_cracks(np.zeros((0, 5), bool)) == []


@pytest.mark.parametrize("kind", ["net", "specks", "diagonals"])
def test_a_bad_mask_takes_seconds(kind):
    y, x = np.mgrid[:1000, :1000]
    rng = np.random.default_rng(0)
    mask = {
        "net": (y % 12 < 2) | (x % 12 < 2),
        "specks": rng.random((1000, 1000)) < 0.3,
        "diagonals": (x + y) % 12 < 3,
    }[kind]
    started = time.process_time()
    find_cracks(mask)
    assert time.process_time() - started < 10


@pytest.mark.parametrize(("width", "length", "beside"), [(60, 200, 3), (140, 498, 1), (400, 1300, 100)])
def test_a_wide_crack_is_measured_to_its_ends_however_little_lies_beside_it(width, length, beside):
    wall = np.zeros((width + 2 * beside, length + 2 * beside), bool)
    wall[beside:-beside, beside:-beside] = True
    (found,) = find_cracks(wall)
    assert found.length == pytest.approx(length, rel=0.02)
    assert found.mean_width == pytest.approx(width, rel=0.02)


@pytest.mark.parametrize("width", [6, 12, 16])
def test_a_sharp_bend_is_no_wide_place(width):
    corner = np.array([[[30, 30], [230, 30], [130, 30 + round(100 * np.sqrt(3))]]], np.int32)  # 60 degrees
    wall = np.zeros((260, 260), np.uint8)
    cv2.polylines(wall, corner, isClosed=False, color=1, thickness=width)
    (found,) = find_cracks(wall.astype(bool))
    assert found.mean_width == pytest.approx(width, abs=1.5)
    assert found.max_width <= 1.6 * width + 1
