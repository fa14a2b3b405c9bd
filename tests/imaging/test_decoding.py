import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from crack_pipeline.imaging import decoding
from crack_pipeline.imaging.decoding import Undecodable, convert, decode, decode_mask, header_size, prepare

GREY = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)))
COLOUR = arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)))
LOSSLESS = st.sampled_from([("PNG", {}), ("TIFF", {}), ("BMP", {}), ("WEBP", {"lossless": True, "exact": True})])


def encode(image, kind="PNG", **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


@given(GREY, LOSSLESS)
def test_grey_comes_back_as_it_was(pixels, kind):
    assert np.array_equal(decode(encode(pixels, kind[0], **kind[1]), mode="grey"), pixels)


@given(COLOUR, LOSSLESS)
def test_colours_come_back_as_they_were_and_grey_is_their_luma(pixels, kind):
    data = encode(pixels, kind[0], **kind[1])
    assert np.array_equal(decode(data, mode="rgb"), pixels)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode(data, mode="grey") - luma).max() <= 1
    assert np.array_equal(decode(data, mode="grey"), convert(pixels, "grey"))


@given(arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.sampled_from(["PNG", "TIFF"]))
def test_sixteen_bits_are_scaled_over_their_whole_range(pixels, kind):
    found = decode(encode(pixels, kind), mode="grey").astype(float)
    assert np.abs(found - pixels / 257).max() <= 0.5


@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.sampled_from(["PNG", "TIFF", "BMP"]))
def test_one_bit_is_black_and_white(pixels, kind):
    data = encode(Image.fromarray(pixels), kind)
    assert np.array_equal(decode(data, mode="grey"), pixels * np.uint8(255))
    assert np.array_equal(decode_mask(data)[0] > 0, pixels)


@given(GREY, st.integers(1, 8))
def test_orientation_is_undone(pixels, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    undo = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 3),
        7: lambda a: np.rot90(np.transpose(a), 2),
        8: np.rot90,
    }
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})):
        found = decode(encode(pixels, kind, exif=exif, **options), mode="grey")
        assert np.array_equal(found, undo[orientation](pixels)), kind


def test_palette_gives_its_colours_and_as_a_mask_its_indices():
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 10, 30] + [0] * 762)
    image.putpixel((1, 0), 1)
    data = encode(image)
    assert decode(data).tolist() == [[[0, 0, 0], [200, 10, 30]]]
    assert decode_mask(data)[0].tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("palette", "values"),
    [
        ([255, 255, 255, 0, 0, 0], [255, 0]),  # white first: what the indices say would be the mask turned inside out
        ([0, 0, 0, 255, 255, 255], [0, 255]),
        ([0, 0, 0, 0, 0, 0], [0, 1]),
        ([0, 0, 0, 128, 128, 128, 9, 8, 7], [0, 1]),
    ],
)
def test_a_palette_of_greys_gives_them_as_a_mask_too(palette, values):
    image = Image.new("P", (2, 1))
    image.putpalette(palette)
    image.putpixel((1, 0), 1)
    assert decode_mask(encode(image))[0].tolist() == [values]


def test_colours_that_a_program_has_put_in_order_are_no_classes():
    picture = Image.new("RGB", (16, 16), "black")
    picture.paste(Image.new("RGB", (4, 16), "red"))
    indexed = picture.convert("P", palette=Image.Palette.ADAPTIVE, colors=2)
    assert indexed.getpalette()[:6] == [255, 0, 0, 0, 0, 0]
    as_grey = np.where(np.arange(16) < 4, 76, 0)
    assert (decode_mask(encode(indexed))[0] == as_grey).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_transparent_pixels_become_white(kind):
    pixels = np.array([[[10, 20, 30, 0], [10, 20, 30, 255]]], np.uint8)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert decode(encode(pixels, kind, **options)).tolist() == [[[255, 255, 255], [10, 20, 30]]]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_light_light(kind):
    for value in (20, 128, 240):
        data = encode(Image.new("RGB", (16, 16), (value,) * 3).convert("CMYK"), kind)
        assert np.abs(decode(data, mode="grey").astype(int) - value).max() <= 3


