from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.imaging.cracks import (
    CrackStyle,
    Stroke,
    choose_crack,
    draw_crack,
    midpoint_path,
    plan_crack,
    rasterise,
)

seeds = st.integers(0, 2**32)
fast = settings(max_examples=40)
EXACT = CrackStyle(width=3.0, contrast=0.8, unevenness=0, lip=0, halo=0)
"""Jagged, branched and gaped, but only what it covers is changed."""


def straight(start, end, width):
    start, end = np.asarray(start, float), np.asarray(end, float)
    direction = (end - start) / np.hypot(*(end - start))
    across = np.array([-direction[1], direction[0]]) * width / 2
    points = start + np.linspace(0, 1, 50)[:, None] * (end - start)
    return Stroke(points + across, points - across, np.ones(50, bool))


def tolerance(angle):
    """Half a pixel; but a line that keeps to the pixels' rows or columns is a whole number of pixels wide."""
    from_axis = abs((angle + np.pi / 4) % (np.pi / 2) - np.pi / 4)
    return 0.5 if from_axis > 0.05 else 1.01


def grey(value=200, shape=(128, 128)):
    return np.full(shape, value, np.uint8)


@fast
@given(seeds)
def test_the_same_seed_draws_the_same_crack(seed):
    first, second = (draw_crack(grey(), np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


def test_other_seeds_draw_other_cracks():
    masks = {draw_crack(grey(), np.random.default_rng(seed))[1].tobytes() for seed in range(20)}
    assert len(masks) == 20


@fast
@given(st.integers(0, 3), st.floats(0.05, np.pi / 2 - 0.05), st.floats(1, 12), st.floats(-2, 2), st.floats(-2, 2))
def test_a_straight_stroke_has_the_width_that_was_asked(turns, angle, width, dx, dy):
    middle = np.array([63.5 + dx, 63.5 + dy])
    heading = angle + turns * np.pi / 2
    way = 40 * np.array([np.cos(heading), np.sin(heading)])
    coverage = rasterise([straight(middle - way, middle + way, width)], (128, 128))
    assert coverage.sum() / 80 == pytest.approx(width, abs=0.25)  # a sub-pixel
    assert (coverage >= 0.5).sum() / 80 == pytest.approx(width, abs=0.5)


@pytest.mark.parametrize("width", [1, 2, 4, 7])
def test_an_upright_stroke_between_pixel_borders_fills_those_columns(width):
    # pixel 50 covers 49.5 to 50.5
    stroke = straight((49.5 + width / 2, -10), (49.5 + width / 2, 40), width)
    coverage = rasterise([stroke], (20, 100))
    expected = np.zeros((20, 100))
    expected[:, 50 : 50 + width] = 1
    np.testing.assert_array_equal(coverage >= 0.5, expected)
    np.testing.assert_allclose(coverage, expected, atol=1e-6)


@fast
@given(seeds, st.floats(1.5, 10))
def test_a_plain_crack_has_the_width_that_was_asked(seed, width):
    style = CrackStyle(width=width, contrast=0.7).plain()
    _, mask = draw_crack(grey(), np.random.default_rng(seed), style)
    (stroke,) = plan_crack((128, 128), np.random.default_rng(seed), style)
    ends = (stroke.left[[0, -1]] + stroke.right[[0, -1]]) / 2
    points = ends[0] + np.linspace(0, 1, 20_001)[:, None] * (ends[1] - ends[0])
    inside = ((points > -0.5) & (points < 127.5)).all(axis=1).mean()
    length = inside * np.hypot(*(ends[1] - ends[0]))
    angle = np.arctan2(*(ends[1] - ends[0]))
    assert mask.sum() / length == pytest.approx(width, abs=tolerance(angle))
    assert cv2.connectedComponents(mask.astype(np.uint8))[0] == 2  # the background and one crack


@fast
@given(seeds, st.floats(1, 12), st.sampled_from([np.uint8, np.float32]))
def test_the_mask_is_where_at_least_half_of_a_pixel_was_darkened(seed, width, dtype):
    image = grey() if dtype == np.uint8 else np.full((96, 128), 0.7, np.float32)
    drawn, mask = draw_crack(image, np.random.default_rng(seed), replace(EXACT, width=width))
    lost = 1 - drawn / image.astype(float)
    np.testing.assert_array_equal(mask, lost > 0.8 * 15 / 32)  # between 7/16 and 8/16 of a pixel
    assert mask.any()
    assert 0.39 < lost.max() < 0.81


@fast
@given(seeds)
def test_rims_and_shadow_stay_near_the_crack(seed):
    style = CrackStyle(width=3.0, contrast=0.8, lip=0.5, halo=0.3)
    drawn, mask = draw_crack(grey(), np.random.default_rng(seed), style)
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    covered = rasterise(plan_crack((128, 128), np.random.default_rng(seed), style), (128, 128)) > 0
    near = cv2.dilate(covered.astype(np.uint8), np.ones((41, 41), np.uint8)) > 0
    assert (drawn[~near] == 200).all()
    assert drawn[mask].mean() < drawn[distance > 3].mean() - 50


@fast
@given(seeds, st.floats(0, 1), st.sampled_from([(64, 64), (128, 96), (200, 227)]))
def test_a_crack_without_tips_crosses_the_picture(seed, difficulty, shape):
    rng = np.random.default_rng(seed)
    style = replace(choose_crack(rng, difficulty, shape), tips=0, gaps=0)
    _, mask = draw_crack(grey(shape=shape), rng, style)
    border = np.concatenate([mask[:3].ravel(), mask[-3:].ravel(), mask[:, :3].ravel(), mask[:, -3:].ravel()])
    assert border.any()
    assert mask.sum() > 0.25 * min(shape)
    assert mask.mean() < 0.7


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(64, 80), (64, 80, 3), (8, 8)])
def test_pictures_keep_shape_and_dtype_and_are_not_changed(shape, dtype):
    image = np.full(shape, 150 if dtype == np.uint8 else 0.6, dtype)
    before = image.copy()
    drawn, mask = draw_crack(image, np.random.default_rng(3))
    assert (drawn.shape, drawn.dtype) == (shape, dtype)
    assert (mask.shape, mask.dtype) == (shape[:2], np.bool_)
    np.testing.assert_array_equal(image, before)


