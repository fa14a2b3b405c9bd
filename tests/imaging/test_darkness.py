import numpy as np
import pytest

from crack_pipeline.imaging.darkness import local_darkness


@pytest.mark.parametrize("width", [2, 8, 24])
def test_what_is_darker_than_its_surroundings_stands_out(width):
    rng = np.random.default_rng(0)
    photograph = np.linspace(90, 200, 256)[None].repeat(256, 0) + rng.normal(0, 3, (256, 256))
    photograph[:, 100 : 100 + width] -= 60
    dark = local_darkness(photograph.clip(0, 255).astype(np.uint8))
    assert (dark >= 0).all()
    assert dark[40:-40, 100 : 100 + width].min() > 2 * np.percentile(dark[40:-40, 130:], 95)


def test_colour_is_looked_at_by_its_light():
    grey = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    assert np.allclose(local_darkness(grey), local_darkness(np.repeat(grey[..., None], 3, axis=2)), atol=1e-4)
