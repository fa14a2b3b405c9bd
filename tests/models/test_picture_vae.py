import pytest
import torch

from crack_pipeline.models import pyramid
from crack_pipeline.models.picture_vae import PictureVAE, details


@pytest.mark.parametrize("size", [16, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("masks", [True, False])
def test_shapes_and_ranges(size, channels, masks):
    network = PictureVAE(size, channels, masks, base_channels=4, latent=16).eval()
    pictures = torch.rand(2, channels + masks, size, size)
    mean, log_variance = network.encode(pictures)
    assert mean.shape == log_variance.shape == (2, 16)
    decoded = network.decode(mean)
    assert decoded.images.shape == (2, channels, size, size)
    assert 0 <= decoded.images.min() <= decoded.images.max() <= 1
    assert (decoded.mask_logits is not None) == masks
    if masks:
        assert decoded.mask_logits.shape == (2, 1, size, size)
    bands = details(pictures[:, :channels])
    assert [scale.shape for scale in decoded.log_scales] == [band.shape for band in bands[:-1]]


def test_noise_changes_the_picture_and_not_the_mask():
    torch.manual_seed(0)
    network = PictureVAE(32, 3, True, base_channels=4, latent=16).eval()
    latent = torch.randn(1, 16)
    one, same, other = (
        network.decode(latent, torch.randn(1, network.noise_values, generator=torch.Generator().manual_seed(seed)))
        for seed in (1, 1, 2)
    )
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.images, other.images)
    assert torch.equal(one.mask_logits, other.mask_logits)


def test_without_noise_a_latent_vector_is_one_picture():
    network = PictureVAE(32, 1, False, base_channels=4, latent=16, grainy=False).eval()
    latent = torch.randn(2, 16)
    assert network.noise_values == 0
    assert torch.equal(network.decode(latent).images, network.decode(latent).images)


@pytest.mark.parametrize("dense", [True, False])
def test_a_latent_number_says_something_of_its_part_or_of_the_whole_picture(dense):
    torch.manual_seed(0)
    network = PictureVAE(64, 1, False, base_channels=4, latent=64, grainy=False, dense=dense).eval()
    latent = torch.zeros(2, 64)
    latent[1, 0] = 3  # the first number of the upper left part
    tone = network.tone(network._placed(latent))
    changed = (tone[1] - tone[0]).abs().amax(dim=0) > 1e-6
    assert changed[0, 0]
    assert bool(changed[1:, 1:].any()) == dense


def test_bands_make_up_the_picture():
    pictures = torch.rand(2, 1, 32, 32)
    assert torch.allclose(pyramid.join(details(pictures)), pictures, atol=1e-6)


def test_latent_numbers_that_cannot_be_shared_out_are_refused():
    with pytest.raises(ValueError, match="latent is 20; it must be a multiple of 16"):
        PictureVAE(32, latent=20)


@pytest.mark.parametrize("base_channels", [5, 7, 24])
def test_any_number_of_channels_will_do(base_channels):
    network = PictureVAE(32, 1, True, base_channels=base_channels, latent=16)
    assert network.decode(torch.randn(2, 16)).images.shape == (2, 1, 32, 32)


@pytest.mark.parametrize("size", [8, 48, 100])
def test_a_side_that_is_no_power_of_two_is_refused(size):
    with pytest.raises(ValueError, match=f"size is {size}; it must be a power of two"):
        PictureVAE(size)
