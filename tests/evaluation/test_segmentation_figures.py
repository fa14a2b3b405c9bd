import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot
from matplotlib.colors import to_rgb

from crack_pipeline.evaluation.segmentation_counts import count, total_levels
from crack_pipeline.evaluation.segmentation_figures import (
    FALSE_ALARM,
    HIT,
    MISS,
    Example,
    choose_examples,
    examples,
    overlay,
    precision_recall,
    threshold_figure,
    width_figure,
)
from crack_pipeline.evaluation.segmentation_metrics import by_width_table, segmentation_metrics, threshold_curve


def is_colour(picture, colour):
    return (picture == np.rint(255 * np.array(to_rgb(colour)))).all(axis=-1)


def a_photograph(seed=0, shape=(40, 60)):
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    mask[10:14] = 1
    mask[30:, 40:] = 2
    return rng.integers(60, 200, (*shape, 3), dtype=np.uint8), mask, np.roll(mask == 1, 2, axis=0)


def counts_of(*dice):
    """Make photographs with a Dice of about so much; None: without any crack."""
    made = []
    for value in dice:
        mask, probability = np.zeros((30, 100), np.uint8), np.zeros((30, 100), np.float32)
        if value is not None:
            mask[10], probability[10, : round(100 * value / (2 - value))] = 1, 1
        made.append(count(probability, mask, 0.5))
    return made


@pytest.fixture
def curve():
    return threshold_curve(total_levels(counts_of(0.4, 0.9, None)))


def test_precision_recall_names_each_curve(curve, words):
    sound = threshold_curve(total_levels(counts_of(None)))
    found = segmentation_metrics(counts_of(0.4, 0.9, None), 0.5, [0, 1, 2], resamples=0)
    figure = precision_recall({"unet": curve, "classic": curve, "sound": sound}, {"unet": 0.5}, dashed=["classic"])
    text = words(figure)
    assert f"unet: average precision {found['average_precision']:.3f}" in text
    assert f"Dice {found['dice']:.3f} at threshold 0.50" in text and text.count("at threshold 0.50") == 1
    assert "sound: no crack" in text and "at the threshold" in text and "0.9" in text
    assert words(precision_recall({"unet": curve}, 0.5)).count("at threshold 0.50") == 1
    assert "at threshold" not in words(precision_recall({"unet": curve}))
    words(precision_recall({}))


def test_metrics_against_threshold_are_named_at_the_chosen_one(curve, words):
    text = words(threshold_figure(curve, 0.5))
    row = curve[curve["threshold"] == 0.5].iloc[0]
    assert f"Dice {row['dice']:.3f}" in text and f"recall {row['recall']:.3f}" in text
    assert "at threshold 0.50" in text
    sound = threshold_curve(total_levels(counts_of(None)))
    assert "Dice undefined" in words(threshold_figure(sound, 0.5))


@pytest.mark.parametrize("resamples", [0, 30])
def test_widths_are_shown_with_their_share(words, resamples):
    counts = counts_of(0.4, 0.9, None)
    table = by_width_table(counts, [0, 1, 2], resamples=resamples)
    text = words(width_figure(table))
    assert "below 2 px\n100% of crack" in text and "16 px and more\nnone" in text
    assert f"{100 * table['recall'].iloc[0]:.0f}" in text and "found within 2 px" in text
    assert "found within 3 px" in words(width_figure(table, tolerance=3))
    assert "no pixel is cracked" in words(width_figure(by_width_table(counts_of(None), [0], resamples=resamples)))


def test_every_pixel_of_an_overlay_says_what_it_is():
    photograph, mask, predicted = a_photograph()
    drawn = overlay(photograph, mask, predicted)
    assert drawn.shape == photograph.shape and drawn.dtype == np.uint8
    true, counted = mask == 1, mask != 2
    assert (is_colour(drawn, HIT) == (true & predicted)).all()
    assert (is_colour(drawn, MISS) == (true & ~predicted)).all()
    assert (is_colour(drawn, FALSE_ALARM) == (predicted & ~true & counted)).all()
    unmarked = ~true & ~predicted & counted
    assert np.ptp(drawn[unmarked].astype(int), axis=1).max() == 0 and drawn[unmarked].max() < 180
    ignored = drawn[mask == 2].astype(int)
    assert 0.2 < (np.ptp(ignored, axis=1) > 10).mean() < 0.6
    assert (is_colour(overlay(photograph[..., 0], None, predicted), HIT) == predicted).all()


