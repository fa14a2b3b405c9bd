import pandas as pd

from crack_pipeline.evaluation.comparison_figure import comparison_figure


def test_segmenters_may_have_learned_from_more_kinds_than_there_are_colours():
    kinds = [f"kind {number:02d}" for number in range(20)]
    rows = [(kind, kind, 0.5, 0.4, 0.6, 0) for kind in kinds]
    table = pd.DataFrame(rows, columns=["segmenter", "learned_from", "dice", "dice_low", "dice_high", "seen"])
    figure = comparison_figure(table)
    marks = {(line.get_color(), line.get_marker()) for line in figure.axes[0].lines if line.get_marker() in "osD^v"}
    assert len(marks) == len(kinds)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == kinds
