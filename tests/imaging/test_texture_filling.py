import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from crack_pipeline.imaging import texture_filling
from crack_pipeline.imaging.texture_filling import fill_texture, smooth_fill


def grainy(seed, shape=(200, 240), width=1.2, contrast=12.0):
    """Concrete that becomes lighter from side to side, with grain that has a width."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32), (0, 0), width)
    slope = np.linspace(100, 160, shape[1], dtype=np.float32)
    return np.clip(slope + contrast * noise / noise.std(), 0, 255).astype(np.uint8)


def line(shape=(200, 240), width=9):
    mask = np.zeros(shape, np.uint8)
    cv2.line(mask, (20, 30), (220, 160), 1, width)
    return mask.astype(bool)


def above_the_coarse(picture):
    return picture - cv2.GaussianBlur(picture.astype(np.float32), (0, 0), 3)


@pytest.mark.parametrize("width", [5, 15, 61])
def test_the_grain_in_a_hole_has_contrast_and_width_of_that_around(width):
    wall, hole = grainy(0), line(width=width)
    filled = fill_texture(np.where(hole, 0, wall).astype(np.uint8), hole)
    grain, true = above_the_coarse(filled), above_the_coarse(wall)
    assert grain[hole].std() == pytest.approx(true[hole].std(), rel=0.2)
    steps, true_steps = np.diff(grain, axis=1)[hole[:, 1:]], np.diff(true, axis=1)[hole[:, 1:]]
    assert steps.std() == pytest.approx(true_steps.std(), rel=0.2)
    # A smooth fill misses all this.
    assert above_the_coarse(fill_texture(wall, hole, grain=0))[hole].std() < 0.5 * true[hole].std()


def test_brightness_goes_on_across_a_hole():
    wall, hole = grainy(1, contrast=4), line(width=25)
    filled = fill_texture(np.where(hole, 0, wall).astype(np.uint8), hole)
    slope = np.broadcast_to(np.linspace(100, 160, 240), hole.shape)
    away = cv2.blur((filled - slope) * hole, (21, 21)) / np.maximum(cv2.blur(hole.astype(np.float64), (21, 21)), 1e-9)
    assert np.abs(away[hole]).max() < 5


def test_a_seed_gives_the_same_fill_and_another_one_another():
    wall, hole = grainy(2), line()
    first, again, other = (fill_texture(wall, hole, seed=seed) for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other)[hole].mean() > 0.2


def test_large_photographs_are_filled_in_parts_without_a_seam(monkeypatch):
    wall, hole = grainy(3), line(width=11)
    whole = fill_texture(wall, hole)
    monkeypatch.setattr(texture_filling, "_CORE", 96)
    assert np.abs(fill_texture(wall, hole).astype(int) - whole)[hole].max() <= 3


@settings(max_examples=20)
@given(
    hole=arrays(np.bool_, st.tuples(st.integers(1, 50), st.integers(1, 50)), elements=st.booleans()),
    seed=st.integers(0, 9),
    hidden=st.integers(0, 255),
)
def test_any_holes_are_filled_with_what_is_around_whatever_they_hid(hole, seed, hidden):
    hole[0, 0] = False
    wall = np.random.default_rng(seed).integers(100, 110, (*hole.shape, 3)).astype(np.uint8)
    filled = fill_texture(np.where(hole[..., None], hidden, wall).astype(np.uint8), hole)
    assert (filled[~hole] == wall[~hole]).all()
    assert (filled == fill_texture(wall, hole)).all()
    assert 80 <= filled.min() <= filled.max() <= 130


@given(level=st.floats(1, 254), slope=st.floats(-3, 3), seed=st.integers(0, 20))
def test_the_smooth_fill_is_linear_and_keeps_what_is_even(level, slope, seed):
    rng = np.random.default_rng(seed)
    known = rng.random((40, 50)) < 0.6
    known[20, 20] = True
    one, other = rng.normal(0, 20, (2, 40, 50, 1)).astype(np.float32)
    assert smooth_fill(np.full_like(one, level), known) == pytest.approx(level, rel=1e-4)
    both = smooth_fill(one + np.float32(slope) * other, known)
    np.testing.assert_allclose(both, smooth_fill(one, known) + slope * smooth_fill(other, known), atol=1e-2)