@settings(max_examples=30)
@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), st.integers(1, 60), st.sampled_from(["hit", "miss", "alarm"]))
def test_a_single_marked_pixel_survives_shrinking(shape, longest, kind):
    rng = np.random.default_rng(shape[0])
    y, x = rng.integers(shape)
    mask, predicted = np.zeros(shape, np.uint8), np.zeros(shape, bool)
    mask[y, x], predicted[y, x] = kind != "alarm", kind != "miss"
    drawn = overlay(np.full(shape, 120, np.uint8), mask, predicted, longest=longest)
    assert max(drawn.shape[:2]) == min(longest, max(shape))
    marked = is_colour(drawn, {"hit": HIT, "miss": MISS, "alarm": FALSE_ALARM}[kind])
    assert marked.sum() == 1
    # and it stays where it was
    row, column = np.argwhere(marked)[0]
    assert abs((row + 0.5) / drawn.shape[0] - (y + 0.5) / shape[0]) <= 1 / drawn.shape[0]
    assert abs((column + 0.5) / drawn.shape[1] - (x + 0.5) / shape[1]) <= 1 / drawn.shape[1]


def test_a_shrunk_pixel_takes_what_is_most_in_it():
    mask, predicted = np.zeros((40, 40), np.uint8), np.zeros((40, 40), bool)
    mask[:20, :10] = 1
    predicted[:20, :9] = True
    drawn = overlay(np.zeros((40, 40), np.uint8), mask, predicted, longest=4)
    assert is_colour(drawn, HIT)[:2, 0].all() and is_colour(drawn, HIT).sum() == 2


def test_sizes_must_agree():
    photograph, mask, predicted = a_photograph()
    with pytest.raises(ValueError, match=r"one size, got \(40, 60\) and \(40, 59\)"):
        overlay(photograph, mask[:, 1:], predicted)
    with pytest.raises(ValueError, match=r"one size, got \(40, 60\) and \(39, 60\)"):
        overlay(photograph, None, predicted[1:])


def test_examples_show_photograph_and_overlay_with_a_legend(words):
    photograph, mask, predicted = a_photograph()
    sample = Example(photograph, mask, predicted, "best: a.jpg")
    figure = examples([sample, Example(photograph[..., 0], mask % 2, predicted, "worst: b.jpg")], title="Test")
    text = words(figure)
    assert len(figure.axes) == 4
    for expected in ("Test", "best: a.jpg", "worst: b.jpg", "crack, missed", "false alarm", "ignored", "photograph"):
        assert expected in text
    unlabelled = words(examples([Example(photograph, None, predicted, "new.jpg")]))
    assert "found" in unlabelled and "missed" not in unlabelled
    assert "ignored" not in words(examples([Example(photograph, mask % 2, predicted)]))
    assert "no photograph" in words(examples([], title="Test"))
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("shape", [(3000, 1), (1, 3000), (2500, 1800), (7, 5)])
def test_photographs_of_any_size_fit(shape, words):
    photograph = np.full((*shape, 3), 130, np.uint8)
    predicted = np.zeros(shape, bool)
    predicted[shape[0] // 2, shape[1] // 2] = True
    figure = examples([Example(photograph, None, predicted)])
    words(figure)
    shown, drawn = (np.asarray(axes.images[0].get_array()) for axes in figure.axes)
    assert shown.shape == drawn.shape and drawn.shape[0] <= 660 and drawn.shape[1] <= 548
    assert is_colour(drawn, HIT).sum() == 1
    assert figure.get_figheight() < 6


@settings(max_examples=40)
@given(st.lists(st.sampled_from([None, 0.0, 0.2, 0.5, 0.8, 1.0]), min_size=1, max_size=9), st.integers(1, 4))
def test_best_median_and_worst_in_order_and_none_twice(dice, each):
    chosen = choose_examples(counts_of(*dice), 0.5, each)
    assert len({c.row for c in chosen}) == len(chosen)
    values = [c.dice for c in chosen]
    assert values == sorted(values, reverse=True)
    kinds = [c.kind for c in chosen]
    assert kinds == sorted(kinds, key=["best", "median", "worst"].index)
    shown = [d for d in dice if d is not None] or dice
    assert len(chosen) == min(3 * each, len(shown)) or len(shown) < 3 * each
    assert chosen, "something is always shown"
    if len(shown) > 1:
        assert kinds.count("best") == kinds.count("worst") >= 1
    if any(d is not None for d in dice):
        assert all(dice[c.row] is not None for c in chosen)


def test_the_examples_are_the_extremes_and_the_middle():
    chosen = choose_examples(counts_of(0.5, None, 1.0, 0.0, 0.8, 0.2), 0.5, 1)
    assert [(c.kind, c.row) for c in chosen] == [("best", 2), ("median", 0), ("worst", 3)]
    assert chosen[1].dice == pytest.approx(0.5, abs=0.01)
