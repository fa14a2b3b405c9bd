import io
from datetime import datetime

import pytest
from matplotlib import pyplot

from crack_pipeline.evaluation.trials import TrialResult
from crack_pipeline.evaluation.tuning_figures import history, importances, slices

DIMENSIONS = {"training.rate": "log", "training.slope": "linear", "training.optimiser": ["adam", "sgd"]}


def words(figure):
    """Return every text of a figure, after drawing it as a picture."""
    figure.savefig(io.BytesIO(), format="png", dpi=40)
    texts = [text.get_text() for text in figure.texts]
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    for axes in figure.axes:
        texts += [axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel()]
        texts += [text.get_text() for text in [*axes.get_xticklabels(), *axes.get_yticklabels(), *axes.texts]]
    return "\n".join([*texts, *(text.get_text() for legend in legends for text in legend.get_texts())])


def trial(number, state="complete", values=(0.5,)):
    parameters = {"training.rate": 10.0**-number, "training.slope": 0.1 * number, "training.optimiser": "adam"}
    return TrialResult(number=number, state=state, values=values, parameters=parameters, began=datetime(2024, 1, 1))


def many():
    best = [trial(number, values=(0.1, 0.1 * (number + 1))) for number in (3, 0, 1, 2)]
    return [*best, trial(4, "pruned", (0.2,)), trial(5, "failed", ()), trial(6, "interrupted", (0.9,))]


def test_history_follows_the_best_complete_trial():
    figure = history(many(), value_name="Dice")
    text = words(figure)
    (axes,) = figure.axes
    line = axes.lines[0]
    assert line.get_xdata().tolist() == [0, 1, 2, 3, 6]
    assert line.get_ydata() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    assert "best: 0.4000, trial 3" in text and "pruned" in text and "failed, interrupted" in text and "Dice" in text
    assert list(axes.lines[1].get_xdata()) == [5, 6]


def test_a_panel_per_dimension_on_its_scale():
    figure = slices(many(), DIMENSIONS, value_name="Dice")
    text = words(figure)
    assert [axes.get_xscale() for axes in figure.axes] == ["log", "linear", "linear"]
    assert all(name in text for name in DIMENSIONS) and "sgd" in text and "best: 0.4000" in text
    # Four complete trials, one that was pruned, and the mark of the best; the interrupted one lives on in another.
    assert [len(points.get_offsets()) for points in figure.axes[1].collections] == [4, 1, 1]


def test_importances_are_ordered_and_name_their_basis():
    figure = importances({"training.slope": 0.2, "training.rate": 0.8}, complete=7)
    text = words(figure)
    assert [bar.get_width() for bar in figure.axes[0].patches] == [0.2, 0.8]
    assert "80%" in text and "7 complete trials" in text


def test_without_trials_they_say_so():
    assert "no trial has ended" in words(history([]))
    assert "no trial has a value" in words(slices([], DIMENSIONS))
    assert "nothing was varied" in words(slices(many(), {}))
    assert "at least two complete trials" in words(importances({}, complete=1))


@pytest.mark.parametrize("results", [[trial(0)], [trial(0, "failed", ())], [trial(0, "pruned", (0.1,))]])
def test_a_single_trial_is_enough(results):
    assert words(history(results))
    assert words(slices(results, DIMENSIONS))


def test_shares_of_zero_can_be_drawn():
    assert "0%" in words(importances({"a": 0.0, "b": 0.0}, complete=2))


def test_no_figure_is_left_in_the_global_state():
    history(many())
    slices(many(), DIMENSIONS)
    assert pyplot.get_fignums() == []
