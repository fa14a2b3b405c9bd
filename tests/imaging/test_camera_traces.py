import cv2
import numpy as np
import pytest

from crack_pipeline.imaging.camera import Camera, photograph
from crack_pipeline.imaging.camera_traces import measure_blur, measure_jpeg_quality, measure_noise, measure_traces
from crack_pipeline.imaging.concrete import choose_concrete, render_concrete


@pytest.fixture(scope="module")
def concrete():
    rng = np.random.default_rng(1)
    return render_concrete((256, 320), rng, choose_concrete(rng, 0.5, (256, 320)))


def taken(concrete, **camera):
    plain = {"shot_noise": 0, "read_noise": 0, "noise_grain": 0, "sharpening": 0, "vignetting": 0, "jpeg_quality": None}
    return photograph(concrete, np.random.default_rng(0), Camera(**(plain | camera)))


def edges(blur):
    """Straight dark bars with a known blur."""
    picture = np.full((200, 200), 190, np.float32)
    for left in range(20, 190, 30):
        picture[:, left : left + 9] = 40
    return np.rint(cv2.GaussianBlur(picture, (0, 0), blur)).astype(np.uint8)


@pytest.mark.parametrize("quality", [30, 50, 74, 75, 90])
def test_the_quality_of_a_jpeg_is_found(concrete, quality):
    found = measure_traces(taken(concrete, read_noise=0.01, jpeg_quality=quality)).jpeg_quality
    assert found is not None
    assert abs(found - quality) <= 1


def test_what_was_not_compressed_or_scaled_since_shows_no_jpeg(concrete):
    assert measure_jpeg_quality(taken(concrete, read_noise=0.01)[..., 1]) is None
    compressed = taken(concrete, read_noise=0.01, jpeg_quality=50)
    assert measure_jpeg_quality(cv2.resize(compressed, (250, 200), interpolation=cv2.INTER_AREA)[..., 1]) is None


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.03, 0.08])
def test_noise_is_measured_on_an_even_picture(noise):
    rng = np.random.default_rng(2)
    even = np.clip(np.rint(128 + 255 * noise * rng.standard_normal((256, 256))), 0, 255).astype(np.uint8)
    assert measure_noise(even) == pytest.approx(noise, rel=0.15, abs=0.001)


def test_texture_and_cracks_in_a_part_of_a_picture_are_no_noise():
    even = np.full((256, 256), 128, np.uint8)
    even[:, 100:140] = np.random.default_rng(0).integers(0, 256, (256, 40))
    assert measure_noise(even) < 0.001


@pytest.mark.parametrize("blur", [0.6, 1.0, 1.6, 2.5])
def test_blur_is_measured_at_edges(blur):
    assert measure_blur(edges(blur)) == pytest.approx(blur, rel=0.25)


def test_a_softer_photograph_is_measured_as_softer(concrete):
    soft, softer = (measure_traces(taken(concrete, blur=blur, read_noise=0.004)).blur for blur in (0.5, 2.0))
    assert softer > soft


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (16, 16), (9, 9, 3)])
def test_pictures_of_any_size_have_traces(size):
    traces = measure_traces(np.full(size, 100, np.uint8))
    assert traces.blur > 0
    assert traces.noise == 0
    assert traces.jpeg_quality is None
