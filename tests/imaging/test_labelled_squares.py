import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crack_pipeline.imaging.labelled_squares import LabelledSquares
from crack_pipeline.imaging.marked_photographs import FALSE_ALARM, MarkedPhotographs
from crack_pipeline.imaging.photograph_stack import BACKGROUND, CRACK, IGNORED, cut_mask
from crack_pipeline.imaging.pseudo_masks import Confidence, pseudo_mask
from stacks import write_stack

SIZES = [(40, 60), (33, 20), (64, 64)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    rng = np.random.default_rng(0)
    photographs = [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]
    masks = [rng.integers(0, 3, size).astype(np.uint8) for size in SIZES]
    return write_stack(tmp_path_factory.mktemp("stack"), photographs, masks)


def labelled(stack, boxes, cracked, rows):
    return LabelledSquares(
        stack.without_masks(),
        np.array(rows),
        np.array(boxes, np.int64),
        np.array(cracked, np.bool_),
        np.array(["a"] * len(rows)),
    )


def test_a_square_is_given_at_its_own_scale_with_its_reflection_around_it(stack):
    squares = labelled(stack, [(4, 6, 16, 16)], [True], [0])
    (image,), (mask,) = squares.take(np.array([0]), 24)
    square = stack.photograph(0)[4:20, 6:22]
    assert np.array_equal(image, np.pad(square, ((4, 4), (4, 4), (0, 0)), mode="reflect"))
    assert (mask[4:20, 4:20] == BACKGROUND).all()
    assert (mask == IGNORED).sum() == 24**2 - 16**2


def test_a_large_square_is_shrunk_until_it_fits(stack):
    (image,), (mask,) = labelled(stack, [(0, 0, 40, 60)], [True], [0]).take(np.array([0]), 30)
    inside = mask == BACKGROUND
    assert inside.sum() == 20 * 30
    assert abs(float(image[inside].mean()) - float(stack.photograph(0).mean())) < 2


def test_labels_say_where_there_is_no_crack_and_nothing_else(stack):
    squares = labelled(stack, [(0, 0, 16, 16), (0, 16, 16, 16), (2, 2, 8, 8)], [False, True, False], [0, 0, 2])
    mask = squares.label_mask(0)
    assert (mask[:16, :16] == BACKGROUND).all()
    assert (mask == IGNORED).sum() == 40 * 60 - 256
    assert (squares.label_mask(1) == IGNORED).all()
    assert squares.photograph_rows.tolist() == [0, 2]


def test_a_stack_with_masks_is_refused(stack):
    with pytest.raises(ValueError, match="without masks"):
        LabelledSquares(stack, np.array([0]), np.array([[0, 0, 8, 8]]), np.array([True]), np.array(["a"]))


def test_photographs_are_marked_with_other_masks_than_their_own(stack):
    drawn = np.zeros(SIZES[0], np.uint8)
    drawn[3:9] = CRACK
    drawn[20:22] = FALSE_ALARM
    marked = MarkedPhotographs(stack, [(0, drawn)])
    assert np.array_equal(marked.mask(0), np.where(drawn == FALSE_ALARM, BACKGROUND, drawn))
    assert np.array_equal(marked.false_alarms(0) == CRACK, drawn == FALSE_ALARM)
    assert (marked.mask(1) == IGNORED).all()
    images, masks = marked.crops(np.array([0, 1]), np.array([[2, -3], [0, 0]]), 12)
    assert np.array_equal(images, stack.crops(np.array([0, 1]), np.array([[2, -3], [0, 0]]), 12)[0])
    assert (masks[0, :, :3] == IGNORED).all()
    assert (masks[0, 1:7, 3:] == CRACK).all()
    with pytest.raises(ValueError, match="its mask"):
        MarkedPhotographs(stack, [(1, drawn)])


maps = st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).integers(0, 256, (32, 48), np.uint8))


@given(levels=maps, background=st.floats(0, 0.49), more=st.floats(0.01, 0.5), least=st.integers(0, 200))
def test_labels_have_the_last_word(levels, background, more, least):
    confidence = Confidence(crack=background + more, background=background, least_pixels=least)
    boxes = np.array([(0, 0, 16, 16), (0, 16, 16, 16)])
    mask = pseudo_mask(levels, boxes, np.array([False, True]), confidence)
    sure = levels[:16, :16] >= confidence.crack * 256
    assert np.array_equal(mask[:16, :16], np.where(sure, FALSE_ALARM, BACKGROUND))
    cracked = mask[:16, 16:32]
    assert (cracked == CRACK).sum() >= least or (cracked == IGNORED).all()
    beside = slice(None), slice(32, None)
    assert np.array_equal(mask[beside] == CRACK, levels[beside] >= confidence.crack * 256)
    assert np.array_equal(mask[beside] == BACKGROUND, levels[beside] < confidence.background * 256)


def test_where_all_pixels_are_alike_none_is_picked():
    levels = np.full((16, 16), 80, np.uint8)
    confidence = Confidence(crack=0.6, background=0.3, least_pixels=8)
    assert (pseudo_mask(levels, np.array([(0, 0, 16, 16)]), np.array([True]), confidence) == IGNORED).all()


@example(height=129, y=256, x=0, size=1, seed=0)
@given(
    height=st.integers(1, 700),
    y=st.integers(-300, 800),
    x=st.integers(-40, 60),
    size=st.integers(1, 300),
    seed=st.integers(0, 9),
)
def test_a_crop_of_a_mask_is_that_of_the_whole_mask(height, y, x, size, seed):
    class Plain:
        sizes = np.array([(height, 40)])

        def without_masks(self):
            return self

        def cut(self, rows, corners, size):
            return np.zeros((len(rows), size, size), np.uint8)

    whole = np.random.default_rng(seed).integers(0, 4, (height, 40)).astype(np.uint8)
    expected = np.full((size, size), IGNORED, np.uint8)
    cut_mask(np.where(whole == FALSE_ALARM, BACKGROUND, whole).astype(np.uint8), y, x, expected)
    _, (mask,) = MarkedPhotographs(Plain(), [(0, whole)]).crops(np.array([0]), np.array([(y, x)]), size)
    assert np.array_equal(mask, expected)


def test_what_lies_in_no_square_can_be_left_unknown():
    mask = pseudo_mask(
        np.full((20, 30), 255, np.uint8), np.array([(0, 0, 10, 10)]), np.array([True]), Confidence(), everywhere=False
    )
    assert (mask[:10, :10] == CRACK).all()
    assert (mask == CRACK).sum() == 100
    assert (mask == IGNORED).sum() == 500


def test_a_square_in_which_a_network_sees_no_crack_at_all_is_ignored():
    mask = pseudo_mask(np.zeros((20, 20), np.uint8), np.array([(0, 0, 10, 10)]), np.array([True]), Confidence())
    assert (mask[:10, :10] == IGNORED).all()
    assert (mask[10:] == BACKGROUND).all()


def test_confidence_is_ordered():
    with pytest.raises(ValueError, match="must be below crack"):
        Confidence(crack=0.3, background=0.4)
