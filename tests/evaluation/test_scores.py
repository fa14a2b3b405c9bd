import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from crack_pipeline.evaluation.scores import DarkTail, MeanSquaredError, Ridge, Score, contrast

SIGNED = [
    Ridge(width=1),
    Ridge(width=1.5),
    Ridge(width=3),
    Ridge(width=4),
    DarkTail(smoothing=0),
    DarkTail(smoothing=1),
]
ALL = [MeanSquaredError(), *SIGNED]
FEW = settings(max_examples=15)
seeds = st.integers(0, 10_000)


def named(score):
    return score.name


def texture(seed, size=64, number=1):
    """Photographs of sound concrete and what is expected of them: (n, 1, size, size), in [0.3, 0.7]."""
    noise = torch.Generator().manual_seed(seed)
    expected = 0.5 + 0.1 * torch.rand(number, 1, 1, 1, generator=noise)
    images = expected + 0.02 * torch.randn(number, 1, size, size, generator=noise)
    return images, expected.expand_as(images).clone()


def with_line(images, depth, column=30, width=3):
    lined = images.clone()
    lined[..., column : column + width] -= depth
    return lined


@pytest.mark.parametrize("score", SIGNED, ids=named)
@FEW
@given(seed=seeds, column=st.integers(20, 40))
def test_a_dark_line_raises_the_score_far_more_than_a_bright_one(score, seed, column):
    images, expected = texture(seed)
    sound = score(images, expected)
    dark = score(with_line(images, 0.2, column), expected)
    bright = score(with_line(images, -0.2, column), expected)
    assert dark > 2 * sound
    if isinstance(score, DarkTail):
        assert bright < 1.2 * sound
    assert bright < 0.8 * dark  # beside a bright line it is darker: filters for lines answer to that
    assert score(with_line(images, 0.3, column), expected) > dark


@pytest.mark.parametrize("score", SIGNED, ids=named)
@FEW
@given(seed=seeds, offset=st.floats(-0.2, 0.2))
def test_brightness_does_not_matter(score, seed, offset):
    images, expected = texture(seed)
    images = with_line(images, 0.1)
    torch.testing.assert_close(score(images + offset, expected), score(images, expected), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("score", ALL, ids=named)
@FEW
@given(seed=seeds, quarters=st.integers(0, 3), mirrored=st.booleans())
def test_turns_and_flips_do_not_matter(score, seed, quarters, mirrored):
    images, expected = texture(seed)
    images = with_line(images, 0.1)

    def turned(tensor):
        tensor = torch.rot90(tensor, quarters, (2, 3))
        return tensor.flip(3) if mirrored else tensor

    torch.testing.assert_close(score(turned(images), turned(expected)), score(images, expected), rtol=0.02, atol=1e-5)


@pytest.mark.parametrize("score", ALL, ids=named)
def test_each_image_is_scored_by_itself(score):
    images, expected = texture(3, number=4)
    together = score(images, expected)
    assert together.shape == (4,)
    alone = torch.cat([score(images[i : i + 1], expected[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("score", ALL, ids=named)
def test_the_map_shows_where_the_crack_is(score):
    images, expected = texture(5, size=128)
    found = score.map(with_line(images, 0.3, column=90), expected)
    assert found.shape[:2] == (1, 1)
    scale = 128 / found.shape[-1]
    strongest = found[0, 0, found.shape[2] // 4 : -found.shape[2] // 4].mean(dim=0).argmax().item()
    assert abs((strongest + 0.5) * scale - 91.5) < 4


@FEW
@given(seed=seeds, channels=st.sampled_from([1, 3]))
def test_the_published_score_is_the_mean_squared_error(seed, channels):
    images, expected = np.random.default_rng(seed).random((2, 3, channels, 9, 11)).astype(np.float32)
    found = MeanSquaredError()(torch.from_numpy(images), torch.from_numpy(expected))
    np.testing.assert_allclose(found, ((images - expected) ** 2).mean(axis=(1, 2, 3)), rtol=1e-5)


@FEW
@given(seed=seeds, channels=st.sampled_from([1, 3]), size=st.integers(5, 40))
def test_the_baseline_is_median_minus_first_percentile(seed, channels, size):
    images = np.random.default_rng(seed).random((3, channels, size, size)).astype(np.float32)
    grey = images.mean(axis=1).reshape(3, -1)
    # torch takes the lower of two middle values where numpy takes their mean
    middle = np.percentile(grey, 50, axis=1, method="lower")
    found = contrast(torch.from_numpy(images))
    np.testing.assert_allclose(found, middle - np.percentile(grey, 1, axis=1), atol=1e-5)


@FEW
@given(seed=seeds, quantile=st.floats(0.6, 0.995))
def test_the_dark_tail_is_an_upper_quantile_of_the_residual(seed, quantile):
    images, expected = texture(seed, size=40)
    residual = (expected - images).numpy().ravel()
    lower = np.quantile(residual, quantile, method="lower")
    upper = np.quantile(residual, quantile, method="higher")
    median = np.percentile(residual, 50, method="lower")
    found = DarkTail(smoothing=0, quantile=quantile)(images, expected).item()
    spacing = 0.005  # the rank may differ by one where the quantile falls between two pixels
    assert lower - median - spacing <= found <= upper - median + spacing


@pytest.mark.parametrize("score", ALL, ids=named)
@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 1, 8, 8), (1, 3, 16, 16), (1, 1, 31, 33), (1, 1, 40, 24)])
def test_tiny_images_are_scored(score, shape):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    found = score(images, torch.full(shape, 0.5))
    assert found.shape == (shape[0],)
    assert torch.isfinite(found).all()


def test_every_score_has_a_name_of_its_own():
    scores = [*ALL, Ridge(width=1, quantile=0.98), DarkTail(smoothing=1, quantile=0.995), Ridge(width=1.25)]
    assert len({score.name for score in scores}) == len(scores)


@given(
    score=st.one_of(
        st.just(MeanSquaredError()),
        st.builds(Ridge, width=st.floats(0.6, 16), quantile=st.floats(0.51, 0.99)),
        st.builds(DarkTail, smoothing=st.floats(0, 20), quantile=st.floats(0.51, 0.99)),
    )
)
def test_scores_survive_json(score):
    adapter = TypeAdapter(Score)
    assert adapter.validate_json(adapter.dump_json(score)) == score


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "ridge", "width": 0},
        {"kind": "ridge", "quantile": 1},
        {"kind": "dark_tail", "smoothing": -1},
        {"kind": "mse", "width": 1},
        {"kind": "ssim"},
        {},
    ],
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(ValidationError):
        TypeAdapter(Score).validate_python(wrong)
