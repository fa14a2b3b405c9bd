import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.imaging.concrete import ConcreteStyle, choose_concrete, render_concrete


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.floats(0, 1), st.sampled_from([(40, 60), (97, 64), (128, 128)]))
def test_any_concrete_is_a_picture_and_repeats_itself(seed, difficulty, shape):
    def render():
        rng = np.random.default_rng(seed)
        return render_concrete(shape, rng, choose_concrete(rng, difficulty, shape))

    surface = render()
    assert (surface.shape, surface.dtype) == ((*shape, 3), np.float32)
    assert surface.min() >= 0
    assert surface.max() <= 1
    assert 0.15 < surface.mean() < 0.95
    np.testing.assert_array_equal(surface, render())


@pytest.mark.parametrize("tone", [0.4, 0.6, 0.75])
def test_the_surface_has_the_tone_and_cast_that_were_asked(tone):
    style = ConcreteStyle(tone=tone, warmth=0.08, mottling=0.01, pores=0)
    surface = render_concrete((128, 128), np.random.default_rng(0), style)
    assert surface[..., 1].mean() == pytest.approx(tone, abs=0.05)
    assert surface[..., 0].mean() > surface[..., 1].mean() > surface[..., 2].mean()


def test_pores_are_dark_and_stones_change_the_texture():
    def render(**kwargs):
        style = ConcreteStyle(mottling=0, roughness=0, sand=0, gradient=0, **kwargs)
        return render_concrete((128, 128), np.random.default_rng(0), style)[..., 1]

    bare = render(pores=0)
    assert render(pores=20, pore_depth=0.8).min() < 0.6 * bare.min()
    assert render(pores=0, stones=0.4).std() > 10 * bare.std()


def test_bad_concrete_is_named():
    with pytest.raises(ValueError, match="pore_depth of concrete must lie between 0 and 1, got 3"):
        ConcreteStyle(pore_depth=3)
