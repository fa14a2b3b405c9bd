import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.imaging.drawing import (
    FULL,
    change_light,
    check_image,
    fill_polygons,
    irregular_outlines,
    shifted,
    shrink,
)


@given(st.integers(0, 16))
def test_coverage_is_exact(filled):
    canvas = np.zeros(16, np.uint8)
    canvas[:filled] = FULL
    np.random.default_rng(filled).shuffle(canvas)
    assert shrink(np.tile(canvas.reshape(4, 4), (3, 5))) == pytest.approx(filled / 16)


@settings(max_examples=30)
@given(st.floats(10, 30), st.floats(10, 30), st.floats(3, 8))
def test_a_polygon_covers_its_area(x, y, radius):
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)
    coverage = fill_polygons((40, 40), circle[None])
    # OpenCV fills the border too: half a sub-pixel all around
    assert coverage.sum() == pytest.approx(np.pi * (radius + 1 / 8) ** 2, rel=0.05)
    rows, columns = np.nonzero(coverage)
    assert np.average(columns, weights=coverage[rows, columns]) == pytest.approx(x, abs=0.1)
    assert np.average(rows, weights=coverage[rows, columns]) == pytest.approx(y, abs=0.1)


def test_outlines_stay_near_their_centres():
    centres = np.array([[10.0, 20.0], [-5.0, 3.0]])
    outlines = irregular_outlines(centres, np.array([2.0, 4.0]), np.random.default_rng(0), elongation=2)
    assert outlines.shape == (2, 12, 2)
    assert np.abs(outlines - centres[:, None]).max() < 4 * 2 * np.sqrt(2)


def test_shifting_moves_right_and_down():
    field = np.zeros((9, 9), np.float32)
    field[4, 4] = 1
    moved = shifted(field, 1.5, -2)
    assert moved[2, 5] == pytest.approx(0.5)
    assert moved[2, 6] == pytest.approx(0.5)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(12, 10), (12, 10, 3)])
def test_light_is_multiplied_and_kept_in_range(dtype, shape):
    image = np.full(shape, 200 if dtype == np.uint8 else 200 / 255, dtype)
    white = 255 if dtype == np.uint8 else 1
    half = change_light(image, np.full((12, 10), 0.5, np.float32))
    assert (half.shape, half.dtype) == (shape, dtype)
    np.testing.assert_allclose(half, image / 2)
    assert (change_light(image, np.full((12, 10, 3), 2, np.float32)) == white).all()


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros((20, 20)), TypeError, "float64"),
        (np.zeros((20, 20, 4), np.uint8), ValueError, r"\(20, 20, 4\)"),
        (np.zeros((20, 7), np.uint8), ValueError, "8 x 8"),
    ],
)
def test_what_is_no_picture_is_refused(image, error, message):
    with pytest.raises(error, match=message):
        check_image(image)
