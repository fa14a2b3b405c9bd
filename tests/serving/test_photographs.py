import base64

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crack_pipeline.imaging.decoding import Undecodable
from crack_pipeline.serving.photographs import Limits, read_photograph

LIMITS = Limits(max_pixels=10_000, max_bytes=30_000, min_side=16)
pictures = arrays.arrays(np.uint8, st.tuples(st.integers(16, 40), st.integers(16, 40), st.just(3)))


@given(pictures)
def test_every_way_to_send_a_picture_is_the_same_picture(picture):
    data = cv2.imencode(".png", picture[..., ::-1])[1].tobytes()
    encoded = base64.b64encode(data).decode()
    lines = "\n".join(encoded[at : at + 76] for at in range(0, len(encoded), 76))
    ways = [data, encoded, lines, f"data:image/png;base64,{encoded}", picture, picture.tolist(), picture.astype(float)]
    for way in ways:
        np.testing.assert_array_equal(read_photograph(way, "rgb", LIMITS), picture)


def test_rows_of_a_table_that_are_arrays_of_arrays_are_pixels():
    picture = np.arange(16 * 20, dtype=np.uint8).reshape(16, 20)
    rows = np.empty(16, object)
    rows[:] = list(picture)
    np.testing.assert_array_equal(read_photograph(rows, "grey", LIMITS), picture)
    assert read_photograph(picture[..., None], "rgb", LIMITS).shape == (16, 20, 3)


SQUARE = np.zeros((20, 20), np.uint8)


@pytest.mark.parametrize(
    ("value", "kind", "said"),
    [
        ("", "empty", "empty"),
        ("no base64!", "not an image", "not base64"),
        (base64.b64encode(b"hello, this is text").decode(), "not an image", "not an image"),
        (base64.b64encode(b"\xff\xd8\xff\xe0" + bytes(40)).decode(), "damaged", "damaged"),
        ("A" * 60_000, "too many bytes", "more than the 30,000 allowed"),
        (bytes(40_000), "too many bytes", "40,000 bytes are more than the 30,000 allowed"),
        (cv2.imencode(".png", np.zeros((101, 100), np.uint8))[1].tobytes(), "too many pixels", "100 × 101 px"),
        (np.zeros((101, 100), np.uint8), "too many pixels", "100 × 101 px are more than the 10,000 px"),
        (SQUARE[:12], "too small", "20 × 12 px; at least 16"),
        (None, "not an image", "not nothing"),
        ({"png": "…"}, "not an image", "not dict"),
        (float("nan"), "not an image", "not nothing"),
        (1.5, "not an image", "not float"),
        ([], "not an image", r"not \(0,\)"),
        ([[1, 2], [3]], "not an image", "different lengths"),
        ([["a"] * 20] * 20, "not an image", "whole numbers from 0 to 255"),
        ((SQUARE - 1.0).tolist(), "not an image", "whole numbers from 0 to 255"),
        (SQUARE + 0.5, "not an image", "whole numbers"),
        (SQUARE + np.nan, "not an image", "whole numbers"),
        (np.zeros((20, 20, 2)), "not an image", r"not \(20, 20, 2\)"),
    ],
)
def test_what_is_no_photograph_is_refused_with_a_reason(value, kind, said):
    with pytest.raises(Undecodable, match=said) as caught:
        read_photograph(value, "rgb", LIMITS)
    assert caught.value.kind == kind
