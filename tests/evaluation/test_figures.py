import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from crack_pipeline.evaluation.figures import Sample, image_grid, short_name, training_curves


@pytest.fixture
def samples():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (24, 32), dtype=np.uint8)
    return [Sample([image, np.dstack([image] * 3), rng.random((24, 32))], f"image {k}") for k in range(5)]


def test_training_has_a_panel_per_quantity(words):
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


def test_training_without_an_epoch_says_so(words):
    assert "no epoch" in words(training_curves(pd.DataFrame({"epoch": []})))


@pytest.mark.parametrize("across", [1, 2, 9])
def test_grid_shows_every_image_and_the_unit_of_the_map(samples, across, words):
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


def test_maps_share_one_scale(samples, words):
    figure = image_grid(samples, ["a", "b", "map"], heat_columns=[2], heat_range=(0, 2))
    limits = {axes.images[0].get_clim() for axes in figure.axes[:15] if axes.images[0].get_cmap().name == "magma"}
    assert limits == {(0, 2)}
    flat = [Sample([np.zeros((4, 4))]), Sample([np.full((4, 4), np.nan)])]
    words(image_grid(flat, ["map"], heat_columns=[0]))
    words(image_grid(flat[1:], ["map"], heat_columns=[0]))


def test_grid_of_nothing_says_so(words):
    text = words(image_grid([], ["original"], title="Missed cracks", none="none: all were found"))
    assert "Missed cracks" in text and "none: all were found" in text


def test_a_sample_must_fill_its_columns(samples):
    with pytest.raises(ValueError, match="sample 0 has 3 images for 1 columns"):
        image_grid(samples, ["original"])


def test_a_row_is_as_high_as_its_images_need():
    flat, tall = np.zeros((10, 40), np.uint8), np.zeros((80, 40), np.uint8)
    figure = image_grid([Sample([flat]), Sample([tall]), Sample([flat])], ["a"], cell=(2.0, 3.0))
    heights = [axes.get_position().height * figure.get_figheight() for axes in figure.axes]
    assert heights == pytest.approx([0.5, 3.0, 0.5])
    tops = [axes.get_position().y1 for axes in figure.axes]
    bottoms = [axes.get_position().y0 for axes in figure.axes]
    assert all(bottom > top for bottom, top in zip(bottoms, tops[1:], strict=False)) and bottoms[-1] > 0


def test_the_legend_says_what_colours_mean(samples, words):
    assert "missed" in words(image_grid(samples, ["a", "b", "c"], legend={"missed": "#D55E00"}))


def test_a_long_name_is_shortened():
    assert short_name("a/b/1.jpg") == "1.jpg"
    long = short_name(f"{'x' * 80}_end.jpg")
    assert len(long) == 30 and long.endswith("_end.jpg")


def test_no_figure_is_left_in_the_global_state(samples):
    image_grid(samples, ["a", "b", "map"])
    assert pyplot.get_fignums() == []
