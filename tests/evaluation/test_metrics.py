import json
import time
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from crack_pipeline.evaluation.metrics import _Ranking, detection_metrics, metrics_table


def a_sample(n, seed, tied=False):
    rng = np.random.default_rng(seed)
    is_crack = rng.random(n) < 0.4
    scores = rng.normal(size=n) + 1.5 * is_crack
    return is_crack, np.round(scores, 0 if tied else 9)


samples = st.builds(a_sample, st.integers(2, 200), st.integers(0, 2**32), st.booleans())


@settings(max_examples=60)
@given(sample=samples, threshold=st.floats(-1, 3))
def test_equal_to_scikit_learn(sample, threshold):
    is_crack, scores = sample
    assume(0 < is_crack.sum() < len(is_crack) and (scores > threshold).any())
    found = detection_metrics(is_crack, scores, threshold, np.arange(len(scores)), resamples=0)
    called = scores > threshold
    assert found["roc_auc"] == pytest.approx(sk.roc_auc_score(is_crack, scores), abs=1e-12)
    assert found["average_precision"] == pytest.approx(sk.average_precision_score(is_crack, scores), abs=1e-12)
    assert found["precision"] == pytest.approx(sk.precision_score(is_crack, called), abs=1e-12)
    assert found["recall"] == pytest.approx(sk.recall_score(is_crack, called), abs=1e-12)
    assert found["f1"] == pytest.approx(sk.f1_score(is_crack, called), abs=1e-12)
    tn, fp, fn, tp = sk.confusion_matrix(is_crack, called, labels=[False, True]).ravel()
    assert found["confusion"] == {"tn": tn, "fp": fp, "fn": fn, "tp": tp}
    assert found["n"] == {"normal": tn + fp, "crack": fn + tp}
    assert found["fpr"] == pytest.approx(fp / (fp + tn))


@settings(max_examples=60)
@given(sample=samples, seed=st.integers(0, 2**32))
def test_weights_are_those_of_scikit_learn(sample, seed):
    is_crack, scores = sample
    ranking = _Ranking(is_crack, scores, 0.5)
    weights = np.random.default_rng(seed).poisson(1, (3, len(scores))).astype(np.int32)
    found = ranking.measure(weights)
    for k, weight in enumerate(weights):
        back = np.empty(len(scores))
        back[ranking.order] = weight
        assume(back[is_crack].sum() > 0 and back[~is_crack].sum() > 0)
        auc = sk.roc_auc_score(is_crack, scores, sample_weight=back)
        ap = sk.average_precision_score(is_crack, scores, sample_weight=back)
        assert found["roc_auc"][k] == pytest.approx(auc, abs=1e-12)
        assert found["average_precision"][k] == pytest.approx(ap, abs=1e-12)
        called = scores > 0.5
        if back[called].sum():
            precision = sk.precision_score(is_crack, called, sample_weight=back)
            assert found["precision"][k] == pytest.approx(precision, abs=1e-12)


def test_what_comes_back_is_what_the_contract_says():
    is_crack, scores = a_sample(100, 0)
    found = detection_metrics(is_crack, scores, 0.5, np.arange(100) // 2, resamples=50)
    assert set(found) == {
        "roc_auc", "average_precision", "precision", "recall", "f1", "fpr", "confusion", "n",
        "roc_auc_ci95", "average_precision_ci95", "precision_ci95", "recall_ci95",
    }  # fmt: skip
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    for name in ("roc_auc", "average_precision", "precision", "recall"):
        low, high = found[f"{name}_ci95"]
        assert 0 <= low <= found[name] <= high <= 1 and low < high


def test_intervals_follow_the_seed_and_widen_with_copies():
    is_crack, scores = a_sample(150, 1)
    alone = detection_metrics(is_crack, scores, 0.5, np.arange(150), seed=4)
    assert alone == detection_metrics(is_crack, scores, 0.5, np.arange(150), seed=4)
    assert alone != detection_metrics(is_crack, scores, 0.5, np.arange(150), seed=5)
    copied = detection_metrics(np.repeat(is_crack, 5), np.repeat(scores, 5), 0.5, np.repeat(np.arange(150), 5), seed=4)
    # Five copies of every image, in one group each, are no more evidence than the image alone.
    assert copied["roc_auc_ci95"] == pytest.approx(alone["roc_auc_ci95"], abs=1e-12)
    wider = detection_metrics(is_crack, scores, 0.5, np.arange(150), level=0.99, seed=4)
    assert wider["recall_ci95"][0] < alone["recall_ci95"][0]


def test_the_interval_agrees_with_the_plain_bootstrap():
    is_crack, scores = a_sample(300, 2)
    found = detection_metrics(is_crack, scores, 0.5, np.arange(300), resamples=3000)
    rng = np.random.default_rng(9)
    rows = (rng.integers(0, 300, 300) for _ in range(600))
    plain = [sk.roc_auc_score(is_crack[row], scores[row]) for row in rows]
    assert found["roc_auc_ci95"] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=0.01)


