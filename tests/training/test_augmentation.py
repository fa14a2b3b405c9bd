import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from torch.testing import assert_close

from crack_pipeline.imaging.photograph_stack import BACKGROUND, CRACK, IGNORED
from crack_pipeline.training import augmentation
from crack_pipeline.training.augmentation import Augmentation, augment

NOTHING = Augmentation(flips=False, brightness=0, contrast=0, gamma=0, colour=0, blur=0, noise=0, jpeg=0)
EVERYTHING = Augmentation(rotation=1, blur=1, jpeg=1)


def only(**change):
    return NOTHING.model_copy(update=change)


def changed(images, how, masks=None, seed=0):
    masks = torch.zeros(len(images), *images.shape[2:], dtype=torch.uint8) if masks is None else masks
    torch.manual_seed(seed)
    return augment(images, masks, how)


def noise(number=16, channels=3, side=32, seed=0):
    drawn = torch.Generator().manual_seed(seed)
    images = torch.rand(number, channels, side, side, generator=drawn)
    return images, torch.randint(0, 3, (number, side, side), generator=drawn, dtype=torch.uint8)


@settings(max_examples=40)
@given(
    number=st.integers(1, 5),
    channels=st.sampled_from([1, 3]),
    side=st.integers(5, 40),
    seed=st.integers(0, 10**6),
)
def test_a_batch_keeps_its_form_and_the_seed_decides_it(number, channels, side, seed):
    images, masks = noise(number, channels, side)
    before = images.clone(), masks.clone()
    seen, followed = changed(images, EVERYTHING, masks, seed)
    assert torch.equal(images, before[0])
    assert torch.equal(masks, before[1])
    assert (seen.shape, seen.dtype, followed.shape, followed.dtype) == (
        images.shape,
        torch.float32,
        masks.shape,
        torch.uint8,
    )
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert 0 <= seen.min() <= seen.max() <= 1
    assert followed.max() <= IGNORED
    again, followed_again = changed(images, EVERYTHING, masks, seed)
    assert torch.equal(seen, again)
    assert torch.equal(followed, followed_again)


def test_each_seed_and_each_image_is_changed_differently():
    images = noise(1)[0].expand(8, -1, -1, -1)
    seen, _ = changed(images, EVERYTHING)
    assert len(torch.unique(seen, dim=0)) == 8
    assert not torch.equal(seen, changed(images, EVERYTHING, seed=1)[0])


def test_nothing_is_changed_where_everything_is_off():
    images, masks = noise()
    seen, followed = changed(images, NOTHING, masks)
    assert_close(seen, images, atol=1e-6, rtol=0)
    assert torch.equal(followed, masks)


