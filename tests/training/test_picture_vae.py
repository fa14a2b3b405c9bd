import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from crack_pipeline.engines.compute import Compute, resolve
from crack_pipeline.models.picture_vae import PictureVAE
from crack_pipeline.training.crops import Crops
from crack_pipeline.training.fit import fit
from crack_pipeline.training.learned_squares import LearnedSquares, fit_prior, kernel_prior, normal_prior
from crack_pipeline.training.picture_vae import PictureVAETraining, shape_grain
from crack_pipeline.training.synthetic import GeneratedSquares


class KilledError(RuntimeError):
    """Somebody pulled the plug."""


class Kill(Callback):
    """Pulls the plug."""

    def __init__(self, before):
        self.before = before

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.before:
            raise KilledError


class Bars:
    """Grey squares with a dark bar, at a place and of a width that the seed decides."""

    def squares(self, seeds, size):
        images = np.full((len(seeds), size, size), 170, np.uint8)
        masks = np.zeros_like(images)
        for image, mask, seed in zip(images, masks, seeds, strict=True):
            left = int(seed) % (size - 6)
            mask[:, left : left + 3 + int(seed) % 3] = 1
            image[mask == 1] = 40
        return images, masks


@pytest.fixture(scope="module")
def plan():
    return resolve(Compute(accelerator="cpu", precision="32-true", workers=0))


def learn(plan, folder, *, sharp=True, epochs=4, stop_after=None):
    torch.manual_seed(0)
    network = PictureVAE(32, 1, True, base_channels=8, latent=16, grainy=sharp, dense=not sharp)
    module = PictureVAETraining(
        network,
        learning_rate=5e-3,
        kl_weight=0.01,
        grain_weight=0.1,
        steps=60,
        seed=0,
    )
    source = GeneratedSquares(Bars(), size=32, batch_size=16, steps=15)
    data = Crops(source, source, batch_size=16, steps=15, seed=0)

    history = fit(
        module, data, plan, epochs=epochs, checkpoints=folder, identity={"sharp": sharp}, callbacks=[Kill(stop_after)]
    )
    return network, history


@pytest.mark.parametrize("sharp", [True, False])
def test_pictures_are_learned(plan, tmp_path, sharp):
    _, history = learn(plan, tmp_path, sharp=sharp)
    assert history["validation_pixels"].iloc[-1] < 0.8 * history["validation_pixels"].iloc[0]
    assert np.isfinite(history.to_numpy()).all()
    assert ("train_grain" in history) == sharp


def test_an_interrupted_training_ends_as_an_uninterrupted_one(plan, tmp_path):
    whole, history = learn(plan, tmp_path / "whole")
    with pytest.raises(KilledError):
        learn(plan, tmp_path / "parts", stop_after=2)
    parts, again = learn(plan, tmp_path / "parts")
    assert len(history) == len(again) == 4
    others = parts.state_dict()
    assert all(torch.equal(tensor, others[name]) for name, tensor in whole.state_dict().items())


@pytest.mark.parametrize("masks", [True, False])
def test_a_drawn_picture_depends_on_its_seed_alone(masks):
    network = PictureVAE(32, 3, masks, base_channels=4, latent=16).eval()
    squares = LearnedSquares(network, normal_prior(16), 32)
    images, found = squares.squares(np.arange(20), 32)
    assert images.shape == (20, 32, 32, 3)
    assert set(np.unique(found)) <= ({0, 1} if masks else {2})
    alone, mask = squares.squares(np.array([17]), 32)
    # One picture and many go through other routines, which round otherwise.
    assert np.abs(alone[0].astype(int) - images[17]).max() <= 1
    assert (mask[0] != found[17]).mean() < 0.01
    with pytest.raises(ValueError, match="pictures of 32 px, not of 64 px"):
        squares.squares(np.arange(2), 64)


def test_a_fitted_prior_draws_where_the_pictures_lie():
    rng = np.random.default_rng(0)
    means = np.concatenate([rng.normal(-3, 0.3, (100, 4)), rng.normal(3, 0.3, (300, 4))]).astype(np.float32)
    prior = fit_prior(means, np.full_like(means, 0.1), 2, 0)
    drawn = np.stack([prior.draw(np.random.default_rng(seed)) for seed in range(400)])
    assert np.allclose(np.abs(drawn).mean(), 3, atol=0.2)
    assert np.allclose(drawn[drawn.mean(axis=1) > 0].std(axis=0), 0.32, atol=0.08)
    assert (drawn.mean(axis=1) > 0).mean() == pytest.approx(0.75, abs=0.08)


