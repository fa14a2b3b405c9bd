"""Pictures drawn from a trained generator, one for every seed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from crack_pipeline.imaging.photograph_stack import CRACK, IGNORED
from crack_pipeline.models.picture_vae import Decoded, PictureVAE
from crack_pipeline.models.weights import Weights

_AT_ONCE = 16
_LEAST_SHARE = 1e-4
"""Of the mean variance, that every number has at least: what few pictures do not show must not make it singular."""


@dataclass(frozen=True)
class Prior:
    """A mixture of Gaussians, from which latent vectors are drawn.

    Attributes
    ----------
    weights
        (k,), which add up to 1.
    means
        (k, latent).
    factors
        (k, latent, latent): lower triangular; times its transpose, each is a covariance. Or (1, latent, latent): the
        same for all.
    """

    weights: NDArray[np.float32]
    means: NDArray[np.float32]
    factors: NDArray[np.float32]

    def draw(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw one vector, (latent,)."""
        which = int(np.searchsorted(np.cumsum(self.weights), rng.random() * self.weights.sum()))
        which = min(which, len(self.weights) - 1)
        noise = rng.standard_normal(self.means.shape[1], dtype=np.float32)
        return np.asarray(self.means[which] + self.factors[which % len(self.factors)] @ noise, np.float32)


def normal_prior(latent: int) -> Prior:
    """Give the standard normal distribution."""
    return Prior(np.ones(1, np.float32), np.zeros((1, latent), np.float32), np.eye(latent, dtype=np.float32)[None])


def fit_prior(means: NDArray[np.float32], deviations: NDArray[np.float32], components: int, seed: int) -> Prior:
    """Fit a mixture to where the training pictures lie (Ghosh et al., arXiv:1903.12436).

    Parameters
    ----------
    means, deviations
        (n, latent): the approximate posterior of each picture.
    components
        Of the mixture; fewer where there are not four times as many pictures for each as a vector has numbers.
    seed
        Of where the fit begins.
    """
    # It takes its time to import, and only a training needs it.
    from sklearn.mixture import GaussianMixture

    components = max(1, min(components, len(means) // (4 * means.shape[1])))
    rng = np.random.default_rng(seed)
    drawn = (means + deviations * rng.standard_normal(means.shape, dtype=np.float32)).astype(np.float64)
    least = _LEAST_SHARE * max(float(drawn.var(axis=0).mean()), 1e-6)
    fitted = GaussianMixture(components, covariance_type="full", random_state=seed, reg_covar=least).fit(drawn)
    return Prior(
        fitted.weights_.astype(np.float32),
        fitted.means_.astype(np.float32),
        np.linalg.cholesky(fitted.covariances_).astype(np.float32),
    )


def kernel_prior(means: NDArray[np.float32], deviations: NDArray[np.float32], bandwidth: float, seed: int) -> Prior:
    """Draw near the training pictures: kernel density estimation, with covariance and mean kept as they are.

    Parameters
    ----------
    means, deviations
        (n, latent): the approximate posterior of each picture.
    bandwidth
        Deviation of the kernel relative to that of all pictures, from 0, the training pictures themselves, to 1, one
        Gaussian (the smoothed bootstrap; Silverman and Young 1987).
    seed
        Of the vectors that are drawn from the posteriors.
    """
    rng = np.random.default_rng(seed)
    drawn = means + deviations * rng.standard_normal(means.shape, dtype=np.float32)
    centre, covariance = drawn.mean(axis=0), np.cov(drawn.astype(np.float64), rowvar=False)
    covariance += np.eye(len(covariance)) * max(_LEAST_SHARE * float(np.diag(covariance).mean()), 1e-12)
    return Prior(
        np.full(len(drawn), 1 / len(drawn), np.float32),
        (centre + math.sqrt(1 - bandwidth**2) * (drawn - centre)).astype(np.float32),
        (bandwidth * np.linalg.cholesky(covariance)).astype(np.float32)[None],
    )


@dataclass(frozen=True)
class LearnedSquares:
    """Pictures, and masks where the generator has learned them.

    Attributes
    ----------
    network
        The trained generator.
    prior
        Of its latent vectors.
    size
        Side of its pictures, px.
    """

    network: PictureVAE
    prior: Prior
    size: int

    @torch.inference_mode()
    def squares(self, seeds: NDArray[np.int64], size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Draw one picture for every seed.

        Parameters
        ----------
        seeds
            (n,), not negative. The same seed gives the same picture, whatever the others.
        size
            Side, px.

        Returns
        -------
        images : ndarray of uint8
            (n, S, S) or (n, S, S, 3).
        masks : ndarray of uint8
            (n, S, S): 1 on a crack, else 0; 2 everywhere where the generator knows no masks.

        Raises
        ------
        ValueError
            If the generator makes pictures of another size.
        """
        if size != self.size:
            raise ValueError(f"the generator makes pictures of {self.size} px, not of {size} px: set the crop to that")
        network = self.network.eval()
        images, masks = [], []
        for start in range(0, len(seeds), _AT_ONCE):
            generators = [np.random.default_rng(int(seed)) for seed in seeds[start : start + _AT_ONCE]]
            latent = torch.from_numpy(np.stack([self.prior.draw(rng) for rng in generators]))
            noise = np.stack([rng.standard_normal(network.noise_values, dtype=np.float32) for rng in generators])
            image, mask = as_pictures(network.decode(latent, torch.from_numpy(noise)))
            images.append(image)
            masks.append(mask)
        return np.concatenate(images), np.concatenate(masks)


def as_pictures(decoded: Decoded) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Turn what a generator decodes into images and masks, as `LearnedSquares.squares` gives them."""
    images = (255 * decoded.images).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    masks = np.full(images.shape[:3], IGNORED, np.uint8)
    if decoded.mask_logits is not None:
        masks = (decoded.mask_logits.squeeze(1) > 0).numpy().astype(np.uint8) * np.uint8(CRACK)
    return images[..., 0] if images.shape[-1] == 1 else images, masks


def unpack(generator: Weights) -> LearnedSquares:
    """Give what draws pictures from a packed generator."""
    parts: dict[str, dict[str, Any]] = {"network": {}, "prior": {}}
    for name, tensor in generator.tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    network = rebuild_generator(Weights(parts["network"], generator.facts))
    prior = Prior(**{name: tensor.numpy() for name, tensor in parts["prior"].items()})
    return LearnedSquares(network, prior, generator.facts["network"]["size"])


def rebuild_generator(weights: Weights) -> PictureVAE:
    """Rebuild the network that some weights belong to."""
    network = PictureVAE(**weights.facts["network"])
    network.load_state_dict(weights.tensors)
    return network.eval()
