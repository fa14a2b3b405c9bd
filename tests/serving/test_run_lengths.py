import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from crack_pipeline.serving.run_lengths import decode, encode

masks = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1))


@given(masks)
def test_a_mask_comes_back_as_it_was_here_and_in_the_tools_of_coco(mask):
    encoded = encode(mask)
    assert sum(encoded["counts"]) == mask.size
    assert all(encoded["counts"][1:])
    np.testing.assert_array_equal(decode(encoded), mask)
    np.testing.assert_array_equal(coco.decode(coco.frPyObjects(encoded, *encoded["size"])), mask)


def test_runs_that_are_no_mask_are_refused():
    with pytest.raises(ValueError, match="runs of 5 pixels do not fill 2 × 3"):
        decode({"size": [2, 3], "counts": [2, 3]})