def test_a_fitted_prior_knows_what_goes_together():
    first = np.random.default_rng(0).normal(size=(300, 1))
    means = np.concatenate([first, -first, np.zeros_like(first)], axis=1).astype(np.float32)
    prior = fit_prior(means, np.full_like(means, 1e-3), 1, 0)
    drawn = np.stack([prior.draw(np.random.default_rng(seed)) for seed in range(300)])
    assert np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1] < -0.99
    assert np.abs(drawn[:, 2]).max() < 0.1


@pytest.mark.parametrize("bandwidth", [0.1, 0.5, 1.0])
def test_a_kernel_keeps_mean_and_covariance_and_stays_as_near_as_asked_for(bandwidth):
    rng = np.random.default_rng(1)
    # On a circle: a Gaussian would fill it.
    angle = rng.uniform(0, 2 * np.pi, 500)
    means = np.stack([3 + np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    prior = kernel_prior(means, np.full_like(means, 1e-3), bandwidth, 0)
    drawn = np.stack([prior.draw(np.random.default_rng(seed)) for seed in range(1500)])
    assert np.allclose(drawn.mean(axis=0), means.mean(axis=0), atol=0.08)
    assert np.allclose(np.cov(drawn.T), np.cov(means.T), atol=0.08)
    inside = (np.hypot(drawn[:, 0] - 3, drawn[:, 1]) < 0.5).mean()
    assert inside < 0.01 if bandwidth == 0.1 else inside > 0.02


def test_a_prior_of_few_pictures_has_fewer_components():
    means = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    assert len(fit_prior(means, np.ones_like(means), 10, 0).weights) == 1


class Grains:
    """Grey squares of one tone each, with noise: fine on the left, a fifth of it on the right."""

    def squares(self, seeds, size):
        noise = np.stack([np.random.default_rng(int(seed)).normal(0, 20, (size, size)) for seed in seeds])
        noise[:, :, size // 2 :] /= 5
        tones = 100 + np.array([int(seed) % 50 for seed in seeds])[:, None, None]
        return np.clip(tones + noise, 0, 255).astype(np.uint8), np.zeros(noise.shape, np.uint8)


def test_drawn_grain_is_as_strong_as_that_of_photographs(plan, tmp_path):
    torch.manual_seed(0)
    network = PictureVAE(32, 1, False, base_channels=16, latent=16)
    module = PictureVAETraining(network, learning_rate=5e-3, kl_weight=0.02, grain_weight=0.1, steps=160, seed=0)
    source = GeneratedSquares(Grains(), size=32, batch_size=16, steps=20)
    data = Crops(source, source, batch_size=16, steps=20, seed=0)
    fit(module, data, plan, epochs=8, checkpoints=tmp_path, identity={})
    images = torch.from_numpy(Grains().squares(np.arange(64), 32)[0])[:, None] / 255
    latent = network.eval().encode(images)[0]
    drawn = network.decode(latent, torch.randn(64, network.noise_values)).images.detach()
    left, right = (255 * drawn[..., part].std(dim=(2, 3)).mean() for part in (slice(2, 14), slice(18, 30)))
    assert 14 < left < 26, (left, right)
    assert right < 0.5 * left


@pytest.mark.parametrize("channels", [1, 3])
def test_grain_gets_the_spectrum_of_the_photographs(channels):
    torch.manual_seed(0)
    network = PictureVAE(32, channels, False, base_channels=4, latent=16).eval()
    for layer in (network.head, network.tone, network.scales, network.contrast):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    noise = torch.randn(128, channels, 32, 32)
    # Blurred noise: next to nothing of the finest detail is left.
    real = (0.5 + 0.1 * torch.nn.functional.avg_pool2d(noise, 3, stride=1, padding=1)).clamp(0, 1)

    def finest_share(pictures):
        power = torch.fft.rfft2(pictures - pictures.mean(dim=(2, 3), keepdim=True)).abs().square().sum(dim=(0, 1))
        return float(power[12:21, 12:].sum() / power.sum())

    def drawn():
        decoded = network.decode(network.encode(real)[0])
        return network.grain(torch.randn(128, network.noise_values), decoded.log_scales).detach()

    before = finest_share(drawn())
    shape_grain(network, [real[:64], real[64:]])
    assert finest_share(drawn()) < before / 3
    assert float(drawn().std()) == pytest.approx(float(real.std()), rel=0.2)