def test_the_first_of_several_pictures_is_taken():
    first, second = (Image.new("RGB", (16, 16), (v,) * 3) for v in (50, 200))
    for kind, options in (("TIFF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("MPO", {})):
        data = encode(first, kind, save_all=True, append_images=[second], **options)
        assert np.abs(decode(data, mode="grey").astype(int) - 50).max() <= 1, kind


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_reason(data):
    with pytest.raises(Undecodable) as refused:
        decode(data)
    assert refused.value.kind
    assert str(refused.value) == refused.value.reason


@given(st.sampled_from(["JPEG", "PNG", "TIFF", "BMP", "WEBP"]), st.floats(0, 0.95))
def test_a_truncated_file_is_refused(kind, share):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    data = encode(pixels, kind)
    with pytest.raises(Undecodable):
        decode(data[: int(len(data) * share)])


def test_damaged_exif_does_not_lose_the_picture():
    data = encode(np.full((16, 16), 77, np.uint8), "JPEG", exif=b"Exif\0\0" + b"\xff" * 40)
    assert decode(data, mode="grey").shape == (16, 16)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_too_many_pixels_are_refused_from_the_header(kind):
    with pytest.raises(Undecodable, match="20 × 10 px are more than the 199 px") as refused:
        decode(encode(Image.new("RGB", (20, 10)), kind), max_pixels=199)
    assert refused.value.kind == "too many pixels"
    assert decode(encode(Image.new("RGB", (20, 10)), kind), max_pixels=200).shape == (10, 20, 3)


def test_bombs_are_not_decoded():
    webp = bytearray(encode(Image.new("RGB", (20, 10)), "WEBP", lossless=True))
    webp[21:25] = struct.pack("<I", 16_382 | 16_382 << 14)
    with pytest.raises(Undecodable, match="16383 × 16383"):
        decode(bytes(webp), max_pixels=10**8)


@pytest.mark.parametrize(("kind", "named"), [("GIF", "a GIF"), ("PDF", "a PDF"), ("AVIF", "an AVIF")])
def test_other_kinds_are_named(kind, named):
    with pytest.raises(Undecodable, match=f"^{named} file") as refused:
        decode(encode(Image.new("RGB", (16, 16)), kind))
    assert refused.value.kind == "unsupported"


def test_thirty_two_bits_are_refused():
    for dtype in (np.float32, np.int32):
        with pytest.raises(Undecodable, match="32 bits"):
            decode(encode(np.zeros((4, 4), dtype), "TIFF"))


def test_prepare_keeps_the_mean_where_it_shrinks():
    image = np.zeros((227, 227), np.uint8)
    image[:, 113] = 255  # a crack of one pixel
    small = prepare(image, 64, "grey")
    assert small.shape == (64, 64)
    assert small.max() >= 36  # half of 255 in 3.5
    assert small.mean() == pytest.approx(image.mean(), abs=0.5)


@given(COLOUR, st.integers(1, 20), st.sampled_from(["grey", "rgb"]))
def test_prepare_gives_the_shape_asked_for_within_the_range(image, size, mode):
    found = prepare(image, size, mode)
    assert found.shape == ((size, size) if mode == "grey" else (size, size, 3))
    assert found.flags.c_contiguous
    grey = convert(image, mode)
    assert grey.min() <= found.min() <= found.max() <= grey.max()


def test_wrong_arrays_are_refused():
    with pytest.raises(ValueError, match=r"float64 of \(4, 4\)"):
        prepare(np.zeros((4, 4)), 2, "grey")
    with pytest.raises(ValueError, match="not 'gray'"):
        prepare(np.zeros((4, 4), np.uint8), 2, "gray")
    with pytest.raises(ValueError, match="not 0"):
        prepare(np.zeros((4, 4), np.uint8), 0, "grey")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_that_lies_in_the_transparency_is_refused(mode):
    alpha = Image.fromarray(np.array([[0, 255]], np.uint8))
    white = Image.new("L", (2, 1), 255)
    mask = Image.merge(mode, [white] * (len(mode) - 1) + [alpha])
    with pytest.raises(Undecodable, match="save it without alpha channel"):
        decode_mask(encode(mask))


def test_a_palette_that_differs_in_nothing_but_transparency_is_refused():
    mask = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    mask.putpalette([255] * 6)
    with pytest.raises(Undecodable, match="save it without alpha channel"):
        decode_mask(encode(mask, transparency=1))
    assert decode_mask(encode(mask, transparency=0))[0].tolist() == [[0, 1]]


def test_a_transparent_background_of_a_mask_is_background():
    values = Image.fromarray(np.array([[0, 255]], np.uint8))
    assert decode_mask(encode(Image.merge("LA", [values, values])))[0].tolist() == [[0, 255]]


def test_masks_keep_their_values_and_say_whether_they_are_blurred():
    values = np.array([[0, 204, 255, 1]], np.uint8)
    assert decode_mask(encode(values))[0].tolist() == values.tolist()
    assert not decode_mask(encode(values))[1]
    assert decode_mask(encode(values, "JPEG"))[1]
    assert decode_mask(encode(np.array([[0, 1, 255]], np.uint16)))[0].tolist() == [[0, 1, 255]]
    assert decode_mask(encode(np.array([[0, 65535]], np.uint16)))[0].tolist() == [[0, 255]]


@given(COLOUR, st.integers(1, 30))
def test_large_pictures_are_copied_by_strips(pixels, strip):
    grey = convert(pixels, "grey")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(decoding, "_STRIP", strip)
        assert np.array_equal(decode(encode(pixels)), pixels)
        assert np.array_equal(decode(encode(grey), mode="grey"), grey)
        assert np.array_equal(decode_mask(encode(grey))[0], grey)
        assert np.array_equal(decode_mask(encode(grey > 99))[0], grey > 99)
        wide = grey.astype(np.uint16) * 257
        assert np.array_equal(decode(encode(wide), mode="grey"), grey)
        assert np.array_equal(decode_mask(encode(wide // 257))[0], grey)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_the_size_is_read_from_the_header(kind):
    data = encode(np.zeros((10, 20), np.uint8), kind)
    assert header_size(data) == (20, 10)
    assert header_size(data[:4]) is None
    assert header_size(b"text") is None
