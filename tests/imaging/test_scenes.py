import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from crack_pipeline.imaging.scenes import render_scene


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.floats(0, 1), st.booleans(), st.sampled_from([(32, 32), (64, 96), (100, 80)]))
def test_a_scene_is_a_photograph_with_a_mask(seed, difficulty, cracked, shape):
    first, second = (render_scene(shape, np.random.default_rng(seed), difficulty, cracked) for _ in range(2))
    assert (first.image.shape, first.image.dtype) == ((*shape, 3), np.uint8)
    assert (first.mask.shape, first.mask.dtype) == (shape, np.bool_)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.mask, second.mask)
    if cracked:
        assert first.mask.sum() >= 0.3 * min(shape)
    else:
        assert not first.mask.any()


def test_cracks_are_darker_than_what_is_around_them():
    darker = []
    for seed in range(30):
        scene = render_scene((96, 96), np.random.default_rng(seed), 0.5, cracked=True)
        near = cv2.dilate(scene.mask.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
        darker.append(scene.image[near & ~scene.mask].mean() - scene.image[scene.mask].mean())
    assert np.mean(np.array(darker) > 5) > 0.95


def test_a_trivial_score_finds_easy_cracks_better_than_hard_ones():
    def auc(difficulty):
        scores, labels = [], []
        for seed in range(40):
            for cracked in (False, True):
                rng = np.random.default_rng([int(cracked), seed])
                image = render_scene((96, 96), rng, difficulty, cracked).image
                grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
                scores.append(np.median(grey) - np.percentile(grey, 1))
                labels.append(cracked)
        return roc_auc_score(labels, scores)

    easy, hard = auc(0.15), auc(0.85)
    assert easy > 0.97
    assert 0.7 < hard < easy


@pytest.mark.parametrize(
    ("shape", "difficulty", "message"),
    [((31, 64), 0.5, "32 x 32 px, got 31 x 64"), ((64, 64), 2, "between 0 and 1, got 2")],
)
def test_bad_arguments_are_named(shape, difficulty, message):
    with pytest.raises(ValueError, match=message):
        render_scene(shape, np.random.default_rng(0), difficulty)