def test_one_label_alone_leaves_what_is_undefined_none():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sound = detection_metrics(np.zeros(5, bool), np.arange(5), 2.5, np.arange(5))
        cracked = detection_metrics(np.ones(5, bool), np.arange(5), 2.5, np.arange(5))
        silent = detection_metrics(np.zeros(5, bool), np.arange(5), 9, np.arange(5))
        one = detection_metrics([True], [1.0], 0.0, [0])
    assert sound["roc_auc"] is sound["average_precision"] is sound["recall"] is sound["recall_ci95"] is None
    assert sound["precision"] == 0 and sound["fpr"] == 0.4 and sound["confusion"]["fp"] == 2
    assert cracked["roc_auc"] is cracked["average_precision"] is cracked["fpr"] is None
    assert cracked["recall"] == 0.4 and cracked["precision"] == 1 and cracked["recall_ci95"][0] < 0.4
    assert silent["precision"] is silent["f1"] is silent["precision_ci95"] is None and silent["fpr"] == 0
    assert one["recall"] == 1 and one["recall_ci95"] == [1, 1]


def test_a_score_equal_to_the_threshold_is_not_an_alarm():
    found = detection_metrics([False, True], [1.0, 2.0], 1.0, [0, 1], resamples=0)
    assert found["confusion"] == {"tn": 1, "fp": 0, "fn": 0, "tp": 1}
    assert found["roc_auc_ci95"] is None


@pytest.mark.parametrize(
    ("labels", "scores", "threshold", "groups", "message"),
    [
        ([], [], 0.0, [], r"got shapes \(0,\)"),
        ([True], [1.0, 2.0], 0.0, [0, 1], r"got shapes \(1,\), \(2,\) and \(2,\)"),
        ([1, 0], [1.0, 2.0], 0.0, [0, 1], "must be bool, got int64"),
        ([True, False], [1.0, np.inf], 0.0, [0, 1], "1 of 2 scores .* inf, at row 1"),
        ([True, False], [1.0, 2.0], np.nan, [0, 1], "threshold"),
    ],
)
def test_wrong_arguments_are_named(labels, scores, threshold, groups, message):
    with pytest.raises(ValueError, match=message):
        detection_metrics(labels, scores, threshold, groups)


def test_a_thousand_resamples_of_ten_thousand_images_are_quick():
    is_crack, scores = a_sample(10_000, 3)
    started = time.process_time()
    detection_metrics(is_crack, scores, 0.5, np.arange(10_000) // 2)
    assert time.process_time() - started < 5


def test_table_has_a_row_per_score_and_set():
    is_crack, scores = a_sample(100, 0)
    full = detection_metrics(is_crack, scores, 0.5, np.arange(100), resamples=20)
    bare = detection_metrics(np.zeros(3, bool), np.arange(3), 9, np.arange(3))
    metrics = {
        "score": "residual",
        "sets": {"internal": full, "external": bare},
        "others": {"mse": {"sets": {"internal": full}}},
        "baseline": {"name": "grey", "sets": {"internal": full}},
    }
    table = metrics_table(metrics)
    assert list(table["score"]) == ["residual", "residual", "mse", "grey (baseline)"]
    low, high = full["roc_auc_ci95"]
    assert table.loc[0, "roc_auc"] == f"{full['roc_auc']:.4f} [{low:.4f}, {high:.4f}]"
    assert table.loc[0, "fp"] == full["confusion"]["fp"] and table.loc[0, "f1"] == full["f1"]
    assert table.loc[1, "roc_auc"] == "undefined" and np.isnan(table.loc[1, "recall"])
