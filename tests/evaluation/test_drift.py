import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import ks_2samp

from crack_pipeline.evaluation.drift import Limits, chance, distance, drift_table, measure_drift, paired_weights
from crack_pipeline.evaluation.drift_figure import drift_figure

NUMBERS = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


def photographs(number, seed=0, shift=0.0, cracks=0.5, copies=1):
    rng = np.random.default_rng(seed)
    value = np.repeat(rng.normal(shift, 1, -(-number // copies)), copies)[:number]
    label = np.where(np.arange(number) < cracks * number, "crack", "normal")
    return pd.DataFrame({"label": label, "group": np.arange(number) // copies + seed * 10**6, "value": value})


def verdict(earlier, new, **limits):
    return measure_drift(earlier, new, ["value"], Limits(**limits)).shifts[0]


@given(NUMBERS, NUMBERS)
def test_distance_is_that_of_kolmogorov_and_smirnov(first, second):
    assert distance(first, second) == pytest.approx(ks_2samp(first, second).statistic, abs=1e-9)
    assert distance(first, second) == pytest.approx(distance(second, first), abs=1e-12)


@given(NUMBERS, NUMBERS, st.data())
def test_a_weight_is_a_number_of_copies(first, second, data):
    copies = data.draw(st.lists(st.integers(1, 4), min_size=len(first), max_size=len(first)))
    assert distance(first, second, copies) == pytest.approx(distance(np.repeat(first, copies), second), abs=1e-9)


@given(NUMBERS, NUMBERS)
def test_the_unit_does_not_matter(first, second):
    assert distance(np.exp(first), np.exp(second)) == pytest.approx(distance(first, second))


def test_chance_is_that_of_a_test():
    rng = np.random.default_rng(0)
    for number in (30, 300):
        first, second = rng.normal(0, 1, number), rng.normal(0.3, 1, 2 * number)
        found = ks_2samp(first, second)
        assert chance(found.statistic, number, 2 * number) == pytest.approx(found.pvalue, rel=0.25)


@pytest.mark.parametrize(
    ("number", "shift", "expected"),
    [
        (400, 0.0, "stable"),
        (50_000, 0.1, "stable"),  # surely different, and not enough to matter
        (400, 1.0, "drifted"),
        (25, 0.3, "uncertain"),
        (3, 5.0, "too few"),
    ],
)
def test_a_drift_matters_and_is_no_chance(number, shift, expected):
    found = verdict(photographs(2 * number, seed=1), photographs(number, seed=2, shift=shift), least_distance=0.15)
    assert found.verdict == expected
    assert found.new_photographs == number


def test_of_equal_distributions_few_are_called_drifted():
    limits = Limits(least_distance=0.01)  # so that the test alone decides
    earlier = photographs(600, seed=1)
    drifted = [measure_drift(earlier, photographs(80, seed=2 + s), ["value"], limits).verdict for s in range(60)]
    assert drifted.count("drifted") <= 0.05 * len(drifted) + 4


def test_more_cracks_alone_are_no_drift():
    earlier, new = photographs(800, seed=1, cracks=0.1), photographs(400, seed=2, cracks=0.9)
    for table in (earlier, new):
        table.loc[table["label"] == "crack", "value"] += 4
    assert distance(earlier["value"], new["value"]) > 0.5
    assert verdict(earlier, new).verdict == "stable"


def test_copies_count_once():
    earlier = photographs(400, seed=1)
    copied = photographs(100, seed=2, copies=10, cracks=1.0)
    found = verdict(earlier, copied)
    assert (found.new_photographs, round(found.new_places)) == (100, 10)
    assert found.verdict == "too few"


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.floats(0, 1))
def test_weights_give_labels_the_same_shares(first, second, cracks, more):
    earlier, new, theirs, ours = paired_weights(
        photographs(first, 1, cracks=cracks), photographs(second, 2, cracks=more)
    )
    if len(ours):
        assert theirs.sum() == pytest.approx(1) and ours.sum() == pytest.approx(1)
        of_cracks = [w[(t["label"] == "crack").to_numpy()].sum() for t, w in ((earlier, theirs), (new, ours))]
        assert of_cracks[0] == pytest.approx(of_cracks[1])


def test_what_cannot_be_compared_is_left_out_and_said():
    earlier, new = photographs(100, seed=1, cracks=0.0), photographs(50, seed=2, cracks=0.6)
    found = measure_drift(earlier, new, ["value"], Limits())
    assert found.shifts[0].new_photographs == 20
    nothing = measure_drift(earlier.assign(value=np.nan), new.assign(value=np.nan), ["value"], Limits())
    assert (nothing.verdict, nothing.shifts[0].distance) == ("not measured", None)


@pytest.mark.parametrize(("shift", "expected"), [(0.0, "stable"), (1e-9, "drifted")])
def test_what_is_the_same_everywhere_drifts_where_it_is_another_thing(shift, expected):
    earlier, new = (photographs(100, seed=seed).assign(value=224.0) for seed in (1, 2))
    assert verdict(earlier, new.assign(value=224.0 + shift)).verdict == expected


def test_one_that_is_out_of_all_proportion_is_one_of_many():
    earlier, new = photographs(200, seed=1), photographs(100, seed=2)
    new.loc[0, "value"] = 1e30
    new.loc[1, "value"], earlier.loc[0, "value"] = np.nan, np.inf  # not measured
    found = verdict(earlier, new)
    assert (found.verdict, found.new_photographs, found.earlier_photographs) == ("stable", 99, 199)
    assert abs(found.new) < 1


def test_the_worst_verdict_counts_and_is_shown():
    earlier, new = (photographs(200, seed=seed) for seed in (1, 2))
    earlier["other"], new["other"] = earlier["value"], new["value"] + 3
    found = measure_drift(earlier, new, ["value", "other"], Limits())
    assert [shift.verdict for shift in found.shifts] == ["stable", "drifted"]
    assert found.verdict == "drifted"
    table = drift_table(found)
    assert table["quantity"].tolist() == ["value", "other"]
    assert (table["level"] == 0.025).all() and table["new"][1] - table["earlier"][1] == pytest.approx(3, abs=0.3)
    figure = drift_figure(found, earlier, new)
    assert [axes.get_title(loc="left")[:7] for axes in figure.axes] == ["stable,", "drifted"]


def test_without_photographs_the_figure_says_so():
    nothing = photographs(0)
    figure = drift_figure(measure_drift(nothing, nothing, ["value"], Limits()), nothing, nothing)
    assert any("no photographs" in text.get_text() for axes in figure.axes for text in axes.texts) or figure.texts


@pytest.mark.parametrize("wrong", [{"least_distance": 0}, {"false_alarms": 1}, {"least_photographs": 1}, {"other": 1}])
def test_limits_are_checked(wrong):
    with pytest.raises(ValidationError):
        Limits(**wrong)
