import numpy as np
import pytest
from PIL import Image

from crack_pipeline.imaging.decoding import Undecodable
from crack_pipeline.imaging.photograph_stack import BACKGROUND, CRACK, IGNORED
from crack_pipeline.pipelines.ingestion.masks import check_mask, read_mask
from crack_pipeline.pipelines.ingestion.parameters import MaskValues, Preset, Reading
from hostile import encoded, png_of_size


def read(pixels, kind="PNG", **values):
    pixels = np.asarray(pixels)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    return read_mask(encoded(image, kind), pixels.shape[:2], MaskValues(**values), Reading()).tolist()


def refused(work):
    with pytest.raises(Undecodable) as error:
        work()
    return error.value.kind, error.value.reason


def row(*values):
    return np.array([values], np.uint8)


@pytest.mark.parametrize(
    ("pixels", "values", "expected"),
    [
        (row(0, 1, 0), {}, [BACKGROUND, CRACK, BACKGROUND]),
        (row(0, 255), {}, [BACKGROUND, CRACK]),
        (row(255, 255), {}, [CRACK, CRACK]),
        (row(0, 0), {}, [BACKGROUND, BACKGROUND]),
        (row(0, 1) > 0, {}, [BACKGROUND, CRACK]),
        (row(0, 204, 255), {"crack": 255, "background": [0, 204]}, [BACKGROUND, BACKGROUND, CRACK]),
        (row(0, 204, 255), {"crack": 255, "background": [0, 204], "ignored": 204}, [BACKGROUND, IGNORED, CRACK]),
        (row(0, 204, 255), {"ignored": [204]}, [BACKGROUND, IGNORED, CRACK]),
        (row(0, 204, 1), {"background": [0, 204]}, [BACKGROUND, BACKGROUND, CRACK]),
        (row(3, 6, 5), {"crack": [5], "background": [6], "ignored": [3]}, [IGNORED, BACKGROUND, CRACK]),
        (row(0, 255), {"crack": [0], "background": [255]}, [CRACK, BACKGROUND]),
        (row(0, 127, 128, 200), {"threshold_lossless": True}, [BACKGROUND, BACKGROUND, CRACK, CRACK]),
        (row(0, 1), {"threshold_lossless": True}, [BACKGROUND, CRACK]),
        (np.array([[0, 65535]], np.uint16), {}, [BACKGROUND, CRACK]),
    ],
)
def test_values_mean_what_is_said_of_them(pixels, values, expected):
    assert read(pixels, **values) == [expected]


def test_declared_background_is_no_crack_whatever_else_a_mask_holds():
    values = {"background": [0, 204], "threshold_lossless": True}
    assert read(row(0, 204, 255), **values) == [[BACKGROUND, BACKGROUND, CRACK]]
    assert read(row(0, 100, 204, 255), **values) == [[BACKGROUND, BACKGROUND, BACKGROUND, CRACK]]


