import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from crack_pipeline.evaluation.metrics import detection_measure, detection_metrics
from crack_pipeline.evaluation.promotion import (
    Criteria,
    Evidence,
    Sampling,
    evidence_numbers,
    evidence_table,
    weigh,
)
from crack_pipeline.evaluation.promotion_figure import promotion_figure
from crack_pipeline.evaluation.segmentation_counts import count
from crack_pipeline.evaluation.segmentation_metrics import segmentation_measure, segmentation_metrics

CRITERIA = Criteria(
    chosen="roc_auc",
    metrics={"recall": {"may_lose": 0.05}, "roc_auc": {"may_lose": 0.02, "least": 0.7}, "average_precision": {}},
)
QUICK = Sampling(resamples=300)


def detector(quality, n, seed, *, copies=1, hard=None):
    """Scores of photographs, of which half are cracked; the higher the quality, the better they are told apart."""
    rng = np.random.default_rng(seed)
    is_crack = np.arange(n) % 2 == 0
    places = (rng.normal(size=n) if hard is None else hard) + quality * is_crack
    return detection_measure(np.repeat(is_crack, copies), np.repeat(places, copies), quality / 2)


def weighed(ours, theirs, n, sampling=QUICK, copies=1):
    return weigh(ours, theirs, np.repeat(np.arange(n), copies), CRITERIA, sampling)


@given(quality=st.floats(0, 4), n=st.integers(20, 60), seed=st.integers(0, 999), lose=st.sampled_from([0.0, 0.01, 1.0]))
@settings(max_examples=25)
def test_no_model_replaces_itself(quality, n, seed, lose):
    criteria = Criteria(chosen="recall", metrics={"recall": {"may_lose": lose}, "roc_auc": {"may_lose": lose}})
    model = detector(quality, n, seed)
    found = weigh(model, model, np.arange(n), criteria, QUICK)
    assert not found.promoted
    assert all(row.difference == row.low == row.high == 0 for row in found.rows)
    assert all(row.verdict == "not worse" for row in found.rows)  # also where nothing may be lost


@given(first=st.floats(0, 3), second=st.floats(0, 3), n=st.integers(20, 80), seed=st.integers(0, 999))
@settings(max_examples=25)
def test_what_is_gained_one_way_is_lost_the_other_way(first, second, n, seed):
    one, other = detector(first, n, seed), detector(second, n, seed + 1)
    there, back = weighed(one, other, n), weighed(other, one, n)
    assert not (there.promoted and back.promoted)
    for ours, theirs in zip(there.rows, back.rows, strict=True):
        assert ours.difference == pytest.approx(-theirs.difference, abs=1e-12)
        assert (ours.low, ours.high) == pytest.approx((-theirs.high, -theirs.low), abs=1e-12)


@given(quality=st.floats(0.2, 1.5), seed=st.integers(0, 999))
@settings(max_examples=15)
def test_a_model_that_is_better_everywhere_is_promoted(quality, seed):
    hard = np.random.default_rng(seed).normal(size=600)
    found = weighed(detector(quality + 1.5, 600, 0, hard=hard), detector(quality, 600, 0, hard=hard), 600)
    assert found.promoted and "better" in found.reason
    assert found.rows[0].metric == "roc_auc" and found.rows[0].low > 0


@pytest.mark.parametrize("copies", [1, 3])
def test_equal_models_are_seldom_promoted(copies):
    n, trials = 60, 200
    promoted = sum(
        weighed(
            detector(1.5, n, 2 * trial, copies=copies), detector(1.5, n, 2 * trial + 1, copies=copies), n, copies=copies
        ).promoted
        for trial in range(trials)
    )
    assert promoted <= 0.05 * trials


def test_what_may_be_lost_and_what_must_be_gained_decide():
    hard = np.random.default_rng(0).normal(size=800)
    better, worse = detector(2.2, 800, 0, hard=hard), detector(1.5, 800, 0, hard=hard)

    def found(ours, theirs, **standard):
        criteria = Criteria(chosen="roc_auc", metrics={"roc_auc": standard, "fpr": {"may_lose": 1, "must_gain": 1}})
        return weigh(ours, theirs, np.arange(800), criteria, QUICK)

    low = found(better, worse).rows[0].low
    assert found(better, worse, must_gain=low - 1e-6).promoted
    assert not found(better, worse, must_gain=low + 1e-6).promoted
    assert found(worse, better).rows[0].verdict == "worse" and "is worse on roc_auc" in found(worse, better).reason
    lowest = -found(worse, better).rows[0].low
    assert found(worse, better, may_lose=lowest + 1e-6).rows[0].verdict == "not worse"
    assert "not better on anything" in found(worse, better, may_lose=lowest + 1e-6).reason


def test_every_chance_to_be_better_makes_all_intervals_wider():
    models = detector(2.0, 100, 0), detector(1.5, 100, 1)
    three = weighed(*models, 100)
    alone = Criteria(chosen="roc_auc", metrics={"roc_auc": {}})
    one = weigh(*models, np.arange(100), alone, QUICK.model_copy(update={"level": 1 - 0.05 / 3}))
    assert three.coverage == pytest.approx(1 - 0.05 / 3)
    assert (three.rows[0].low, three.rows[0].high) == pytest.approx((one.rows[0].low, one.rows[0].high))
    narrower = weigh(*models, np.arange(100), alone, QUICK)
    assert three.rows[0].low < narrower.rows[0].low and three.rows[0].high > narrower.rows[0].high


def test_the_first_champion_must_reach_what_is_asked():
    good, poor = weighed(detector(3.0, 200, 0), None, 200), weighed(detector(0.3, 200, 0), None, 200)
    assert good.promoted and "roc_auc is surely at least" in good.reason
    assert not poor.promoted and "where 0.7 is needed" in poor.reason
    assert [row.verdict for row in good.rows] == ["enough", "not required", "not required"]
    assert all(row.champion is None and row.difference is None for row in poor.rows)


