import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from crack_pipeline.evaluation.segmentation_counts import (
    PhotographCounts,
    count,
    from_table,
    level_of,
    to_levels,
    to_table,
    total_levels,
)
from crack_pipeline.imaging.crack_width import centreline, crack_widths
from crack_pipeline.imaging.photograph_stack import CRACK, IGNORED


def a_photograph(seed, shape=(23, 31), ignored=0.1):
    rng = np.random.default_rng(seed)
    mask = (rng.random(shape) < 0.1).astype(np.uint8)
    mask[rng.integers(shape[0]), :] = CRACK
    probability = np.clip(0.6 * np.roll(mask, 1, axis=0) + rng.normal(0.2, 0.2, shape), 0, 1).astype(np.float32)
    mask[rng.random(shape) < ignored] = IGNORED
    return probability, mask


photographs = st.builds(
    a_photograph, st.integers(0, 2**32), st.tuples(st.integers(1, 30), st.integers(1, 30)), st.sampled_from([0, 0.3, 1])
)
thresholds = st.integers(0, 255).map(lambda level: level / 256)


def near(area, distance):
    return distance_transform_edt(~area) <= distance if area.any() else np.zeros_like(area)


def check_same(a, b):
    assert (a.levels == b.levels).all() and (a.at is None) == (b.at is None)
    if a.at is not None:
        for name, value in vars(a.at).items():
            np.testing.assert_array_equal(value, getattr(b.at, name), err_msg=name)


@settings(max_examples=60)
@given(photographs, thresholds, st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0]))
def test_equal_to_counting_pixel_by_pixel(photograph, threshold, tolerance):
    probability, mask = photograph
    found = count(probability, mask, threshold, tolerance=tolerance, width_edges=(0, 2, 3, np.inf))
    counted, true = mask != IGNORED, mask == CRACK
    predicted = (probability >= threshold) & counted
    assert found.levels.sum() == counted.sum() and found.levels[1].sum() == true.sum()
    # the threshold can be chosen afterwards
    assert found.levels[1, level_of(threshold) :].sum() == (predicted & true).sum()
    assert found.levels[0, level_of(threshold) :].sum() == (predicted & ~true).sum()
    at = found.at
    assert at.predicted_near == (predicted & near(true, tolerance)).sum()
    assert at.true_near == (true & near(predicted, tolerance)).sum()
    lines = [centreline(predicted), centreline(true)]
    assert (at.predicted_line, at.predicted_line_hit) == (lines[0].sum(), (lines[0] & true).sum())
    assert (at.true_line, at.true_line_hit) == (lines[1].sum(), (lines[1] & predicted).sum())
    widths = crack_widths(true)
    for k, (low, high) in enumerate(((0, 2), (2, 3), (3, np.inf))):
        chosen = (widths >= low) & (widths < high)
        assert at.width_true[k] == chosen.sum()
        assert at.width_hit[k] == predicted[true][chosen].sum()
        assert at.width_near[k] == near(predicted, tolerance)[true][chosen].sum()


@settings(max_examples=40)
@given(photographs, thresholds, st.integers(0, 2**32))
def test_what_is_predicted_in_an_ignored_area_changes_nothing(photograph, threshold, seed):
    probability, mask = photograph
    other = probability.copy()
    other[mask == IGNORED] = np.random.default_rng(seed).random((mask == IGNORED).sum())
    check_same(count(probability, mask, threshold), count(other, mask, threshold))


def test_a_shifted_line_is_near_up_to_the_tolerance():
    mask = np.zeros((20, 40), np.uint8)
    mask[10] = CRACK
    for shift, expected in ((0, 40), (2, 40), (3, 0)):
        probability = np.roll(mask, shift, axis=0).astype(np.float32)
        at = count(probability, mask, 0.5).at
        assert (at.predicted_near, at.true_near) == (expected, expected)
    # a single pixel reaches in a disc, not in a square
    probability = np.zeros((20, 40), np.float32)
    probability[8, 20] = 1
    assert count(probability, mask, 0.5).at.true_near == 1
    probability[9, 20] = 1
    assert count(probability, mask, 0.5).at.true_near == 3


def test_widths_fall_into_classes_that_hold_their_lower_border():
    mask = np.zeros((60, 50), np.uint8)
    for top, width in ((5, 1), (15, 2), (25, 3), (35, 8)):
        mask[top : top + width] = CRACK
    found = count(np.zeros(mask.shape, np.float32), mask, 0.5).at
    assert found.width_true.tolist() == [50, 50 * 5, 0, 50 * 8, 0]
    assert found.width_hit.sum() == found.width_near.sum() == 0


