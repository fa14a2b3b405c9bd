import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crack_pipeline.models.vae import ConvVAE


@settings(max_examples=20)
@given(
    channels=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    image_channels=st.sampled_from([1, 3]),
    latent=st.integers(1, 9),
    kernel=st.sampled_from([3, 4]),
    factor=st.integers(1, 3),
    number=st.integers(1, 3),
)
def test_images_come_back_in_their_shape(channels, image_channels, latent, kernel, factor, number):
    size = factor * 2 ** len(channels)
    network = ConvVAE(size, image_channels, channels, latent, kernel)
    images = torch.rand(number, image_channels, size, size)
    output = network(images)
    assert output.reconstruction.shape == images.shape
    assert output.mean.shape == output.log_variance.shape == (number, latent)
    assert 0 <= output.reconstruction.min() <= output.reconstruction.max() <= 1
    assert network.decode(output.mean).shape == images.shape


def test_noise_is_drawn_in_training_only():
    network, images = ConvVAE(16, 1, (4, 8), latent=4), torch.rand(2, 1, 16, 16)
    assert not torch.equal(network(images).reconstruction, network(images).reconstruction)
    network.eval()
    seen = network(images)
    assert torch.equal(seen.reconstruction, network(images).reconstruction)
    assert torch.equal(seen.reconstruction, network.decode(seen.mean))


def test_the_published_network_has_channels_1_to_256_and_latent_128():
    network = ConvVAE()
    weights = [layer.weight.shape for layer in network.encoder if hasattr(layer, "weight")]
    assert [shape[:2] for shape in weights] == [(32, 1), (64, 32), (128, 64), (256, 128)]
    assert network.to_mean.weight.shape == (128, 256 * 8 * 8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 100, "channels": (1, 2, 3)}, "image_size is 100; with 3 convolutions .* divisible by 8"),
        ({"kernel": 5}, "kernel is 5; it must be 3 or 4"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        ConvVAE(**options)
