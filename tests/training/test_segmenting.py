import logging
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn
from torch.nn.functional import interpolate, max_pool2d, pad

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.imaging import overlapping
from crack_pipeline.models.unet import UNet
from crack_pipeline.training import segmenting
from crack_pipeline.training.segmenting import Tiles, bands, probabilities

WHOLE = 4096


class Pooled(nn.Module):
    """A small segmenter that pools, so that it matters where a tile begins."""

    def __init__(self, channels=3, levels=2):
        super().__init__()
        self.in_channels, self.stride = channels, 2**levels
        self.radius = 2 * self.stride + 1
        noise = torch.Generator().manual_seed(0)
        self.layers = nn.ModuleList(nn.Conv2d(channels, 4, 3, padding=1) for _ in range(levels + 1))
        self.head = nn.Conv2d(4, 1, 3, padding=1)
        for tensor in self.parameters():
            tensor.data = torch.randn(tensor.shape, generator=noise) * 0.5

    def forward(self, images):
        height, width = images.shape[-2:]
        image = pad(images - 0.5, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        features = self.layers[0](image)
        for level, layer in enumerate(self.layers[1:], start=1):
            coarse = layer(max_pool2d(image, 2**level)).relu()
            features = features + interpolate(coarse, scale_factor=2**level)
        return self.head(features.relu())[..., :height, :width]


class Local(nn.Module):
    """Looks at nothing but the pixel itself."""

    def __init__(self, stride=1, logit=lambda images: 20 * (images.mean(1, keepdim=True) - 0.5)):
        super().__init__()
        self.stride, self.logit, self.shapes = stride, logit, []

    def forward(self, images):
        self.shapes.append(tuple(images.shape))
        return self.logit(images)


@pytest.fixture
def plan(plan):
    return plan.model_copy(update={"batch_size": 1})


def photograph(height, width, channels=3, seed=0):
    shape = (height, width, channels) if channels else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def whole(network, image, plan, augmentations=1):
    return probabilities(network, image, plan, Tiles(size=WHOLE, augmentations=augmentations))


PLAN = resolve(Compute(accelerator="cpu", precision="32-true", batch_size=1, workers=0))


@settings(max_examples=25)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    levels=st.integers(0, 3),
    blend=st.integers(1, 20),
    spare=st.integers(0, 60),
    augmentations=st.sampled_from([1, 2, 4, 8]),
    batch=st.integers(1, 4),
)
def test_tiles_give_what_the_whole_photograph_gives(height, width, levels, blend, spare, augmentations, batch):
    network, image = Pooled(levels=levels), photograph(height, width)
    stride, halo = network.stride, network.radius
    smallest = 2 * halo + 3 * blend + 4 * stride + 16
    tiles = Tiles(size=smallest + spare, halo=halo, blend=blend, augmentations=augmentations)
    plan = PLAN.model_copy(update={"batch_size": batch})
    seen = probabilities(network, image, plan, tiles)
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen, whole(network, image, plan, augmentations), atol=1e-5)


def test_the_halo_is_needed(plan):
    network, image = Pooled(levels=2), photograph(100, 260)
    blind = probabilities(network, image, plan, Tiles(size=100, halo=0, blend=1))
    assert np.abs(blind - whole(network, image, plan)).max() > 0.01


@settings(max_examples=200)
@given(
    length=st.integers(1, 5000),
    stride=st.sampled_from([1, 2, 8, 16, 32]),
    halo=st.integers(0, 40),
    blend=st.integers(1, 40),
    spare=st.integers(0, 400),
)
def test_tiles_lie_on_the_grid_and_cover_the_side_once(length, stride, halo, blend, spare):
    size = 2 * halo + 3 * blend + 5 * stride + 16 + spare
    axis = overlapping.axis_of(length, overlapping.Cut(size, halo, blend, stride))
    starts, stops = zip(*axis.windows, strict=True)
    assert starts[0] == 0
    assert stops[-1] == length
    assert all(start % stride == 0 for start in starts)
    assert all(0 < stop - start <= size for start, stop in axis.windows)
    if length <= size:
        assert len(axis.windows) == 1
    else:
        assert len({stop - start for start, stop in axis.windows[:-1]}) == 1
    for (_, before), (after, _), (begin, end) in zip(axis.windows, axis.windows[1:], axis.fades, strict=False):
        assert end - begin == blend
        assert begin - after >= halo
        assert before - end >= halo
    for (_, end), (begin, _) in pairwise(axis.fades):
        assert end <= begin


