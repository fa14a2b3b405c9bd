import io

import pytest


@pytest.fixture
def words():
    """Return every text of a figure, after drawing it as a picture."""

    def read(figure):
        figure.savefig(io.BytesIO(), format="png", dpi=40)
        texts = [text.get_text() for text in figure.texts]
        texts += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
        for axes in figure.axes:
            texts += [axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel()]
            texts += [text.get_text() for text in (*axes.texts, *axes.get_xticklabels())]
            legend = axes.get_legend()
            if legend:
                texts += [legend.get_title().get_text(), *(text.get_text() for text in legend.get_texts())]
        return "\n".join(texts)

    return read