@given(seeds)
@fast
def test_a_read_only_tile_of_a_larger_picture_can_be_drawn_on(seed):
    photograph = np.full((300, 300), 150, np.uint8)
    photograph.flags.writeable = False
    drawn, mask = draw_crack(photograph[50:178, 20:148], np.random.default_rng(seed), EXACT)
    assert mask.any()
    assert (drawn[mask] < 150).all()


@fast
@given(seeds, st.floats(0, 0.5), st.floats(0.3, 1.5))
def test_a_path_keeps_its_ends(seed, sway, smoothness):
    start, end = np.array([3.0, 5.0]), np.array([90.0, 120.0])
    path = midpoint_path(start, end, sway, smoothness, np.random.default_rng(seed))
    np.testing.assert_allclose(path[[0, -1]], [start, end])
    if sway == 0:
        steps = np.diff(path, axis=0)
        np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape))


def test_harder_cracks_are_thinner_and_fainter():
    styles = {d: [choose_crack(np.random.default_rng(i), d) for i in range(200)] for d in (0.0, 0.5, 1.0)}
    widths = [np.mean([style.width for style in styles[d]]) for d in (0.0, 0.5, 1.0)]
    contrasts = [np.mean([style.contrast for style in styles[d]]) for d in (0.0, 0.5, 1.0)]
    assert widths == sorted(widths, reverse=True)
    assert contrasts == sorted(contrasts, reverse=True)


@pytest.mark.parametrize(
    ("name", "value"), [("width", 0), ("contrast", 1.2), ("tips", -0.1), ("branches", float("nan"))]
)
def test_a_bad_style_is_named(name, value):
    with pytest.raises(ValueError, match=rf"{name} of a crack must lie between .* got {value}"):
        CrackStyle(**{name: value})


def test_a_bad_difficulty_is_named():
    with pytest.raises(ValueError, match=r"between 0 and 1, got 1\.5"):
        choose_crack(np.random.default_rng(0), 1.5)


def test_what_is_no_picture_is_refused():
    with pytest.raises(TypeError, match="int64"):
        draw_crack(np.zeros((64, 64), np.int64), np.random.default_rng(0))