@settings(max_examples=20)
@given(height=st.integers(1, 700), width=st.integers(1, 200))
def test_each_row_comes_once_from_top_to_bottom(height, width):
    image = photograph(height, width, 0)
    expected = 1 / (1 + np.exp(-20 * (image / np.float32(255) - 0.5)))
    below = 0
    for top, band in bands(Local(4), image, PLAN, Tiles(size=100, halo=8, blend=4)):
        assert top == below
        assert band.shape == (band.shape[0], width)
        np.testing.assert_allclose(band, expected[top : top + len(band)], atol=1e-5)
        below += len(band)
    assert below == height


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 90, 3), (333, 411, 3), (300, 200)])
def test_half_the_size_counts_for_a_third(plan, shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    network = Pooled(channels=1 if len(shape) == 2 else 3)
    tiles = Tiles(size=120, halo=network.radius, blend=8)
    height, width = shape[:2]
    half = cv2.resize(image, (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA)
    coarse = probabilities(network, half, plan, tiles)
    stretched = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    expected = probabilities(network, image, plan, tiles) * 2 / 3 + stretched / 3
    seen = probabilities(network, image, plan, tiles.model_copy(update={"half_size": True}))
    np.testing.assert_allclose(seen, expected, atol=1e-3)
    assert np.abs(seen - probabilities(network, image, plan, tiles)).max() > 1e-3 or min(height, width) == 1


@pytest.mark.parametrize("augmentations", [1, 2, 4, 8])
def test_a_constant_network_gives_constants(plan, augmentations):
    network = Local(8, lambda images: torch.full_like(images[:, :1], 0.3))
    seen = probabilities(network, photograph(333, 411), plan, Tiles(size=150, halo=9, augmentations=augmentations))
    np.testing.assert_allclose(seen, 1 / (1 + np.exp(-0.3)), rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1])
def test_no_seam_shows_where_tiles_meet(plan, axis):
    """A network that is biased by where in its tile it looks: what differs is faded, not cut."""

    def by_place(images):
        slope = torch.linspace(-0.5, 0.5, images.shape[2 + axis])
        return (slope if axis else slope[:, None]).expand(images[:, :1].shape)

    seen = probabilities(Local(8, by_place), photograph(300, 300), plan, Tiles(size=120, halo=8, blend=24))
    assert np.ptp(seen) > 0.15
    assert np.abs(np.diff(seen, axis=axis)).max() < 0.2 / 24 * 2
    assert np.abs(np.diff(seen, axis=1 - axis)).max() < 1e-6


@pytest.mark.parametrize("augmentations", [2, 4, 8])
def test_the_mean_over_views_turns_with_the_photograph(plan, augmentations):
    network, image = Pooled(levels=2), photograph(250, 173)
    tiles = Tiles(size=120, halo=network.radius, blend=8, augmentations=augmentations)
    turns = [np.fliplr]
    if augmentations >= 4:
        turns += [np.flipud, lambda a: np.rot90(a, 2)]
    if augmentations == 8:
        turns += [np.rot90, lambda a: np.rot90(a, 3), lambda a: a.swapaxes(0, 1)]
    seen = probabilities(network, image, plan, tiles)
    for turn in turns:
        np.testing.assert_allclose(probabilities(network, turn(image), plan, tiles), turn(seen), atol=1e-5)
    once = probabilities(network, np.fliplr(image), plan, tiles.model_copy(update={"augmentations": 1}))
    assert np.abs(once - np.fliplr(probabilities(network, image, plan, Tiles(size=WHOLE)))).max() > 0.01


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 400, 3), (400, 1, 3), (7, 5, 3)])
def test_a_photograph_may_be_one_pixel_wide(plan, shape):
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    network = Pooled(levels=2)
    seen = probabilities(network, image, plan, Tiles(size=120, halo=network.radius, blend=8, augmentations=8))
    assert seen.shape == shape[:2]
    np.testing.assert_allclose(seen, whole(network, image, plan, 8), atol=1e-5)


def test_grey_photographs_have_one_channel_or_none(plan):
    network, image = Pooled(channels=1), photograph(90, 80, 0)
    seen = whole(network, image, plan)
    np.testing.assert_array_equal(seen, whole(network, image[..., None], plan))
    assert np.ptp(seen) > 0.1


def test_a_photograph_may_be_mapped_from_a_file(plan, tmp_path):
    image = photograph(200, 150)
    np.save(tmp_path / "photograph.npy", image)
    mapped = np.load(tmp_path / "photograph.npy", mmap_mode="r")
    tiles = Tiles(size=100, halo=8, blend=4)
    np.testing.assert_array_equal(
        probabilities(Local(4), mapped, plan, tiles), probabilities(Local(4), image, plan, tiles)
    )


def test_what_fits_goes_through_whole_and_the_rest_in_tiles_of_one_size(plan):
    network = Local(16)
    probabilities(network, photograph(40, 100), plan, Tiles(size=100, halo=0, blend=1))
    assert network.shapes == [(1, 3, 40, 100)]
    network.shapes.clear()
    probabilities(network, photograph(50, 1000), plan, Tiles(size=300, halo=8, blend=16))
    assert network.shapes == [(1, 3, 50, 288)] * 3 + [(1, 3, 50, 280)]
    many = plan.model_copy(update={"batch_size": 2})
    network.shapes.clear()
    probabilities(network, photograph(50, 1000), many, Tiles(size=300, halo=8, blend=16))
    assert network.shapes == [(2, 3, 50, 288), (1, 3, 50, 288), (1, 3, 50, 280)]


