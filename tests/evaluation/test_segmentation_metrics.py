import json
import time
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from crack_pipeline.evaluation.segmentation_counts import PhotographCounts, count, to_levels, total_levels
from crack_pipeline.evaluation.segmentation_metrics import (
    WITH_INTERVAL,
    by_width_table,
    choose_threshold,
    metrics_table,
    photograph_table,
    segmentation_metrics,
    threshold_curve,
)
from crack_pipeline.imaging.crack_width import centreline
from crack_pipeline.imaging.photograph_stack import CRACK, IGNORED


def photographs(seed, number=5):
    """Make photographs of several sizes; some are without a crack, some have an ignored area."""
    rng = np.random.default_rng(seed)
    made = []
    for k in range(number):
        shape = tuple(rng.integers(5, 25, 2))
        mask = (rng.random(shape) < 0.15).astype(np.uint8) if k % 3 else np.zeros(shape, np.uint8)
        probability = np.clip(0.4 * mask + rng.normal(0.3, 0.2, shape), 0, 1).astype(np.float32)
        mask[rng.random(shape) < 0.1] = IGNORED
        made.append((probability, mask))
    return made


def counted(made, threshold=None):
    return [count(probability, mask, threshold) for probability, mask in made]


def pooled(made, threshold):
    """Return what is true and what is predicted of all pixels that count, in one row."""
    kept = [mask != IGNORED for _, mask in made]
    true = np.concatenate([(mask == CRACK)[k] for (_, mask), k in zip(made, kept, strict=True)])
    predicted = np.concatenate([(p >= threshold)[k] for (p, _), k in zip(made, kept, strict=True)])
    return true, predicted


seeds, levels = st.integers(0, 2**32), st.integers(1, 255)


@settings(max_examples=50)
@given(seeds, levels)
def test_equal_to_numpy_on_the_pixels(seed, level):
    threshold = level / 256
    made = photographs(seed)
    found = segmentation_metrics(counted(made, threshold), threshold, np.arange(5), resamples=0)
    true, predicted = pooled(made, threshold)
    tp, fp, fn = (true & predicted).sum(), (~true & predicted).sum(), (true & ~predicted).sum()
    tn = (~true & ~predicted).sum()
    assume(tp + fp > 0 and tp + fn > 0)
    assert found["precision"] == tp / (tp + fp) and found["recall"] == tp / (tp + fn)
    assert found["dice"] == found["f1"] == 2 * tp / (2 * tp + fp + fn)
    assert found["iou"] == tp / (tp + fp + fn)
    assert found["miou"] == (tp / (tp + fp + fn) + tn / (tn + fp + fn)) / 2
    dice = []
    for photograph in made:
        t, p = pooled([photograph], threshold)
        dice.append(1.0 if not t.any() and not p.any() else 2 * (t & p).sum() / (t.sum() + p.sum()))
    assert found["dice_per_image"] == pytest.approx(np.mean(dice), abs=1e-12)
    np.testing.assert_allclose(photograph_table(counted(made), threshold)["dice"], dice)
    kept = [mask != IGNORED for _, mask in made]
    values = np.concatenate([to_levels(p)[k] for (p, _), k in zip(made, kept, strict=True)])
    assert found["average_precision"] == pytest.approx(average_precision_score(true, values), abs=1e-12)
    assert found["n"] == {"photographs": 5, "pixels": len(true), "crack_pixels": true.sum()}


@settings(max_examples=25)
@given(seeds)
def test_tolerant_f1_and_cldice_are_harmonic_means_of_pooled_shares(seed):
    made = photographs(seed)
    counts = counted(made, 0.5)
    found = segmentation_metrics(counts, 0.5, np.arange(5), resamples=0)
    true, predicted = pooled(made, 0.5)
    assume(true.any() and predicted.any())
    precision = sum(c.at.predicted_near for c in counts) / predicted.sum()
    recall = sum(c.at.true_near for c in counts) / true.sum()
    assert found["f1_tolerant"] == pytest.approx(2 * precision * recall / (precision + recall))
    assert found["f1_tolerant"] >= found["f1"]
    inside = outside = found_line = line = 0
    for probability, mask in made:
        t, p = mask == CRACK, (probability >= 0.5) & (mask != IGNORED)
        inside, outside = inside + (centreline(p) & t).sum(), outside + (centreline(p) & ~t).sum()
        found_line, line = found_line + (centreline(t) & p).sum(), line + centreline(t).sum()
    a, b = inside / (inside + outside), found_line / line
    assert found["cldice"] == pytest.approx(2 * a * b / (a + b))


@settings(max_examples=25)
@given(seeds)
def test_the_curve_is_the_metrics_at_every_threshold(seed):
    counts = counted(photographs(seed))
    curve = threshold_curve(total_levels(counts))
    assert curve["threshold"].tolist() == [k / 256 for k in range(256)]
    for level in (0, 1, 77, 128, 255):
        found = segmentation_metrics(counts, level / 256, np.arange(5), resamples=0)
        for name in ("precision", "recall", "dice", "iou", "miou"):
            expected = np.nan if found[name] is None else found[name]
            np.testing.assert_equal(curve.loc[level, name], expected)


