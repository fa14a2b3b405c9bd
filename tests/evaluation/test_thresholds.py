import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.evaluation.thresholds import choose


def test_percentile_is_the_published_rule():
    scores = np.random.default_rng(0).gamma(2, size=1500)
    assert choose(scores, rule="percentile", level=95) == np.percentile(scores, 95)


def test_conformal_takes_the_promised_rank():
    assert choose(np.arange(1, 20), rule="conformal", level=95) == 19
    assert choose(np.arange(1, 101), rule="conformal", level=95) == 96
    assert choose(np.arange(1, 1000), rule="conformal", level=99.9) == 999


@given(level=st.floats(1, 99.9), n=st.integers(1, 2000))
def test_conformal_is_the_least_score_with_the_promise_or_says_how_many_it_needs(level, n):
    scores = np.arange(1, n + 1)
    try:
        threshold = choose(scores, rule="conformal", level=level)
    except ValueError as error:
        needed = int(str(error).split("at least ")[1].split()[0].replace(",", ""))
        assert needed > n
        choose(np.arange(needed), rule="conformal", level=level)
        with pytest.raises(ValueError, match="at least"):
            choose(np.arange(needed - 1) if needed > 1 else [], rule="conformal", level=level)
    else:
        # Of n + 1 exchangeable ranks, n + 1 - k lie above the k-th smallest.
        assert (n + 1 - threshold) / (n + 1) <= 1 - level / 100 + 1e-9
        assert threshold == 1 or (n + 2 - threshold) / (n + 1) > 1 - level / 100 - 1e-9


@settings(max_examples=25)
@given(
    level=st.sampled_from([50.0, 80.0, 90.0, 95.0]),
    n=st.integers(19, 80),
    tied=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_conformal_keeps_the_false_alarm_rate_on_exchangeable_scores(level, n, tied, seed):
    rng = np.random.default_rng(seed)
    # Exchangeable but not independent: each set has a shift of its own, and sometimes many equal scores.
    draws = rng.gamma(2, size=(4000, n + 1)) + rng.normal(size=(4000, 1))
    draws = np.round(draws, 0 if tied else 12)
    alarms = np.mean([row[-1] > choose(row[:-1], rule="conformal", level=level) for row in draws])
    assert alarms <= 1 - level / 100 + 5 * np.sqrt(level / 100 * (1 - level / 100) / 4000)
    if not tied:
        assert alarms >= 1 - level / 100 - 1 / (n + 1) - 5 * np.sqrt(0.25 / 4000)


def test_too_few_images_for_the_conformal_rule():
    with pytest.raises(ValueError, match=r"level 99 needs at least 99 sound validation images, and there are 50"):
        choose(np.arange(50), rule="conformal", level=99)


@pytest.mark.parametrize(
    ("scores", "rule", "level", "message"),
    [
        ([], "percentile", 95, r"shape \(0,\)"),
        ([[1.0]], "percentile", 95, r"shape \(1, 1\)"),
        ([1.0, np.nan], "percentile", 95, "1 of 2 scores are not finite: the first is nan, at row 1"),
        ([1.0, -np.inf], "conformal", 95, "not finite"),
        ([1.0], "percentile", 0, "got 0"),
        ([1.0], "percentile", 100, "got 100"),
        ([1.0], "otsu", 95, "got 'otsu'"),
    ],
)
def test_wrong_arguments_are_named(scores, rule, level, message):
    with pytest.raises(ValueError, match=message):
        choose(scores, rule=rule, level=level)
