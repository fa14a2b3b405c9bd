import io

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from crack_pipeline.evaluation.detection_figures import (
    Sample,
    caption,
    image_grid,
    roc_curves,
    score_histogram,
    training_curves,
)


def words(figure):
    """Return every text of a figure, after drawing it as a picture."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    texts = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        texts += [axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel()]
        legend = axes.get_legend()
        if legend:
            texts += [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]
    return "\n".join(texts)


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    labels = np.repeat(["normal", "crack"], 50)
    return pd.DataFrame({"label": labels, "score": np.append(rng.uniform(0, 1, 50), rng.uniform(2, 3, 50))})


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (24, 32), dtype=np.uint8)
    return [Sample([image, np.dstack([image] * 3), rng.random((24, 32))], f"image {k}") for k in range(5)]


def test_training_has_a_panel_per_quantity():
    history = pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "train_loss": [9.0, 3.0, 0.1],
            "train_kl": [1.0, 2.0, 3.0],
            "validation_loss": [9.0, np.nan, 0.2],
            "validation_spare": np.nan,
            "seconds": [4.0, 4.0, 4.0],
        }
    )
    figure = training_curves(history, units={"kl": "nats"})
    text = words(figure)
    assert isinstance(figure, Figure) and len(figure.axes) == 2
    assert "loss" in text and "KL divergence (nats)" in text and "validation" in text
    assert [axes.get_yscale() for axes in figure.axes] == ["log", "linear"]
    assert len(training_curves(history.iloc[:1]).axes) == 2


def test_training_without_an_epoch_says_so():
    assert "no epoch" in words(training_curves(pd.DataFrame({"epoch": []})))


def test_roc_names_each_curve_with_its_area(predictions):
    one_label = predictions[predictions["label"] == "crack"]
    sets = {"internal": predictions, "external": one_label, "baseline": predictions.assign(score=1.0)}
    text = words(roc_curves(sets, thresholds={"internal": 1.5}, dashed=["baseline"]))
    assert "internal: AUC 1.0000" in text and "baseline: AUC 0.5000" in text
    assert "external: one label only" in text and "at the threshold" in text
    words(roc_curves({}))


def test_histogram_counts_what_is_on_the_wrong_side(predictions):
    predictions.loc[0, "score"], predictions.loc[99, "score"] = 2.5, 0.5
    figure = score_histogram({"internal": predictions, "external": predictions}, 1.5, score_name="error")
    text = words(figure)
    assert "normal: 1 of 50 above" in text and "crack: 1 of 50 not above" in text
    assert "threshold 1.5" in text and "error" in text
    heights = [max(patch.get_path().vertices[:, 1].max() for patch in axes.patches) for axes in figure.axes]
    assert all(axes.get_ylim()[1] >= height for axes, height in zip(figure.axes, heights, strict=True))


def test_histogram_takes_the_scale_that_the_scores_need(predictions):
    def scale(table):
        return score_histogram({"a": table}, 0.1).axes[0].get_xscale()

    assert scale(predictions.assign(score=np.geomspace(1e-3, 1, 100))) == "log"
    assert scale(predictions.assign(score=np.linspace(-1, 1, 100))) == "linear"
    words(score_histogram({"a": predictions.assign(score=0.1)}, 0.1))
    assert "no image" in words(score_histogram({"a": predictions.iloc[:0]}, 0.1))
    assert "normal: 0 of" not in words(score_histogram({"a": predictions[50:], "b": predictions[:0]}, 0.1))


@pytest.mark.parametrize("across", [1, 2, 9])
def test_grid_shows_every_image_and_the_unit_of_the_map(samples, across):
    figure = image_grid(
        samples,
        ["original", "colour", "map"],
        title="Misses",
        heat_columns=[2],
        heat_unit="grey",
        across=across,
    )
    text = words(figure)
    assert len(figure.axes) == 5 * 3 + 1
    assert all(f"image {k}" in text for k in range(5))
    assert "Misses" in text and "original" in text and "grey" in text
    boxes = [axes.get_position() for axes in figure.axes]
    assert min(box.x0 for box in boxes) >= 0 and max(box.x1 for box in boxes) <= 1
    assert min(box.y0 for box in boxes) >= 0 and max(box.y1 for box in boxes) <= 1


def test_maps_share_one_scale(samples):
    figure = image_grid(samples, ["a", "b", "map"], heat_columns=[2], heat_range=(0, 2))
    limits = {axes.images[0].get_clim() for axes in figure.axes[:15] if axes.images[0].get_cmap().name == "magma"}
    assert limits == {(0, 2)}
    flat = [Sample([np.zeros((4, 4))]), Sample([np.full((4, 4), np.nan)])]
    words(image_grid(flat, ["map"], heat_columns=[0]))
    words(image_grid(flat[1:], ["map"], heat_columns=[0]))


def test_grid_of_nothing_says_so():
    text = words(image_grid([], ["original"], title="Missed cracks", none="none: all were found"))
    assert "Missed cracks" in text and "none: all were found" in text


def test_a_sample_must_fill_its_columns(samples):
    with pytest.raises(ValueError, match="sample 0 has 3 images for 1 columns"):
        image_grid(samples, ["original"])


def test_caption_names_the_side_of_the_threshold():
    assert caption("a/b/1.jpg", 0.5, 0.25) == "1.jpg\nscore 0.5 > 0.25"
    assert caption("1.jpg", 0.25, 0.25) == "1.jpg\nscore 0.25 ≤ 0.25"
    long = caption(f"{'x' * 80}_end.jpg", 1, 2).splitlines()[0]
    assert len(long) <= 30 and long.endswith("_end.jpg")


def test_no_figure_is_left_in_the_global_state(samples, predictions):
    image_grid(samples, ["a", "b", "map"])
    score_histogram({"a": predictions}, 0.1)
    assert pyplot.get_fignums() == []