@pytest.mark.parametrize("patch", [1, 2])
def test_the_default_tiles_of_a_hundred_megapixels_overlap_little(patch):
    cut = segmenting.cut_of(Tiles(), UNet(levels=5, base_channels=1, upsampling="nearest", patch=patch))
    axis = overlapping.axis_of(10_000, cut)
    assert (sum(stop - start for start, stop in axis.windows) / 10_000) ** 2 < 1.25


@pytest.mark.parametrize("upsampling", ["nearest", "transposed", "bilinear"])
def test_the_default_halo_is_as_far_as_the_network_looks(plan, upsampling):
    network = UNet(levels=3, base_channels=2, upsampling=upsampling, patch=2, prior=0.5)
    image = photograph(50, 500)
    tiles = Tiles(size=200, blend=3)
    np.testing.assert_allclose(probabilities(network, image, plan, tiles), whole(network, image, plan), atol=1e-6)


def test_the_network_runs_at_the_precision_of_the_plan_and_in_evaluation_mode(plan):
    seen = {}

    class Typed(Local):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 1, 1)
            self.drop = nn.Dropout(0.9)

        def forward(self, images):
            logits = self.drop(self.layer(images))
            seen.update(dtype=logits.dtype, training=self.training, grad=logits.requires_grad)
            return logits

    halved = plan.model_copy(update={"precision": "bf16-mixed"})
    result = probabilities(Typed().train(), photograph(9, 9), halved, Tiles())
    assert seen == {"dtype": torch.bfloat16, "training": False, "grad": False}
    assert result.dtype == np.float32


def test_a_batch_that_does_not_fit_goes_through_in_parts(plan):
    def small(images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 20 * (images.mean(1, keepdim=True) - 0.5)

    image, tiles = photograph(50, 1000), Tiles(size=300, halo=8, blend=16)
    many = plan.model_copy(update={"batch_size": 100})
    network = Local(16, small)
    np.testing.assert_array_equal(
        probabilities(network, image, many, tiles), probabilities(Local(16), image, plan, tiles)
    )
    assert max(len(shape) and shape[0] for shape in network.shapes) == 3


def test_what_cannot_work_is_one_clear_message(plan):
    def never(_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    nothing = Local(logit=lambda images: images[:, :1] * torch.nan)
    classes = Local(logit=lambda images: images)
    for network, image, tiles, message in (
        (Pooled(), photograph(9, 9, 0), Tiles(), "has 1 channels, the network takes 3: give it in RGB"),
        (Pooled(channels=1), photograph(9, 9), Tiles(), "has 3 channels, the network takes 1: give it in grey"),
        (Local(), photograph(9, 9).astype(np.float32), Tiles(), r"uint8 .*, not float32 \(9, 9, 3\)"),
        (Local(), photograph(9, 0), Tiles(), r"at least 1 px, not uint8 \(9, 0, 3\)"),
        (Local(None), photograph(9, 9), Tiles(), "stride None"),
        (Local(32), photograph(999, 9), Tiles(size=200, halo=32, blend=32), "200 px.*must be at least 224 px"),
        (Local(logit=never), photograph(9, 19), Tiles(), "19 × 9 px does not fit in the memory.*smaller tiles.size"),
        (nothing, photograph(9, 9), Tiles(), "gives NaN"),
        (classes, photograph(9, 9), Tiles(), r"gives \(1, 3, 9, 9\).*one logit per pixel"),
    ):
        with pytest.raises(ValueError, match=message):
            probabilities(network, image, plan, tiles)
    for wrong in ({"augmentations": 3}, {"halo": -1}, {"size": 0}, {"blend": 0}):
        with pytest.raises(ValidationError):
            Tiles(**wrong)


def test_the_smallest_tiles_that_the_message_names_work(plan):
    image = photograph(999, 9)
    tiles = Tiles(size=224, halo=32, blend=32)
    np.testing.assert_allclose(probabilities(Local(32), image, plan, tiles), whole(Local(32), image, plan), atol=1e-6)


def test_progress_is_told(plan, caplog, monkeypatch):
    monkeypatch.setattr(segmenting, "_SECONDS_BETWEEN_REPORTS", 0.0)
    with caplog.at_level(logging.INFO, logger=segmenting.__name__):
        probabilities(Local(8), photograph(1000, 600), plan, Tiles(size=400, halo=8, blend=8))
    assert len(caplog.records) == 6
    assert "segmented 0.3 of 0.6 megapixels" in caplog.text
    assert "segmented 0.6 of 0.6 megapixels" in caplog.text


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_what_is_measured_where_the_command_runs_needs_no_gpu_of_the_cluster(plan):
    theirs = plan.model_copy(update={"engine": "ray", "accelerator": "cuda", "precision": "bf16-mixed"})
    photograph = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    network, tiles = Pooled(), Tiles(size=WHOLE)
    expected = probabilities(network, photograph, plan.model_copy(update={"precision": "32-true"}), tiles)
    assert np.array_equal(probabilities(network, photograph, theirs, tiles), expected)
