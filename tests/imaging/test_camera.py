from dataclasses import replace

import cv2
import numpy as np
import pytest

from crack_pipeline.imaging.camera import Camera, choose_camera, decode, encode_jpeg, encode_png, photograph
from crack_pipeline.imaging.cracks import CrackStyle, draw_crack

NOISY = Camera(shot_noise=0.03, read_noise=0.02, vignetting=0, jpeg_quality=None)
PERFECT = Camera(blur=0, vignetting=0, shot_noise=0, read_noise=0, sharpening=0, jpeg_quality=None)


@pytest.mark.parametrize("shape", [(96, 128), (96, 128, 3)])
@pytest.mark.parametrize("quality", [None, 60, 95])
def test_noise_blur_and_compression_are_the_same_on_the_crack(shape, quality):
    # a crack that cannot be seen, drawn on even concrete: nothing but the drawing could betray its pixels
    inside, outside = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        style = CrackStyle(width=8.0, contrast=0.001, lip=0, halo=0)
        image, mask = draw_crack(np.full(shape, 0.6, np.float32), rng, style)
        photo = photograph(image, rng, replace(NOISY, jpeg_quality=quality)).astype(float)
        detail = photo - cv2.GaussianBlur(photo, (0, 0), 2)
        inside.append(detail[mask].ravel())
        outside.append(detail[~mask].ravel())
    assert np.concatenate(inside).std() == pytest.approx(np.concatenate(outside).std(), rel=0.05)


def test_sensor_noise_does_not_know_the_mask():
    rng = np.random.default_rng(1)
    image, mask = draw_crack(np.full((256, 256), 150, np.uint8), rng, CrackStyle(width=20.0, contrast=0.5))
    even = replace(NOISY, shot_noise=0, blur=1.0)
    noise = photograph(image, rng, even).astype(float) - photograph(image, rng, replace(even, read_noise=0))
    assert noise[mask].std() == pytest.approx(noise[~mask].std(), rel=0.05)
    assert abs(noise[mask].mean()) < 0.5


def test_noise_has_the_deviation_that_was_asked():
    flat = np.full((200, 200, 3), 0.5, np.float32)
    for grain in (0.0, 0.5):
        camera = replace(PERFECT, read_noise=0.02, noise_grain=grain)
        assert photograph(flat, np.random.default_rng(0), camera).std() == pytest.approx(0.02 * 255, rel=0.03)
    shot = replace(PERFECT, shot_noise=0.04)
    assert photograph(flat, np.random.default_rng(0), shot).std() == pytest.approx(0.04 * 0.5**0.5 * 255, rel=0.03)


def test_a_perfect_camera_changes_nothing():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    np.testing.assert_array_equal(photograph(image, np.random.default_rng(0), PERFECT), image)
    same = photograph((image / 255).astype(np.float32), np.random.default_rng(0), PERFECT)
    np.testing.assert_array_equal(same, image)


def test_exposure_and_tone_curve():
    flat = np.full((16, 16), 0.5, np.float32)
    rng = np.random.default_rng(0)
    assert photograph(flat, rng, replace(PERFECT, exposure=1.2)).mean() == pytest.approx(153, abs=0.6)
    assert photograph(flat, rng, replace(PERFECT, gamma=2)).mean() == pytest.approx(64, abs=0.6)


@pytest.mark.parametrize("shape", [(33, 47), (33, 47, 3)])
def test_the_same_seed_takes_the_same_photograph(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    first, second = (photograph(image, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first.shape, first.dtype) == (shape, np.uint8)


def test_files_keep_colours_and_masks():
    image = np.zeros((32, 32, 3), np.uint8)
    image[..., 0] = 200
    np.testing.assert_array_equal(decode(encode_png(image)), image)
    assert np.abs(decode(encode_jpeg(image, 95)).astype(int) - image).max() < 12
    mask = np.eye(32, dtype=bool)
    np.testing.assert_array_equal(decode(encode_png(mask), colour=False), mask * np.uint8(255))


@pytest.mark.parametrize("quality", [0, 101])
def test_a_bad_quality_is_named(quality):
    with pytest.raises(ValueError, match=f"1 to 100|between 1 and 100, got {quality}"):
        Camera(jpeg_quality=quality)
    with pytest.raises(ValueError, match=str(quality)):
        encode_jpeg(np.zeros((8, 8), np.uint8), quality)


def test_a_bad_camera_is_named():
    with pytest.raises(ValueError, match="blur of a camera must lie between 0 and 20, got -1"):
        Camera(blur=-1)


def test_a_harder_camera_is_noisier():
    easy, hard = ([choose_camera(np.random.default_rng(i), d) for i in range(100)] for d in (0, 1))
    assert np.mean([c.read_noise for c in hard]) > np.mean([c.read_noise for c in easy])
    assert np.mean([c.blur for c in hard]) > np.mean([c.blur for c in easy])


def test_what_is_no_photograph_is_not_decoded():
    with pytest.raises(ValueError, match="3 bytes"):
        decode(b"abc")
