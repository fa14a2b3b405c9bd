"""Convolutional variational autoencoder for square grey or colour tiles.

Kingma and Welling, "Auto-Encoding Variational Bayes", arXiv:1312.6114.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn


class VAEOutput(NamedTuple):
    """What one pass through the network gives."""

    reconstruction: Tensor
    """(N, C, H, W), float, in [0, 1]."""
    mean: Tensor
    """(N, latent), mean of the approximate posterior."""
    log_variance: Tensor
    """(N, latent), logarithm of its variance."""


class ConvVAE(nn.Module):
    """Strided convolutions down to a latent normal distribution, transposed convolutions back up.

    Parameters
    ----------
    image_size
        Side of the square images in pixels; divisible by ``2 ** len(channels)``.
    image_channels
        1 (grey) or 3 (colour).
    channels
        Output channels of each halving convolution; the published network has ``(32, 64, 128, 256)``.
    latent
        Dimensions of the latent distribution.
    kernel
        Side of the convolution kernels: 3 or 4 (both halve the image exactly with padding 1).

    Raises
    ------
    ValueError
        If the size is not divisible, or the kernel neither 3 nor 4.
    """

    def __init__(
        self,
        image_size: int = 128,
        image_channels: int = 1,
        channels: Sequence[int] = (32, 64, 128, 256),
        latent: int = 128,
        kernel: int = 3,
    ) -> None:
        super().__init__()
        halvings = len(channels)
        if image_size % 2**halvings:
            raise ValueError(
                f"image_size is {image_size}; with {halvings} convolutions it must be divisible by {2**halvings}"
            )
        if kernel not in (3, 4):
            raise ValueError(f"kernel is {kernel}; it must be 3 or 4")
        widths = [image_channels, *channels]
        self._bottom = (widths[-1], image_size // 2**halvings, image_size // 2**halvings)
        flat = self._bottom[0] * self._bottom[1] * self._bottom[2]

        down: list[nn.Module] = []
        for before, after in pairwise(widths):
            down += [nn.Conv2d(before, after, kernel, stride=2, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*down)
        self.to_mean = nn.Linear(flat, latent)
        self.to_log_variance = nn.Linear(flat, latent)

        self.from_latent = nn.Linear(latent, flat)
        up: list[nn.Module] = []
        for before, after in zip(widths[:0:-1], widths[-2::-1], strict=True):
            up += [
                nn.ConvTranspose2d(before, after, kernel, stride=2, padding=1, output_padding=kernel % 2),
                nn.ReLU(),
            ]
        up[-1] = nn.Sigmoid()
        self.decoder = nn.Sequential(*up)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and log-variance, each (N, latent), of images (N, C, H, W) in [0, 1]."""
        features = self.encoder(images).flatten(1)
        return self.to_mean(features), self.to_log_variance(features)

    def decode(self, latent: Tensor) -> Tensor:
        """Give images (N, C, H, W) in [0, 1] of latent vectors (N, latent)."""
        return self.decoder(self.from_latent(latent).unflatten(1, self._bottom))

    def forward(self, images: Tensor) -> VAEOutput:
        """Encode, draw one latent vector per image (its mean in evaluation mode), decode."""
        mean, log_variance = self.encode(images)
        latent = mean
        if self.training:
            latent = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return VAEOutput(self.decode(latent), mean, log_variance)
