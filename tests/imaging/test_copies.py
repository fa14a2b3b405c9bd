import cv2
import numpy as np
import pytest

from crack_pipeline.imaging.copies import find_nearest


def photograph(seed, size=(200, 260)):
    rng = np.random.default_rng(seed)
    rough = rng.normal(0, 1, size).astype(np.float32)
    smooth = cv2.GaussianBlur(rough, (0, 0), 12)
    return np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8)


PHOTOGRAPHS = [(3, photograph(0)), (7, photograph(1)), (9, photograph(2))]


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_copy_is_found_however_it_lies_and_was_taken(turn, mirrored):
    square = np.rot90(PHOTOGRAPHS[1][1][40:136, 88:184], turn)
    square = square[:, ::-1] if mirrored else square
    noisy = 0.7 * square + 20 + np.random.default_rng(5).normal(0, 6, square.shape)
    (nearest,) = find_nearest(np.clip(noisy, 0, 255).astype(np.uint8)[None], PHOTOGRAPHS)
    assert nearest.row == 7
    assert nearest.correlation > 0.95
    assert np.abs(np.subtract(nearest.corner, (40, 88))).max() <= 2
    assert nearest.side == 96


@pytest.mark.parametrize("size", [96, 128])
def test_a_copy_of_fine_grain_is_found_wherever_it_was_cut(size):
    def grainy(seed):
        noise = np.random.default_rng(seed).normal(0, 1, (300, 340)).astype(np.float32)
        return np.clip(128 + 120 * cv2.GaussianBlur(noise, (0, 0), 2), 0, 255).astype(np.uint8)

    photographs = [(row, grainy(row)) for row in range(3)]
    corners = [(41, 87), (2, 3), (130, 150), (77, 54), (300 - size, 340 - size)]
    cut = [photographs[1][1][y : y + size, x : x + size] for y, x in corners]
    for nearest, corner in zip(find_nearest(np.stack(cut), photographs), corners, strict=True):
        assert (nearest.row, nearest.corner, nearest.side) == (1, corner, size)
        assert nearest.correlation > 0.999
    others = [grainy(seed)[50 : 50 + size, 60 : 60 + size] for seed in (7, 8, 9)]
    assert max(nearest.correlation for nearest in find_nearest(np.stack(others), photographs)) < 0.6


def test_a_new_picture_is_no_copy():
    (nearest,) = find_nearest(photograph(99)[None, :96, :96], PHOTOGRAPHS)
    assert nearest.correlation < 0.9


def test_colour_pictures_and_whole_photographs():
    whole = cv2.resize(PHOTOGRAPHS[2][1][:, 30:230], (64, 64), interpolation=cv2.INTER_AREA)
    (nearest,) = find_nearest(np.repeat(whole[None, ..., None], 3, axis=3), PHOTOGRAPHS, whole=True)
    assert nearest.row == 9
    assert nearest.correlation > 0.95


def test_even_pictures_and_small_photographs_are_like_nothing():
    (nearest,) = find_nearest(np.full((1, 64, 64), 90, np.uint8), PHOTOGRAPHS)
    assert nearest[:2] == (-1, -1.0)
    (nearest,) = find_nearest(photograph(1)[None, :128, :128], [(0, photograph(1)[:50, :50])])
    assert nearest[:2] == (-1, -1.0)
