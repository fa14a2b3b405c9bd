"""Variational autoencoder of pictures of cracks, with or without their masks, whose decoder adds grain of its own.

A latent vector says what can be said in a few hundred numbers: where the crack runs, how wide and dark it is, tone and
coarse pattern of the concrete. The grain of concrete cannot be said in them; a decoder that has to guess it blurs. So
noise enters the decoder at every resolution, as in StyleGAN (Karras et al., arXiv:1812.04948), and what it makes of the
noise is judged by another network (:class:`PatchCritic`) instead of pixel by pixel (Larsen et al., arXiv:1512.09300).
With masks, the mask is decoded first, and the picture is decoded around it.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, leaky_relu, pixel_shuffle, pixel_unshuffle
from torch.nn.utils.parametrizations import spectral_norm

_SLOPE = 0.2
_LOWEST = 4
_PATCH = 2
"""Side of the squares of pixels that the network takes for one: full resolution costs memory more than it says."""
_MOST_CHANNELS = 256
_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE = -12.0, 6.0


class Decoded(NamedTuple):
    """A batch of pictures."""

    images: Tensor
    """(N, C, S, S), in [0, 1]."""
    mask_logits: Tensor | None
    """(N, 1, S, S): log-odds of a crack; None without masks."""


class PictureVAE(nn.Module):
    """Convolutions down to a latent normal distribution; interpolation, convolutions and noise back up.

    Parameters
    ----------
    size
        Side of the square pictures, px: a power of two from 16 on.
    image_channels
        1 (grey) or 3 (colour).
    masks
        Whether a picture comes with a mask.
    base_channels
        At half the resolution, the finest that features have; they double with every halving, up to 256.
    latent
        Numbers that describe a picture.
    noisy
        Whether noise enters the decoder.

    Attributes
    ----------
    noise_values
        How many random numbers the decoder takes for one picture.

    Raises
    ------
    ValueError
        If the size is no power of two.
    """

    def __init__(
        self,
        size: int = 128,
        image_channels: int = 3,
        masks: bool = True,
        base_channels: int = 32,
        latent: int = 256,
        noisy: bool = True,
    ) -> None:
        super().__init__()
        if size < 4 * _LOWEST or size & (size - 1):
            raise ValueError(f"size is {size}; it must be a power of two from {4 * _LOWEST} px on")
        levels = int(math.log2(size // _PATCH // _LOWEST))
        widths = [min(base_channels * 2**level, _MOST_CHANNELS) for level in range(levels + 1)]
        self.image_channels, self.masks, self.latent = image_channels, masks, latent
        channels = image_channels + int(masks)
        self.stem = nn.Conv2d(_PATCH**2 * channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Down(before, after) for before, after in itertools.pairwise(widths))
        flat = widths[-1] * _LOWEST**2
        self.to_mean, self.to_log_variance = nn.Linear(flat, latent), nn.Linear(flat, latent)
        self.from_latent = nn.Linear(latent, flat)
        up = [(after, before) for before, after in itertools.pairwise(widths)][::-1]
        # The crack first, as a picture of few channels: its run needs no more.
        self.mask_up = nn.ModuleList(
            _Up(max(8, before // 2), max(8, after // 2), 0, noisy=False) for before, after in up if masks
        )
        self.mask_stem = nn.Linear(latent, self._mask_width(widths) * _LOWEST**2) if masks else None
        self.mask_head = nn.Conv2d(max(8, widths[0] // 2), _PATCH**2, 3, padding=1) if masks else None
        self.up = nn.ModuleList(_Up(before, after, _PATCH**2 * int(masks), noisy=noisy) for before, after in up)
        self.head = nn.Conv2d(widths[0], _PATCH**2 * image_channels, 3, padding=1)
        self._sides = [2 * _LOWEST * 2**level for level in range(levels)]
        self.noise_values = sum(2 * (_PATCH * side) ** 2 for side in self._sides) if noisy else 0

    @staticmethod
    def _mask_width(widths: list[int]) -> int:
        return max(8, widths[-1] // 2)

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and log-variance, each (N, latent), of pictures (N, C, S, S) in [0, 1], the mask last."""
        features = self.stem(pixel_unshuffle(2 * pictures - 1, _PATCH))
        for down in self.down:
            features = down(features)
        flat = features.flatten(1)
        log_variance = self.to_log_variance(flat).clamp(_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE)
        return self.to_mean(flat), log_variance

    def decode(self, latent: Tensor, noise: Tensor | None = None) -> Decoded:
        """Give pictures of latent vectors (N, latent).

        Parameters
        ----------
        latent
            What is to be seen.
        noise
            (N, noise_values), standard normal; None draws it.
        """
        if noise is None:
            noise = torch.randn(len(latent), self.noise_values, device=latent.device, dtype=latent.dtype)
        mask_logits = None
        if self.mask_stem is not None and self.mask_head is not None:
            shape = self.mask_stem(latent).unflatten(1, (-1, _LOWEST, _LOWEST))
            for up in self.mask_up:
                shape = up(shape, None, None)
            mask_logits = pixel_shuffle(self.mask_head(shape), _PATCH)
        features = self.from_latent(latent).unflatten(1, (-1, _LOWEST, _LOWEST))
        used = 0
        for up, side in zip(self.up, self._sides, strict=True):
            grain = None
            fine = _PATCH * side
            if self.noise_values:
                grain = noise[:, used : used + 2 * fine**2].reshape(-1, 2, fine, fine)
                used += 2 * fine**2
            crack = None if mask_logits is None else adaptive_avg_pool2d(mask_logits.sigmoid(), fine)
            features = up(features, crack, grain)
        return Decoded(pixel_shuffle(self.head(features), _PATCH).sigmoid(), mask_logits)


