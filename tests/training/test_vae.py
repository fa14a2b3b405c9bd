import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl

from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.training.answers import answers
from crack_pipeline.training.vae import VAETraining, kl_divergence


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), images=st.integers(1, 5), latent=st.integers(1, 9))
def test_the_divergence_is_that_of_normal_distributions(seed, images, latent):
    noise = torch.Generator().manual_seed(seed)
    mean, log_variance = torch.randn(2, images, latent, generator=noise, dtype=torch.float64)
    expected = kl.kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(dim=1).mean()
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)
    zeros = torch.zeros(images, latent)
    assert kl_divergence(zeros, zeros) == 0


def test_images_come_back_in_the_order_of_their_rows(images, plan):
    network = ConvVAE(16, 1, (4, 8), latent=4)
    rows = np.array([40, 3, 3, *range(20)])
    pairs = list(answers(network, images, rows, plan))
    assert [len(seen) for seen, _ in pairs] == [16, 7]
    seen, expected = (torch.cat(part) for part in zip(*pairs, strict=True))
    np.testing.assert_allclose(seen[:, 0].numpy() * 255, images.take(rows), atol=1e-4)
    assert seen.shape == expected.shape
    assert torch.equal(expected[1], expected[2])
    one_by_one = torch.cat([e for row in rows for _, e in answers(network, images, np.array([row]), plan)])
    torch.testing.assert_close(one_by_one, expected)
    assert not network.training


@pytest.mark.parametrize("kl_weight", [0.0, 0.5])
def test_the_loss_is_the_published_one_per_pixel(images, kl_weight):
    torch.manual_seed(0)
    module = VAETraining(ConvVAE(16, 1, (4, 8), latent=4).eval(), learning_rate=1e-3, kl_weight=kl_weight)
    logged = {}
    module.log_dict = lambda metrics, **_: logged.update(metrics)
    batch = torch.from_numpy(images.take(np.arange(6)))[:, None]
    loss = module.training_step(batch, 0)
    output = module.network(batch / 255)
    summed = (output.reconstruction - batch / 255).square().sum(dim=(1, 2, 3)).mean()
    expected = (summed + kl_weight * kl_divergence(output.mean, output.log_variance)) / 256
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logged["train_loss"], expected.detach())
