import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.imaging.nuisances import NuisanceStyle, draw_nuisances

NONE = dict.fromkeys(("blots", "seams", "joints", "stains", "shadows"), 0.0)


@settings(max_examples=30)
@given(
    st.integers(0, 2**32),
    st.sampled_from([(64, 64), (64, 90, 3), (8, 8)]),
    st.sampled_from([np.uint8, np.float32]),
)
def test_pictures_keep_shape_and_dtype_and_repeat_themselves(seed, shape, dtype):
    image = np.full(shape, 150 if dtype == np.uint8 else 0.6, dtype)
    style = NuisanceStyle(blots=2, seams=1, joints=1, stains=1, shadows=1)
    first, second = (draw_nuisances(image, np.random.default_rng(seed), style) for _ in range(2))
    assert (first.shape, first.dtype) == (shape, dtype)
    assert (image == image.flat[0]).all()
    np.testing.assert_array_equal(first, second)


def test_without_nuisances_nothing_changes():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    np.testing.assert_array_equal(draw_nuisances(image, np.random.default_rng(0), NuisanceStyle(**NONE)), image)


@pytest.mark.parametrize("kind", list(NONE))
def test_each_kind_is_drawn(kind):
    image = np.full((96, 96, 3), 150, np.uint8)
    style = NuisanceStyle(**{**NONE, kind: 3.0}, strength=0.8)
    changed = [(draw_nuisances(image, np.random.default_rng(i), style) != 150).any() for i in range(20)]
    assert np.mean(changed) > 0.8


def test_bad_nuisances_are_named():
    with pytest.raises(ValueError, match="number of seams must lie between 0 and 50, got -1"):
        NuisanceStyle(seams=-1)
    with pytest.raises(ValueError, match="strength of nuisances must lie between 0 and 1, got 2"):
        NuisanceStyle(strength=2)
