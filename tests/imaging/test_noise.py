import numpy as np
import pytest

from crack_pipeline.imaging.noise import fractal_noise, relief, speckle, value_noise


@pytest.mark.parametrize("cell", [1, 2.5, 8, 30, (40, 3), (1, 200)])
def test_smooth_noise_has_mean_0_and_deviation_1(cell):
    rng = np.random.default_rng(0)
    draws = np.stack([value_noise((40, 56), cell, rng) for _ in range(300)])
    assert draws.shape == (300, 40, 56)
    assert draws.dtype == np.float32
    assert abs(draws.mean()) < 0.1
    assert draws.std() == pytest.approx(1, abs=0.07)


def test_a_larger_cell_is_smoother():
    def step(cell):
        field = value_noise((128, 128), cell, np.random.default_rng(1))
        return np.abs(np.diff(field, axis=0)).mean()

    assert step(32) < step(8) < step(2) < step(1)


def test_unequal_cells_give_streaks():
    field = value_noise((128, 128), (64, 3), np.random.default_rng(1))
    assert 5 * np.abs(np.diff(field, axis=0)).mean() < np.abs(np.diff(field, axis=1)).mean()


def test_octaves_keep_the_deviation_and_the_seed():
    draws = [fractal_noise((64, 64), 16, 4, np.random.default_rng(i), 0.6) for i in range(60)]
    assert np.stack(draws).std() == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(draws[3], fractal_noise((64, 64), 16, 4, np.random.default_rng(3), 0.6))


def test_a_slope_that_faces_the_light_is_bright():
    ramp = np.tile(np.arange(32, dtype=np.float32), (32, 1))
    bump = -np.abs(ramp - 16)  # rises to the middle: the left half faces left
    lit = relief(bump, np.pi)
    assert lit[:, 4:12].min() > 0 > lit[:, 20:28].max()


def test_speckle_without_density_is_empty():
    assert not speckle((20, 20), 0, (1.0,), np.random.default_rng(0)).any()


@pytest.mark.parametrize("call", [lambda r: value_noise((9, 9), 0, r), lambda r: fractal_noise((9, 9), 4, 0, r)])
def test_bad_arguments_are_named(call):
    with pytest.raises(ValueError, match="got 0"):
        call(np.random.default_rng(0))
