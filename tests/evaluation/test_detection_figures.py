import numpy as np
import pandas as pd
import pytest

from crack_pipeline.evaluation.detection_figures import caption, roc_curves, score_histogram


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    labels = np.repeat(["normal", "crack"], 50)
    return pd.DataFrame({"label": labels, "score": np.append(rng.uniform(0, 1, 50), rng.uniform(2, 3, 50))})


def test_roc_names_each_curve_with_its_area(predictions, words):
    one_label = predictions[predictions["label"] == "crack"]
    sets = {"internal": predictions, "external": one_label, "baseline": predictions.assign(score=1.0)}
    text = words(roc_curves(sets, thresholds={"internal": 1.5}, dashed=["baseline"]))
    assert "internal: AUC 1.0000" in text and "baseline: AUC 0.5000" in text
    assert "external: one label only" in text and "at the threshold" in text
    words(roc_curves({}))


def test_histogram_counts_what_is_on_the_wrong_side(predictions, words):
    predictions.loc[0, "score"], predictions.loc[99, "score"] = 2.5, 0.5
    figure = score_histogram({"internal": predictions, "external": predictions}, 1.5, score_name="error")
    text = words(figure)
    assert "normal: 1 of 50 above" in text and "crack: 1 of 50 not above" in text
    assert "threshold 1.5" in text and "error" in text
    heights = [max(patch.get_path().vertices[:, 1].max() for patch in axes.patches) for axes in figure.axes]
    assert all(axes.get_ylim()[1] >= height for axes, height in zip(figure.axes, heights, strict=True))


def test_histogram_takes_the_scale_that_the_scores_need(predictions, words):
    def scale(table):
        return score_histogram({"a": table}, 0.1).axes[0].get_xscale()

    assert scale(predictions.assign(score=np.geomspace(1e-3, 1, 100))) == "log"
    assert scale(predictions.assign(score=np.linspace(-1, 1, 100))) == "linear"
    words(score_histogram({"a": predictions.assign(score=0.1)}, 0.1))
    assert "no image" in words(score_histogram({"a": predictions.iloc[:0]}, 0.1))
    assert "normal: 0 of" not in words(score_histogram({"a": predictions[50:], "b": predictions[:0]}, 0.1))


def test_caption_names_the_side_of_the_threshold():
    assert caption("a/b/1.jpg", 0.5, 0.25) == "1.jpg\nscore 0.5 > 0.25"
    assert caption("1.jpg", 0.25, 0.25) == "1.jpg\nscore 0.25 ≤ 0.25"
    long = caption(f"{'x' * 80}_end.jpg", 1, 2).splitlines()[0]
    assert len(long) <= 30 and long.endswith("_end.jpg")