@settings(max_examples=30)
@given(st.lists(photographs, min_size=1, max_size=4))
def test_levels_of_many_are_the_sum(several):
    total = total_levels(count(*photograph) for photograph in several)
    together = count(
        np.concatenate([p.ravel() for p, _ in several])[None], np.concatenate([m.ravel() for _, m in several])[None]
    )
    assert (total == together.levels).all()


@settings(max_examples=30)
@given(photographs, thresholds)
def test_levels_serve_as_well_as_probabilities(photograph, threshold):
    probability, mask = photograph
    check_same(count(to_levels(probability), mask, threshold), count(probability, mask, threshold))


@given(st.floats(0, 1, width=32), thresholds)
def test_a_level_keeps_the_side_of_every_threshold(probability, threshold):
    level = to_levels(np.array([probability], np.float32))[0]
    assert (level >= level_of(threshold)) == (probability >= threshold)


def test_every_part_of_a_large_photograph_is_counted(monkeypatch):
    photograph = a_photograph(0, (50, 40))
    whole = count(*photograph, 0.25)
    monkeypatch.setattr("crack_pipeline.evaluation.segmentation_counts._CELLS", 90)
    check_same(count(*photograph, 0.25), whole)


@pytest.mark.parametrize("threshold", [None, 0.5])
def test_a_table_keeps_everything_through_parquet(threshold):
    counts = [count(*a_photograph(seed), threshold) for seed in range(3)]
    table = to_table(["a", "b", "c"], counts)
    assert list(table["image_id"]) == ["a", "b", "c"] and ("width_true" in table) == (threshold is not None)
    stored = io.BytesIO()
    table.to_parquet(stored)
    for back in (table, pd.read_parquet(stored)):
        for before, after in zip(counts, from_table(back), strict=True):
            check_same(before, after)
            assert after.levels.dtype == np.int64
    assert from_table(to_table([], [])) == []
    backwards = from_table(pd.read_parquet(stored).iloc[::-1])
    check_same(backwards[0], counts[2])


def test_a_table_of_some_with_a_threshold_is_refused():
    with pytest.raises(ValueError, match="1 of 2 photographs have counts at a threshold"):
        to_table(["a", "b"], [count(*a_photograph(0)), count(*a_photograph(1), 0.5)])
    with pytest.raises(ValueError, match="1 names for 0 counts"):
        to_table(["a"], [])


def test_tiny_and_empty_photographs():
    assert count(np.zeros((0, 5), np.float32), np.zeros((0, 5), np.uint8), 0.5).levels.sum() == 0
    one = count(np.ones((1, 1), np.float32), np.ones((1, 1), np.uint8), 0.5)
    assert one.levels[1, 255] == 1 and one.at.true_near == one.at.predicted_near == 1
    narrow = count(np.ones((300, 1), np.float32), np.ones((300, 1), np.uint8), 0.5)
    assert narrow.at.width_true.sum() == narrow.at.width_near.sum() == 300


@pytest.mark.parametrize(
    ("probability", "mask", "options", "message"),
    [
        (np.full((2, 2), np.nan, np.float32), np.zeros((2, 2), np.uint8), {}, "got 4 values that are not"),
        (np.full((2, 2), 3.5, np.float32), np.zeros((2, 2), np.uint8), {}, "between 0 and 1, got 3.5 to 3.5"),
        (np.zeros((2, 2), bool), np.zeros((2, 2), np.uint8), {}, "float .* or uint8 .*, got bool"),
        (np.zeros((2, 3), np.float32), np.zeros((2, 2), np.uint8), {}, r"got \(2, 3\) and \(2, 2\)"),
        (np.zeros((2, 2), np.float32), np.zeros((2, 2)), {}, "mask must be uint8, got float64"),
        (np.zeros((2, 2), np.float32), np.full((2, 2), 255, np.uint8), {}, r"2 \(ignored\), got 255"),
        (np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8), {"threshold": 0.3}, "got 0.3: take 0.30078125"),
        (np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8), {"threshold": 1.0}, "got 1.0: take 0.99609375"),
        (np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8), {"threshold": np.nan}, "got nan"),
        (
            np.zeros((2, 2), np.float32),
            np.zeros((2, 2), np.uint8),
            {"threshold": 0.5, "width_edges": (0, 4, 2)},
            r"rise .* got \[0, 4, 2\]",
        ),
        (
            np.zeros((2, 2), np.float32),
            np.zeros((2, 2), np.uint8),
            {"threshold": 0.5, "tolerance": -1},
            "tolerance .* got -1",
        ),
    ],
)
def test_wrong_arguments_are_named(probability, mask, options, message):
    with pytest.raises(ValueError, match=message):
        count(probability, mask, **options)


def test_counts_without_a_threshold_are_only_levels():
    assert isinstance(count(*a_photograph(0)), PhotographCounts) and count(*a_photograph(0)).at is None
