import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crack_pipeline.imaging.stack import ImageStack


def write(folder, images, rows):
    folder.mkdir(parents=True, exist_ok=True)
    starts = np.cumsum([0, *rows])
    for number in range(len(rows)):
        np.save(folder / f"images-{number:05d}.npy", images[starts[number] : starts[number + 1]])
    about = {
        "format": 1,
        "images": {"shape": list(images.shape), "rows": rows},
        "fingerprints": {"shape": [0, 4], "rows": []},
    }
    (folder / "stack.json").write_text(json.dumps(about))
    return ImageStack(folder)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (10, 3, 4), np.uint8)


@pytest.fixture(scope="module")
def stack(images, tmp_path_factory):
    return write(tmp_path_factory.mktemp("stack"), images, [4, 1, 5])


@given(rows=st.lists(st.integers(0, 9), max_size=30))
def test_rows_come_in_the_order_asked_for_across_shards(stack, images, rows):
    assert np.array_equal(stack.take(np.array(rows, np.int64)), images[np.array(rows, np.int64)])


def test_it_is_a_sequence(stack, images):
    assert len(stack) == 10
    assert stack.shape == (10, 3, 4)
    assert all(np.array_equal(one, other) for one, other in zip(stack, images, strict=True))


def test_what_is_taken_is_a_copy(stack, images):
    stack.take(np.array([0]))[:] = 0
    assert np.array_equal(stack[0], images[0])


def test_it_travels_without_its_pictures(stack, images):
    stack.take(np.arange(10))
    data = pickle.dumps(stack)
    assert len(data) < 2000
    assert np.array_equal(pickle.loads(data).take(np.array([9])), images[9:])


@pytest.mark.parametrize("rows", [[10], [-1], [0.5], [[0]]])
def test_rows_that_are_not_there_are_refused(stack, rows):
    with pytest.raises(IndexError):
        stack.take(np.array(rows))
    with pytest.raises(IndexError, match="row 10 of a stack of 10"):
        stack[10]


def test_colour_and_empty_stacks(tmp_path):
    assert write(tmp_path / "a", np.zeros((2, 3, 3, 3), np.uint8), [2]).take(np.array([1])).shape == (
        1,
        3,
        3,
        3,
    )
    empty = write(tmp_path / "b", np.zeros((0, 3, 3), np.uint8), [])
    assert len(empty) == 0
    assert empty.take(np.zeros(0, np.int64)).shape == (0, 3, 3)
    assert empty.fingerprints.take(np.zeros(0, np.int64)).shape == (0, 4)


def test_no_stack_or_another_format_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the ingestion first"):
        ImageStack(tmp_path)
    (tmp_path / "stack.json").write_text('{"format": 99}')
    with pytest.raises(ValueError, match="of format 99, not 1"):
        ImageStack(tmp_path)