def test_squares_lie_in_all_eight_ways_and_the_mask_in_the_same():
    masks = noise(1, side=7)[1].expand(400, -1, -1)
    seen, followed = changed(masks.unsqueeze(1) / 2, only(flips=True), masks)
    assert torch.equal((seen.squeeze(1) * 2).round().to(torch.uint8), followed)
    turned = [masks[0].rot90(turns) for turns in range(4)]
    ways = {tuple(way.flatten().tolist()) for one in turned for way in (one, one.flip(0))}
    counts = {way: 0 for way in ways}
    for one in followed:
        counts[tuple(one.flatten().tolist())] += 1
    assert len(counts) == 8
    assert min(counts.values()) > 25


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), scale=st.floats(1, 2))
def test_masks_follow_where_images_are_turned_and_scaled(seed, scale):
    masks = torch.full((4, 48, 48), BACKGROUND, dtype=torch.uint8)
    masks[:, 20:28, 8:40] = CRACK
    masks[:, 8:20, 30:40] = CRACK
    seen, followed = changed((masks == CRACK).float().unsqueeze(1), only(rotation=1, scale=scale), masks, seed)
    assert not torch.equal(followed, masks)
    known = followed != IGNORED
    bright, crack = (seen.squeeze(1) > 0.5) & known, followed == CRACK
    for one, other in zip(bright, crack, strict=True):
        assert (one & other).sum() > 0.85 * (one | other).sum()
    # Only pixels that come from beyond the border may be bright without a mask.
    assert ((seen.squeeze(1) > 0.5) & ~known).sum() <= (~known).sum()


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6))
def test_what_was_not_in_the_crop_is_ignored_and_what_was_ignored_stays_so(seed):
    side, within = 65, 10
    at = torch.arange(side) - side // 2
    radius = (at[:, None] ** 2 + at[None] ** 2).sqrt().expand(3, -1, -1)
    masks = torch.where(radius < within, IGNORED, BACKGROUND).to(torch.uint8)
    seen, followed = changed(torch.rand(3, 1, side, side), only(rotation=1, scale=1), masks, seed)
    assert (followed[radius < within - 1] == IGNORED).all()
    assert (followed[(radius > within + 1) & (radius < side // 2)] == BACKGROUND).all()
    # A square that is turned by anything but a quarter leaves corners open.
    assert (followed[radius > side * 0.6] == IGNORED).any()
    assert seen.min() >= 0


def test_what_shrinks_is_surrounded_by_ignored_pixels(monkeypatch):
    monkeypatch.setattr(augmentation, "_uniform", lambda number, low, high, like: torch.full((number,), high))
    _, followed = changed(torch.rand(1, 1, 40, 40), only(rotation=1, scale=2))
    expected = torch.full((1, 40, 40), IGNORED, dtype=torch.uint8)
    expected[:, 10:30, 10:30] = BACKGROUND
    assert torch.equal(followed, expected)


def test_brightness_shifts_and_contrast_spreads_about_the_mean():
    images = 0.4 + 0.2 * noise(200)[0]
    shift = changed(images, only(brightness=0.15))[0] - images
    assert_close(shift, shift.mean((1, 2, 3), keepdim=True).expand_as(shift), atol=1e-5, rtol=0)
    assert 0.13 < shift.abs().max() <= 0.15 + 1e-5
    assert shift.min() < 0 < shift.max()

    spread = changed(images, only(contrast=0.3))[0]
    assert_close(spread.mean((1, 2, 3)), images.mean((1, 2, 3)))
    ratio = spread.std((1, 2, 3)) / images.std((1, 2, 3))
    assert 0.7 - 1e-4 <= ratio.min() < 0.75
    assert 1.25 < ratio.max() <= 1.3 + 1e-4


def test_gamma_keeps_black_and_white_and_colour_shifts_the_channels_apart():
    images = noise(200)[0].clamp(0.01, 1)
    exponent = changed(images, only(gamma=0.5))[0].log() / images.log()
    middle = (images > 0.1) & (images < 0.9)
    assert np.exp(-0.5) - 1e-3 < exponent[middle].min() < 0.65
    assert 1.55 < exponent[middle].max() < np.exp(0.5) + 1e-3
    white = changed(torch.ones(3, 3, 8, 8), only(gamma=0.5))[0]
    assert_close(white, torch.ones_like(white))

    shift = (changed(0.4 + 0.2 * images, only(colour=0.05))[0] - (0.4 + 0.2 * images)).mean((2, 3))
    assert 0.04 < shift.abs().max() <= 0.05 + 1e-5
    assert (shift.std(1) > 1e-3).float().mean() > 0.9


@settings(max_examples=20)
@given(seed=st.integers(0, 10**6), width=st.floats(0.3, 4), side=st.integers(1, 40))
def test_blur_keeps_the_mean_and_smooths(seed, width, side):
    constant = torch.rand(3, 3, 1, 1).expand(-1, -1, side, side)
    assert_close(changed(constant, only(blur=1, blur_width=width), seed=seed)[0], constant.contiguous())
    # A dark border wider than the blur reaches, so that nothing is lost or found there.
    images = torch.nn.functional.pad(noise(3, side=side, seed=seed)[0], [12] * 4)
    seen, _ = changed(images, only(blur=1, blur_width=width), seed=seed)
    assert_close(seen.mean((2, 3)), images.mean((2, 3)), atol=1e-5, rtol=1e-4)
    assert (seen.std((2, 3)) < images.std((2, 3))).all()


def test_a_share_of_the_images_is_out_of_focus():
    images = noise(400, 1, 8)[0]
    share = (changed(images, only(blur=0.25))[0] != images).any(3).any(2).any(1).float().mean()
    assert 0.17 < share < 0.33


def test_noise_is_as_strong_as_said_on_half_of_the_images():
    images = torch.full((400, 1, 16, 16), 0.5)
    deviation = (changed(images, only(noise=0.1))[0] - images).std((1, 2, 3))
    assert 0.4 < (deviation > 0).float().mean() < 0.6
    assert 0.09 < deviation.max() < 0.12


def photograph(side=64):
    """Grey values with edges, slopes and noise, as uint8."""
    y, x = np.mgrid[:side, :side]
    drawn = np.random.default_rng(0).normal(0, 6, (side, side))
    return (90 + x + 25 * np.sin(y / 5) + drawn - 70 * (abs(x - y / 2 - 12) < 2)).clip(0, 255).astype(np.uint8)


def compressed(pixels, quality, monkeypatch):
    monkeypatch.setattr(augmentation, "_uniform", lambda number, low, high, like: torch.full((number,), float(low)))
    images = torch.from_numpy(pixels)[None, None].float() / 255
    return changed(images, only(jpeg=1, jpeg_quality=quality))[0][0, 0].numpy() * 255


@pytest.mark.parametrize("quality", [5, 30, 49, 50, 75, 95, 100])
def test_compression_does_what_jpeg_does(quality, monkeypatch):
    buffer = io.BytesIO()
    Image.fromarray(photograph()).save(buffer, "JPEG", quality=quality)
    expected = np.asarray(Image.open(buffer), np.float64)
    difference = np.abs(compressed(photograph(), quality, monkeypatch) - expected)
    # Theirs is rounded to whole grey values, and a coefficient in the middle between two steps may go either way.
    assert difference.mean() < 0.8
    assert (difference > 4).mean() < 0.05


def test_the_error_of_compression_falls_with_the_quality(monkeypatch):
    pixels = photograph(61)  # not a multiple of a block
    error = [np.square(compressed(pixels, quality, monkeypatch) - pixels).mean() for quality in (2, 10, 30, 60, 90)]
    assert error == sorted(error, reverse=True)
    assert error[0] > 20 * error[-1] > 0


@pytest.mark.parametrize(
    "wrong",
    [{"rotation": 1.1}, {"scale": 0.5}, {"contrast": 1}, {"blur_width": 0}, {"jpeg_quality": 0}, {"hue": 0.1}],
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ValidationError):
        Augmentation(**wrong)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is found")
def test_a_gpu_changes_a_batch_like_a_cpu():
    images, masks = noise()
    how = EVERYTHING.model_copy(update={"noise": 0, "jpeg": 0})
    expected, followed = changed(images, how, masks)
    seen, followed_there = changed(images.cuda(), how, masks.cuda())
    assert_close(seen.cpu(), expected, atol=1e-3, rtol=0)
    assert (followed_there.cpu() != followed).float().mean() < 1e-3
