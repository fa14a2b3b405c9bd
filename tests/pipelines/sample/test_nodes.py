from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from crack_pipeline.pipelines.sample.nodes import draw_examples, render_photographs
from crack_pipeline.pipelines.sample.parameters import Sample

SMALL = Sample(normal=4, crack=3, size=(40, 56), seed=5)


def test_files_are_named_by_class_and_masks_lie_parallel():
    files = render_photographs(SMALL)
    names = [name for name, _ in files]
    assert len(files) == len(names) == 10
    assert sorted(names) == [
        *(f"Negative/{i:05d}.jpg" for i in (1, 2, 3, 4)),
        *(f"Positive/{i:05d}.jpg" for i in (1, 2, 3)),
        *(f"masks/Positive/{i:05d}.png" for i in (1, 2, 3)),
    ]


def test_photographs_and_masks_have_the_size_that_was_asked():
    for name, content in render_photographs(SMALL):
        with Image.open(BytesIO(content)) as image:
            assert image.size == (56, 40)
            assert (image.format, image.mode) == (("PNG", "L") if name.startswith("masks") else ("JPEG", "RGB"))
            if name.startswith("masks"):
                values, counts = np.unique(np.asarray(image), return_counts=True)
                assert values.tolist() == [0, 255]
                assert counts[1] >= 0.3 * 40


def test_the_same_seed_gives_the_same_bytes():
    assert dict(render_photographs(SMALL)) == dict(render_photographs(SMALL))
    files = render_photographs(SMALL)
    assert list(files) == list(files)


def test_neither_number_nor_order_matters():
    many = dict(render_photographs(SMALL.model_copy(update={"normal": 6, "crack": 5})))
    few = dict(render_photographs(SMALL))
    assert {name: many[name] for name in few} == few


def test_another_seed_gives_other_photographs():
    first = dict(render_photographs(SMALL))
    second = dict(render_photographs(SMALL.model_copy(update={"seed": 6})))
    assert not any(first[name] == second[name] for name in first)
    assert len(set(first.values())) == len(first)


def test_examples_show_photographs_and_masks():
    figure = draw_examples(SMALL)
    assert sum(len(axes.images) for axes in figure.axes) == 4 + 3 + 3
    assert draw_examples(Sample(normal=0, crack=0)).axes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"normal": -1}, "greater than or equal to 0"),
        ({"size": 16}, "size must be .* 32 to 4096 px, got 16"),
        ({"size": [64, 64, 3]}, r"size must be .* got \[64, 64, 3\]"),
        ({"size": 64.5}, "size must be .* got 64.5"),
        ({"difficulty": "brutal"}, "easy, medium, hard or a number from 0 to 1, got 'brutal'"),
        ({"difficulty": 1.01}, "got 1.01"),
        ({"jpeg_quality": 101}, "less than or equal to 100"),
        ({"crakc": 3}, "crakc"),
    ],
)
def test_wrong_parameters_are_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        Sample.model_validate(wrong)


def test_sizes_and_difficulties_may_be_named_or_numbered():
    assert Sample(size=64).shape == (64, 64)
    assert Sample.model_validate({"size": [64, 80]}).shape == (64, 80)
    hardness = [Sample.model_validate({"difficulty": d}).hardness for d in ("easy", "medium", "hard")]
    assert 0 <= hardness[0] < hardness[1] < hardness[2] <= 1
    assert Sample(difficulty=0.3).hardness == 0.3
