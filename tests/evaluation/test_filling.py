import numpy as np
import pytest

from crack_pipeline.evaluation.filling import fill_quality


@pytest.fixture
def wall():
    return np.random.default_rng(0).normal(120, 8, (60, 70, 3)).clip(0, 255).astype(np.uint8)


@pytest.fixture
def where():
    mask = np.zeros((60, 70), bool)
    mask[20:40, 10:60] = True
    return mask


def test_only_what_was_filled_counts(wall, where):
    other = wall.copy()
    other[~where] = 0
    assert fill_quality(wall, wall, where)[1:] == (1.0, 1.0)
    assert fill_quality(wall, other, where).psnr == fill_quality(wall, wall, where).psnr > 55


def test_a_known_error_has_a_known_psnr(wall, where):
    brighter = (wall + 5).astype(np.uint8)
    quality = fill_quality(wall, brighter, where)
    assert quality.psnr == pytest.approx(20 * np.log10(255 / 5))
    assert quality.grain == pytest.approx(1, abs=1e-4)


def test_a_smear_is_better_by_psnr_and_has_no_grain(wall, where):
    smear, other = wall.copy(), wall.copy()
    smear[where] = wall[where].mean(axis=0)
    other[where] = np.roll(wall, 7, axis=1)[where]
    smooth, grainy = fill_quality(wall, smear, where), fill_quality(wall, other, where)
    assert smooth.psnr - grainy.psnr == pytest.approx(3, abs=0.4)
    assert smooth.grain < 0.4
    assert grainy.grain == pytest.approx(1, abs=0.1)


def test_a_wall_without_grain_has_none_to_keep(where):
    flat = np.full(where.shape, 90, np.uint8)
    assert np.isnan(fill_quality(flat, flat, where).grain)