@settings(max_examples=25)
@given(seeds, st.sampled_from(["dice", "miou"]))
def test_no_threshold_is_better_than_the_chosen_one(seed, objective):
    total = total_levels(counted(photographs(seed)))
    assume(total[1].any())
    curve, threshold = threshold_curve(total), choose_threshold(total, objective)
    chosen = curve.loc[curve["threshold"] == threshold, objective].item()
    assert chosen == curve[objective].iloc[1:].max() and 0 < threshold < 1


def test_the_middle_of_the_longest_best_range_is_chosen():
    levels = np.zeros((2, 256), np.int64)
    levels[1, 255], levels[0, 0] = 10, 100
    assert choose_threshold(levels) == 0.5
    # 10 of 10 and 10 of 10 + 20 wrong below; the best range begins above level 100
    levels[0, 100] = 20
    assert choose_threshold(levels) == (101 + (255 - 101) // 2) / 256
    # all cracks at level 40: whatever is above misses them
    levels[:] = 0
    levels[1, 40], levels[0, 10] = 5, 5
    assert choose_threshold(levels) == 25 / 256


def test_a_threshold_needs_a_crack_and_a_known_objective():
    levels = np.ones((2, 256), np.int64)
    levels[1] = 0
    with pytest.raises(ValueError, match="none of their pixels is marked as crack"):
        choose_threshold(levels)
    with pytest.raises(ValueError, match="'dice' or 'miou', got 'area'"):
        choose_threshold(np.ones((2, 256), np.int64), "area")


def test_what_comes_back_is_what_the_contract_says():
    counts = counted(photographs(3, 30), 0.5)
    found = segmentation_metrics(counts, 0.5, np.arange(30) // 2, resamples=60, seed=1)
    assert set(found) == {*WITH_INTERVAL, *(f"{name}_ci95" for name in WITH_INTERVAL), "n"}
    assert {"dice", "iou", "precision", "recall", "f1", "dice_per_image", "miou", "f1_tolerant"} <= set(found)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for name in WITH_INTERVAL:
        low, high = found[f"{name}_ci95"]
        assert 0 <= low <= found[name] <= high <= 1 and low < high
    assert found == segmentation_metrics(counts, 0.5, np.arange(30) // 2, resamples=60, seed=1)
    assert found != segmentation_metrics(counts, 0.5, np.arange(30) // 2, resamples=60, seed=2)


def test_the_interval_is_that_of_drawing_whole_groups():
    made = photographs(4, 24)
    groups = np.arange(24) // 3
    found = segmentation_metrics(counted(made, 0.5), 0.5, groups, resamples=3000)
    rng = np.random.default_rng(0)
    plain = []
    for _ in range(400):
        rows = np.concatenate([np.flatnonzero(groups == g) for g in rng.integers(0, 8, 8)])
        true, predicted = pooled([made[row] for row in rows], 0.5)
        plain.append(2 * (true & predicted).sum() / (true.sum() + predicted.sum()))
    assert found["dice_ci95"] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.02)
    # copies of the same photographs, in their groups, are no more evidence
    copied = segmentation_metrics(counted(made, 0.5) * 2, 0.5, np.tile(groups, 2), resamples=3000)
    assert copied["dice_ci95"] == pytest.approx(found["dice_ci95"], abs=1e-12)


def one(true, predicted, ignored=False):
    mask = np.zeros((20, 20), np.uint8)
    mask[5] = CRACK * true
    probability = np.zeros((20, 20), np.float32)
    probability[5] = predicted
    if ignored:
        mask[:] = IGNORED
    return count(probability, mask, 0.5)


def test_what_is_undefined_is_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nothing, alarm, missed, right, unknown = (
            segmentation_metrics([photograph] * 2, 0.5, [0, 1], resamples=20)
            for photograph in (one(0, 0), one(0, 1), one(1, 0), one(1, 1), one(1, 1, ignored=True))
        )
    assert nothing["dice"] is nothing["iou"] is nothing["miou"] is nothing["precision"] is nothing["recall"] is None
    assert nothing["f1_tolerant"] is nothing["cldice"] is nothing["average_precision"] is nothing["dice_ci95"] is None
    assert nothing["dice_per_image"] == 1 and nothing["dice_per_image_ci95"] == [1, 1]
    assert alarm["dice"] == alarm["f1_tolerant"] == alarm["cldice"] == alarm["precision"] == 0
    assert alarm["recall"] is alarm["average_precision"] is alarm["recall_ci95"] is None
    assert missed["dice"] == missed["f1_tolerant"] == missed["cldice"] == missed["recall"] == 0
    assert missed["precision"] is None and missed["miou"] == pytest.approx(380 / 400 / 2)
    assert all(right[name] == 1 for name in WITH_INTERVAL)
    assert all(unknown[name] is None for name in WITH_INTERVAL) and unknown["n"]["pixels"] == 0


def test_metrics_without_counts_at_a_threshold_leave_two_out():
    found = segmentation_metrics(counted(photographs(0)), 0.5, np.arange(5), resamples=10)
    assert found["f1_tolerant"] is found["cldice"] is found["cldice_ci95"] is None and found["dice"] > 0


def test_photographs_one_by_one():
    table = photograph_table([one(1, 1), one(0, 0), one(1, 0), one(1, 1, ignored=True)], 0.5)
    np.testing.assert_equal(table["dice"].tolist(), [1, 1, 0, np.nan])
    np.testing.assert_equal(table["precision"].tolist(), [1, np.nan, np.nan, np.nan])
    assert table["crack_pixels"].tolist() == [20, 0, 20, 0] and table["predicted_pixels"].tolist() == [20, 0, 0, 0]
    assert table["pixels"].tolist() == [400, 400, 400, 0]
    assert len(photograph_table([], 0.5)) == 0


def striped(widths, found):
    mask, probability = np.zeros((120, 60), np.uint8), np.zeros((120, 60), np.float32)
    for k, width in enumerate(widths):
        mask[30 * k + 3 : 30 * k + 3 + width] = CRACK
        probability[30 * k + 3 : 30 * k + 3 + width, : int(60 * found[k])] = 1
    return count(probability, mask, 0.5)


def test_results_by_width():
    counts = [striped((1, 3, 20), (0.1, 0.5, 1.0)), striped((1, 3, 20), (0.3, 0.7, 1.0))]
    table = by_width_table(counts, [0, 1], resamples=200)
    assert table["width"].tolist() == [
        "below 2 px",
        "2 to below 4 px",
        "4 to below 8 px",
        "8 to below 16 px",
        "16 px and more",
    ]
    assert table["true_pixels"].tolist() == [120, 360, 0, 0, 2400]
    assert table["share"].tolist() == pytest.approx([120 / 2880, 360 / 2880, 0, 0, 2400 / 2880])
    np.testing.assert_allclose(table["recall"], [0.2, 0.6, np.nan, np.nan, 1.0])
    np.testing.assert_allclose(table["recall_low"], [0.1, 0.5, np.nan, np.nan, 1.0])
    np.testing.assert_allclose(table["recall_high"], [0.3, 0.7, np.nan, np.nan, 1.0])
    # two columns more on the right are near what was found
    np.testing.assert_allclose(table["recall_tolerant"].iloc[0], 0.2 + 2 / 60)
    assert (table["recall_tolerant_low"].dropna() <= table["recall_tolerant"].dropna()).all()
    bare = by_width_table(counts, [0, 1], resamples=0)
    assert bare["recall_low"].isna().all() and bare["recall"].iloc[0] == pytest.approx(0.2)


def test_other_thresholds_and_lengths_are_refused():
    counts = counted(photographs(0), 0.5)
    with pytest.raises(ValueError, match=r"counted at the threshold 0.5, and 0.25 is asked for"):
        segmentation_metrics(counts, 0.25, np.arange(5))
    with pytest.raises(ValueError, match=r"above 0, got 5 and \(4,\)"):
        segmentation_metrics(counts, 0.5, np.arange(4))
    with pytest.raises(ValueError, match=r"above 0, got 0 and \(0,\)"):
        segmentation_metrics([], 0.5, [])
    with pytest.raises(ValueError, match="5 photographs, 0 of them so counted"):
        by_width_table(counted(photographs(0)), np.arange(5))
    other = [count(*photograph, 0.5, width_edges=(0, 3, np.inf)) for photograph in photographs(0)]
    with pytest.raises(ValueError, match="different classes of width"):
        by_width_table([*counts, *other], np.arange(10))
    other = [count(*photograph, 0.5, tolerance=3) for photograph in photographs(0)]
    with pytest.raises(ValueError, match="different tolerances"):
        segmentation_metrics([*counts, *other], 0.5, np.arange(10))


def test_a_thousand_resamples_of_a_thousand_photographs_are_quick():
    rng = np.random.default_rng(0)
    counts = [PhotographCounts(rng.integers(0, 1000, (2, 256))) for _ in range(1000)]
    started = time.process_time()
    segmentation_metrics(counts, 0.5, np.arange(1000))
    assert time.process_time() - started < 5


def test_table_has_a_row_per_set():
    full = segmentation_metrics(counted(photographs(0), 0.5), 0.5, np.arange(5), resamples=20)
    bare = segmentation_metrics([one(0, 0)], 0.5, [0], resamples=0)
    table = metrics_table({"threshold": 0.5, "sets": {"test": full, "evaluation": bare}})
    low, high = full["dice_ci95"]
    assert table.loc[0, "dice"] == f"{full['dice']:.4f} [{low:.4f}, {high:.4f}]"
    assert table.loc[0, "miou"] == full["miou"] and table.loc[0, "photographs"] == 5
    assert table.loc[1, "dice"] == "undefined" and np.isnan(table.loc[1, "iou"])
    assert list(metrics_table({"sets": {}}).columns) == list(table.columns)