def test_the_lower_end_must_reach_what_is_asked_of_the_first():
    model = detector(1.0, 200, 0)
    row = weighed(model, None, 200).rows[0]
    for least, enough in ((row.low - 1e-6, True), (row.low + 1e-6, False), (row.high, False)):
        criteria = Criteria(chosen="roc_auc", metrics={"roc_auc": {"least": least}, "recall": {}, "fpr": {}})
        assert weigh(model, None, np.arange(200), criteria, QUICK).promoted == enough


def test_few_places_prove_nothing_however_many_photographs_there_are():
    found = weighed(detector(4.0, 10, 0, copies=9), detector(0.0, 10, 0, copies=9), 10, copies=9)
    assert not found.promoted and "of 10 different places" in found.reason
    assert (found.photographs, found.groups) == (90, 10)


def test_few_cracked_places_prove_nothing_however_many_sound_ones_there_are():
    """Photographs of one place are one place, also of the cracked ones."""
    n = 200
    place, cracked = np.arange(n), np.arange(n) < 30
    place[cracked] = np.arange(30) % 10
    ours = detection_measure(cracked, np.where(cracked, 1.0, 0.0), 0.5)
    theirs = detection_measure(cracked, np.random.default_rng(0).random(n), 0.5)
    kinds = {"cracked": cracked, "sound": ~cracked}
    assert weigh(ours, theirs, place, CRITERIA, QUICK).promoted
    found = weigh(ours, theirs, place, CRITERIA, QUICK, kinds=kinds)
    assert not found.promoted and "of 10 different cracked places, and at least 20" in found.reason
    enough = QUICK.model_copy(update={"least_groups": 10})
    assert weigh(ours, theirs, place, CRITERIA, enough, kinds=kinds).promoted
    sound = weigh(ours, theirs, place, CRITERIA, QUICK, kinds={"cracked": ~cracked, "sound": cracked})
    assert "of 10 different sound places" in sound.reason


def test_what_is_undefined_in_many_draws_is_undefined():
    cracked = np.arange(60) == 0  # in a third of the draws there is no crack
    ours, theirs = (detection_measure(cracked, np.where(cracked, side, 0.0), 0.5) for side in (1.0, -1.0))
    found = weigh(ours, theirs, np.arange(60), CRITERIA, QUICK)
    assert not found.promoted and "roc_auc is undefined" in found.reason
    assert all(row.low is None and row.challenger == 1 for row in found.rows)


def test_what_is_undefined_promotes_nothing():
    sound = np.zeros(40, np.bool_)
    scores = np.linspace(0, 1, 40)
    one, other = detection_measure(sound, scores, 0.5), detection_measure(sound, scores[::-1], 0.9)
    found = weigh(one, other, np.arange(40), CRITERIA, QUICK)
    assert not found.promoted and "undefined" in found.reason
    assert found.rows[0].verdict == "undefined" and found.rows[0].low is None
    assert not weigh(one, None, np.arange(40), CRITERIA, QUICK).promoted


def test_measures_are_those_of_the_metrics():
    rng = np.random.default_rng(5)
    is_crack, scores = rng.random(50) < 0.5, rng.normal(size=50)
    weights = np.ones((1, 50), np.int32)
    found = detection_measure(is_crack, scores, 0.1)(weights)
    told = detection_metrics(is_crack, scores, 0.1, np.arange(50), resamples=0)
    assert {name: value[0] for name, value in found.items()} == {name: told[name] for name in found}
    mask = (rng.random((9, 12)) < 0.3).astype(np.uint8)
    counts = [count(rng.random((9, 12)), mask, 0.5) for _ in range(4)]
    drawn = segmentation_measure(counts, 0.5)(np.array([[2, 0, 1, 1]], np.int32))
    told = segmentation_metrics([counts[0], counts[0], counts[2], counts[3]], 0.5, np.arange(4), resamples=0)
    assert {name: value[0] for name, value in drawn.items()} == pytest.approx({name: told[name] for name in drawn})


def test_table_numbers_and_figure_tell_the_same(words):
    found = weighed(detector(2.0, 100, 0), detector(1.0, 100, 1), 100)
    table, numbers = evidence_table(found), evidence_numbers(found)
    assert table["metric"].tolist() == ["roc_auc", "recall", "average_precision"]
    assert numbers["roc_auc.low"] == table["low"][0]
    assert Evidence.model_validate_json(found.model_dump_json()) == found
    assert "challenger minus champion" in words(promotion_figure(found))
    assert "anomaly, version 3 against 2: " in words(promotion_figure(found, "anomaly, version 3 against 2"))
    assert found.rows[0].verdict in words(promotion_figure(found))
    first = weighed(detector(2.0, 100, 0), None, 100)
    assert evidence_table(first)["champion"].isna().all()
    assert "no champion" in words(promotion_figure(first))
    nothing = Evidence(promoted=False, reason="it is the champion already")
    assert evidence_table(nothing).empty and list(evidence_table(nothing)) == list(table)
    assert "nothing was measured" in words(promotion_figure(nothing))


def test_wrong_questions_are_refused():
    with pytest.raises(ValidationError, match="chosen is 'dice'"):
        Criteria(chosen="dice", metrics={"recall": {}})
    with pytest.raises(ValueError, match="'dice' is no metric of this model"):
        weigh(detector(1, 30, 0), None, np.arange(30), Criteria(chosen="dice", metrics={"dice": {}}), QUICK)
    with pytest.raises(ValueError, match="no photograph"):
        segmentation_measure([], 0.5)
