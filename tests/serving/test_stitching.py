import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.evaluation.probability_levels import to_levels
from crack_pipeline.imaging.overlapping import Tiles
from crack_pipeline.serving import stitching
from crack_pipeline.training import segmenting

PLAN = resolve(Compute(accelerator="cpu", precision="32-true", batch_size=3, workers=0))


class Blurred(nn.Module):
    """Pools on a grid and looks around, so that it matters where a tile begins and how large it is."""

    in_channels, stride, reach = 3, 4, 9

    def forward(self, images):
        height, width = images.shape[-2:]
        around = nn.functional.pad(images, (0, -width % 4, 0, -height % 4), mode="replicate")
        pooled = nn.functional.max_pool2d(around, 4)
        wide = nn.functional.avg_pool2d(pooled, 3, 1, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)
        return 9 * (wide.mean(1, keepdim=True) - around[:, :1])[..., :height, :width]


NETWORK = Blurred().eval()


def without_torch(pictures):
    """What an exported model would give."""
    with torch.inference_mode():
        images = torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2).float() / 255
        return NETWORK(images)[:, 0].sigmoid().numpy()


@settings(max_examples=40)
@given(
    height=st.integers(1, 200),
    width=st.integers(1, 200),
    size=st.integers(64, 120),
    augmentations=st.sampled_from([1, 2, 4, 8]),
    half_size=st.booleans(),
    seed=st.integers(0, 99),
)
def test_numpy_stitches_as_torch_does(height, width, size, augmentations, half_size, seed):
    noise = np.random.default_rng(seed).integers(0, 256, (-(-height // 3), -(-width // 3), 3), np.uint8)
    photograph = np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    tiles = Tiles(size=size, halo=8, blend=5, augmentations=augmentations, half_size=half_size)
    expected = segmenting.probabilities(NETWORK, photograph, PLAN, tiles)
    cut = segmenting.cut_of(tiles, NETWORK)
    found = stitching.probabilities(without_torch, photograph, tiles, cut)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_array_equal(stitching.levels(without_torch, photograph, tiles, cut), to_levels(found))


def test_a_grey_photograph_has_one_channel():
    photograph = np.arange(70 * 90, dtype=np.uint8).reshape(70, 90)
    tiles, shapes = Tiles(size=64, halo=4, blend=4, half_size=True), set()

    def network(pictures):
        shapes.add(pictures.shape[3:])
        return pictures[..., 0] / np.float32(255)

    found = stitching.probabilities(network, photograph, tiles, segmenting.cut_of(tiles, NETWORK))
    assert (found.shape, shapes) == ((70, 90), {(1,)})


def test_tiles_too_small_for_their_halo_are_refused():
    tiles = Tiles(size=32, halo=16, blend=4)
    with pytest.raises(ValueError, match=r"tiles\.size is 32 px"):
        stitching.levels(without_torch, np.zeros((9, 9, 3), np.uint8), tiles, segmenting.cut_of(tiles, NETWORK))