def test_lossy_masks_are_thresholded():
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    assert np.array_equal(read(mask, "JPEG"), mask // 255)
    assert not np.any(read(mask * 0, "JPEG"))
    assert np.array_equal(read(mask // 2, "JPEG", threshold=60), mask // 255)


@pytest.mark.parametrize(
    ("pixels", "values", "reason"),
    [
        (row(0, 1, 255), {}, "0, 1, 255, not only 0 and 1, or 0 and 255"),
        (row(*range(0, 90, 9)), {}, r"0, 9, 18, 27, 36, 45, … (10 values)"),
        (row(0, 204, 255), {"crack": [255]}, "its mask holds 204, and mask_values gives a meaning only to crack 255"),
        (row(0, 7), {"crack": [255], "ignored": [9]}, "background 0, ignored 9"),
    ],
)
def test_values_without_a_meaning_are_named(pixels, values, reason):
    kind, said = refused(lambda: read(pixels, **values))
    assert kind == "mask values"
    assert reason in said


def test_named_values_cannot_be_told_from_a_lossy_mask():
    mask = np.zeros((32, 32), np.uint8)
    mask[10:23, 10:23] = 255  # across the blocks of a JPEG
    kind, reason = refused(lambda: read(mask, "JPEG", crack=[255]))
    assert kind == "mask values"
    assert "a format that blurs them" in reason
    assert not np.any(read(mask * 0, "JPEG", crack=[255]))


def test_masks_of_another_size_are_refused_before_they_are_decoded():
    bomb = png_of_size(12_000, 12_000)
    kind, reason = refused(lambda: read_mask(bomb, (64, 48), MaskValues(), Reading()))
    assert kind == "mask size"
    assert reason == "its mask is 12000 × 12000 px, the photograph 48 × 64 px"
    turned = encoded(Image.new("1", (64, 48)), "PNG")
    assert refused(lambda: read_mask(turned, (64, 48), MaskValues(), Reading()))[0] == "mask size"
    half = encoded(Image.new("1", (48, 64)), "PNG")[:50]
    assert refused(lambda: read_mask(half, (64, 48), MaskValues(), Reading()))[0] == "unreadable mask"


@pytest.mark.parametrize(
    ("scale", "values"), [(255, {}), (3, {}), (1, {"background": [0, 204]}), (1, {"ignored": [128]})]
)
def test_a_lossy_mask_whose_cracks_could_be_anything_is_refused(scale, values):
    mask = np.zeros((32, 32), np.uint8)
    mask[8:24, 8:24] = 255
    kind, reason = refused(lambda: read(mask // scale, "JPEG", **values))
    assert kind == "mask values"
    assert "save it in a lossless format" in reason
    assert ("threshold" in reason) == (not values)


def test_a_mask_of_the_turned_size_may_belong_to_a_turned_photograph():
    upright = encoded(Image.new("1", (64, 48)), "PNG")
    _, reason = refused(lambda: read_mask(upright, (64, 48), MaskValues(), Reading()))
    assert "EXIF" in reason


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"background": [255]}, "name the values of crack, too"),
        ({"crack": [0]}, "says of 0 both crack and background"),
        ({"crack": [255], "threshold_lossless": True}, "threshold_lossless needs crack: null"),
        ({"crack": [256]}, "less than or equal to 255"),
        ({"crack": "white"}, "valid list"),
    ],
)
def test_meanings_that_contradict_each_other_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        MaskValues.model_validate(values)


FOLDERS = Preset(classes={"normal": ["n"], "crack": ["c"]})
PAIRS = Preset(label_from="mask", mask_folders=["masks"])
SOUND = PAIRS.model_copy(update={"empty_masks": "sound"})
TILES = Preset.model_validate({"label_from": "mask", "mask_folders": ["masks"], "tiling": {}})


@pytest.mark.parametrize(
    ("mask", "label", "preset", "stored", "kind"),
    [
        (row(0, 1), "crack", FOLDERS, True, None),
        (row(0, 0), "normal", FOLDERS, True, None),
        (row(2, 0), "normal", FOLDERS, True, None),
        (row(0, 0), "crack", FOLDERS, True, "contradiction"),
        (row(2, 0), "crack", FOLDERS, True, "contradiction"),
        (row(0, 1), "normal", FOLDERS, True, "contradiction"),
        (row(0, 0), "crack", FOLDERS, False, None),
        (row(2, 2), "crack", FOLDERS, True, "ignored mask"),
        (row(2, 2), "crack", FOLDERS, False, None),
        (row(0, 1), None, PAIRS, True, None),
        (row(0, 0), None, PAIRS, True, "empty mask"),
        (row(0, 0), None, PAIRS, False, None),
        (row(0, 0), None, SOUND, True, None),
        (row(2, 2), None, SOUND, True, "ignored mask"),
        (row(2, 2), None, PAIRS, False, "ignored mask"),
        (row(2, 2), None, TILES, False, None),
        (row(2, 2), None, TILES, True, "ignored mask"),
    ],
)
def test_a_mask_is_believed_where_nothing_contradicts_it(mask, label, preset, stored, kind):
    if kind is None:
        check_mask(mask, label, preset, stored=stored)
    else:
        assert refused(lambda: check_mask(mask, label, preset, stored=stored))[0] == kind