class _Down(nn.Module):
    """Halve, then look once more."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
        self.look = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.first, self.second = nn.BatchNorm2d(after), nn.BatchNorm2d(after)

    def forward(self, features: Tensor) -> Tensor:
        features = leaky_relu(self.first(self.halve(features)), _SLOPE)
        return leaky_relu(self.second(self.look(features)), _SLOPE)


class _Up(nn.Module):
    """Double the side, with noise before each activation, around what else is known.

    Noise and what is known come in twice the resolution, as patches.
    """

    def __init__(self, before: int, after: int, known: int, noisy: bool) -> None:
        super().__init__()
        # Convolving before doubling takes a quarter of the work.
        self.widen = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.known = nn.Conv2d(known, after, 3, padding=1, bias=False) if known else None
        self.look = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.first, self.second = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.grain = nn.ModuleList(_no_grain(after) for _ in range(2 * int(noisy)))

    def forward(self, features: Tensor, known: Tensor | None, noise: Tensor | None) -> Tensor:
        features = interpolate(self.widen(features), scale_factor=2, mode="nearest")
        if self.known is not None and known is not None:
            features = features + self.known(pixel_unshuffle(known.to(features.dtype), _PATCH))
        features = leaky_relu(self.first(self._noised(features, noise, 0)), _SLOPE)
        return leaky_relu(self.second(self._noised(self.look(features), noise, 1)), _SLOPE)

    def _noised(self, features: Tensor, noise: Tensor | None, at: int) -> Tensor:
        if noise is None or not self.grain:
            return features
        return features + self.grain[at](pixel_unshuffle(noise[:, at : at + 1], _PATCH))


def _no_grain(channels: int) -> nn.Conv2d:
    """Turn noise into features; the decoder begins without it and learns how much it wants."""
    grain = nn.Conv2d(_PATCH**2, channels, 1, bias=False)
    nn.init.zeros_(grain.weight)
    return grain


class PatchCritic(nn.Module):
    """Says of every patch of a picture whether it looks real (Isola et al., arXiv:1611.07004), masks included.

    Parameters
    ----------
    channels
        Of the pictures, the mask's included.
    base_channels
        After the first convolution.
    """

    def __init__(self, channels: int, base_channels: int = 32) -> None:
        super().__init__()
        widths = [channels, base_channels, 2 * base_channels, 4 * base_channels]
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1))
            for before, after in itertools.pairwise(widths)
        )
        self.head = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Give scores (N, 1, S/8, S/8) of pictures (N, C, S, S) in [0, 1], and what was seen on the way."""
        seen, features = [], 2 * pictures - 1
        for layer in self.layers:
            features = leaky_relu(layer(features), _SLOPE)
            seen.append(features)
        return self.head(features), seen
