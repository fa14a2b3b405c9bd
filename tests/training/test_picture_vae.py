import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from crack_pipeline.models.picture_vae import PatchCritic, PictureVAE
from crack_pipeline.training.compute import Compute, resolve
from crack_pipeline.training.crops import Crops
from crack_pipeline.training.fit import fit
from crack_pipeline.training.learned_squares import LearnedSquares, fit_prior, normal_prior
from crack_pipeline.training.picture_vae import PictureVAETraining
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
    network = PictureVAE(32, 1, True, base_channels=8, latent=8, noisy=sharp)
    module = PictureVAETraining(
        network,
        PatchCritic(2, 8) if sharp else None,
        learning_rate=2e-3,
        kl_weight=0.01,
        feature_weight=1.0,
        critic_weight=0.05,
        critic_after=20,
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
    # The best of the later epochs: so short a training ends now here, now there.
    assert history["validation_pixels"].iloc[1:].min() < 0.8 * history["validation_pixels"].iloc[0]
    assert np.isfinite(history.to_numpy()).all()
    assert ("train_critic" in history) == sharp


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
    network = PictureVAE(32, 3, masks, base_channels=4, latent=5).eval()
    squares = LearnedSquares(network, normal_prior(5), 32)
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
    assert (drawn.mean(axis=1) > 0).mean() == pytest.approx(0.75, abs=0.08)


def test_a_prior_of_few_pictures_has_fewer_components():
    means = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    assert len(fit_prior(means, np.ones_like(means), 10, 0).weights) == 1
