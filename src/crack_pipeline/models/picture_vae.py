"""Variational autoencoder of pictures of cracks, with or without their masks, whose decoder knows of grain.

A latent vector says what can be said in a few hundred numbers: where the crack runs, how wide and dark it is, tone and
coarse pattern of the concrete. The grain of concrete cannot be said in them; a decoder that has to guess it blurs. So
the decoder gives, beside the picture that it expects, how far a real one lies from it: at every place, in every band of
detail (:mod:`crack_pipeline.models.pyramid`) and every colour, the scale of a Laplace distribution. Grain is drawn from
it. With masks, the mask is decoded first, and the picture is decoded around it.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, leaky_relu, pixel_shuffle, pixel_unshuffle

from crack_pipeline.models import pyramid

_SLOPE = 0.2
_LOWEST = 4
_PATCH = 2
"""Side of the squares of pixels that the network takes for one: full resolution costs memory more than it says."""
_BANDS = 4
_MOST_CHANNELS = 256
_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE = -12.0, 6.0
_LEAST_LOG_SCALE, _MOST_LOG_SCALE, _USUAL_LOG_SCALE = -7.0, 0.0, -3.5
_COLOURS = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]])
"""Grey, and what is independent of it in most photographs: rows, once each has the length 1."""


class Decoded(NamedTuple):
    """A batch of pictures."""

    images: Tensor
    """(N, C, S, S), in [0, 1]."""
    mask_logits: Tensor | None
    """(N, 1, S, S): log-odds of a crack; None without masks."""
    expected: Tensor
    """(N, C, S, S): the picture without grain, not cut off at 0 and 1."""
    log_scales: tuple[Tensor, ...]
    """Of each band of `details`, but the last, and of the same shape: natural logarithm of the mean absolute distance
    of real pictures from the expected one. None of them without grain."""


def details(images: Tensor) -> list[Tensor]:
    """Split images (N, C, S, S) into bands (N, C, S, S), (N, C, S / 2, S / 2), ... of grey and two contrasts of it."""
    if images.shape[1] == 3:
        images = torch.einsum("ij,njhw->nihw", _colours(images), images)
    return pyramid.split(images, _BANDS)


def _colours(like: Tensor) -> Tensor:
    return (_COLOURS / _COLOURS.norm(dim=1, keepdim=True)).to(like.device, like.dtype)


class PictureVAE(nn.Module):
    """Convolutions down to a latent normal distribution, interpolation and convolutions back up.

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
        Numbers that describe a picture: a multiple of 16, as many for each of 4 × 4 parts of it.
    grainy
        Whether pictures have grain.
    dense
        Whether every latent number says something of the whole picture, through fully connected layers; otherwise each
        is of its part.

    Attributes
    ----------
    noise_values
        How many random numbers the decoder takes for one picture.
    grain_filter
        (S, S // 2 + 1): factor on each frequency of the grain, as of :func:`torch.fft.rfft2`; None without grain.

    Raises
    ------
    ValueError
        If the size is no power of two, or the latent numbers cannot be shared out.
    """

    def __init__(
        self,
        size: int = 128,
        image_channels: int = 3,
        masks: bool = True,
        base_channels: int = 32,
        latent: int = 256,
        grainy: bool = True,
        dense: bool = False,
    ) -> None:
        super().__init__()
        if size < 2**_BANDS or size & (size - 1):
            raise ValueError(f"size is {size}; it must be a power of two from {2**_BANDS} px on")
        if latent % _LOWEST**2:
            raise ValueError(f"latent is {latent}; it must be a multiple of {_LOWEST**2}")
        levels = int(math.log2(size // _PATCH // _LOWEST))
        widths = [min(base_channels * 2**level, _MOST_CHANNELS) for level in range(levels + 1)]
        self.image_channels, self.masks, self.latent = image_channels, masks, latent
        channels = image_channels + int(masks)
        self.stem = nn.Conv2d(_PATCH**2 * channels, widths[0], 3, padding=1)
        self.down = nn.ModuleList(_Down(before, after) for before, after in itertools.pairwise(widths))
        part = latent // _LOWEST**2
        # Tone and contrast go past the normalised features, which know neither.
        self.to_mean, self.to_log_variance = (nn.Conv2d(widths[-1] + 2 * channels, part, 1) for _ in range(2))
        self.connect = nn.ModuleList(nn.Linear(latent, latent) for _ in range(3)) if dense else None
        self.from_latent = nn.Conv2d(part, widths[-1], 1)
        self.tone = nn.Conv2d(part, image_channels, 1)
        self.contrast = nn.Conv2d(part, _BANDS * image_channels, 1) if grainy else None
        up = [(after, before) for before, after in itertools.pairwise(widths)][::-1]
        # The crack first, as a picture of few channels: its run needs no more.
        self.mask_up = nn.ModuleList(_Up(max(8, before // 2), max(8, after // 2), 0) for before, after in up if masks)
        self.mask_stem = nn.Conv2d(part, max(8, widths[-1] // 2), 1) if masks else None
        self.mask_head = nn.Conv2d(max(8, widths[0] // 2), _PATCH**2, 3, padding=1) if masks else None
        self.up = nn.ModuleList(_Up(before, after, _PATCH**2 * int(masks)) for before, after in up)
        self.head = nn.Conv2d(widths[0], _PATCH**2 * image_channels, 3, padding=1)
        self.scales = nn.Conv2d(widths[0], _BANDS * image_channels, 3, padding=1) if grainy else None
        self.size, self.noise_values = size, image_channels * size**2 * int(grainy)
        self.grain_filter: Tensor | None
        self.register_buffer("grain_filter", torch.ones(size, size // 2 + 1) if grainy else None)

    def encode(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and log-variance, each (N, latent), of pictures (N, C, S, S) in [0, 1], the mask last."""
        features = self.stem(pixel_unshuffle(2 * pictures - 1, _PATCH))
        for down in self.down:
            features = down(features)
        tone = adaptive_avg_pool2d(pictures, _LOWEST)
        spread = adaptive_avg_pool2d(pictures.square(), _LOWEST) - tone.square()
        features = torch.cat([features, 2 * tone - 1, 4 * spread.clamp_min(1e-6).sqrt()], dim=1)
        mean, log_variance = self.to_mean(features).flatten(1), self.to_log_variance(features).flatten(1)
        if self.connect is not None:
            mean, log_variance = self.connect[0](mean), self.connect[1](log_variance)
        return mean, log_variance.clamp(_LEAST_LOG_VARIANCE, _MOST_LOG_VARIANCE)

    def decode(self, latent: Tensor, noise: Tensor | None = None) -> Decoded:
        """Give pictures of latent vectors (N, latent).

        Parameters
        ----------
        latent
            What is to be seen.
        noise
            (N, noise_values), standard normal, of which the grain is made; None gives the picture without grain.
        """
        latent = self._placed(latent)
        mask_logits, known = None, None
        if self.mask_stem is not None and self.mask_head is not None:
            shape = self.mask_stem(latent)
            for up in self.mask_up:
                shape = up(shape, None)
            mask_logits = pixel_shuffle(self.mask_head(shape), _PATCH)
            known = mask_logits.sigmoid()
        features = self.from_latent(latent)
        for up in self.up:
            features = up(features, known)
        # A network that has learned nothing yet expects grey.
        expected = pixel_shuffle(self.head(features), _PATCH) + _spread(self.tone(latent), self.size) + 0.5
        log_scales: tuple[Tensor, ...] = ()
        if self.scales is not None and self.contrast is not None:
            contrast = _spread(self.contrast(latent), self.size // _PATCH)
            log_scales = self._log_scales(self.scales(features) + contrast)
        images = expected if noise is None or not log_scales else expected + self.grain(noise, log_scales)
        return Decoded(images.clamp(0, 1), mask_logits, expected, log_scales)

    def _placed(self, latent: Tensor) -> Tensor:
        """Give each part of the picture its numbers: (N, latent / 16, 4, 4)."""
        if self.connect is not None:
            latent = self.connect[2](latent)
        return latent.reshape(len(latent), -1, _LOWEST, _LOWEST)

    def _log_scales(self, found: Tensor) -> tuple[Tensor, ...]:
        limited = (found + _USUAL_LOG_SCALE).clamp(_LEAST_LOG_SCALE, _MOST_LOG_SCALE)
        finest, *others = limited.chunk(_BANDS, dim=1)
        sides = [self.size // 2**band for band in range(1, _BANDS)]
        return pyramid.doubled(finest), *(
            adaptive_avg_pool2d(one, side) for one, side in zip(others, sides, strict=True)
        )

    def grain(self, noise: Tensor, log_scales: tuple[Tensor, ...]) -> Tensor:
        """Give each band of white noise (N, noise_values) the scale that it is to have: (N, C, S, S)."""
        *bands, rest = pyramid.split(noise.view(-1, self.image_channels, self.size, self.size), _BANDS)
        scaled = [band * (scale.exp() / usual) for band, scale, usual in zip(bands, log_scales, _usual(), strict=True)]
        grain = pyramid.join([*scaled, torch.zeros_like(rest)])
        if self.grain_filter is not None:
            grain = torch.fft.irfft2(torch.fft.rfft2(grain.float()) * self.grain_filter, s=(self.size, self.size))
        return grain if self.image_channels == 1 else torch.einsum("ij,nihw->njhw", _colours(grain), grain)


def _spread(coarse: Tensor, size: int) -> Tensor:
    return interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)


@lru_cache
def _usual() -> tuple[float, ...]:
    """Give the mean absolute value of each band of white noise."""
    noise = torch.randn(8, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    return tuple(float(band.abs().mean()) for band in pyramid.split(noise, _BANDS)[:-1])


def _normalised(channels: int) -> nn.GroupNorm:
    # Statistics of a batch would be others in training, where the latent vectors are noisy, than in use.
    return nn.GroupNorm(math.gcd(channels, max(1, channels // 4)), channels)


class _Down(nn.Module):
    """Halve, then look once more."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.halve = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
        self.look = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.first, self.second = _normalised(after), _normalised(after)

    def forward(self, features: Tensor) -> Tensor:
        features = leaky_relu(self.first(self.halve(features)), _SLOPE)
        return leaky_relu(self.second(self.look(features)), _SLOPE)


class _Up(nn.Module):
    """Double the side, around what is known of the picture, if anything: patches of the size that features have."""

    def __init__(self, before: int, after: int, known: int) -> None:
        super().__init__()
        # Convolving before doubling takes a quarter of the work.
        self.widen = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.known = nn.Conv2d(known, after, 3, padding=1, bias=False) if known else None
        self.look = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.first, self.second = _normalised(after), _normalised(after)

    def forward(self, features: Tensor, known: Tensor | None) -> Tensor:
        features = interpolate(self.widen(features), scale_factor=2, mode="nearest")
        if self.known is not None and known is not None:
            fine = adaptive_avg_pool2d(known, _PATCH * features.shape[-1])
            features = features + self.known(pixel_unshuffle(fine, _PATCH))
        features = leaky_relu(self.first(features), _SLOPE)
        return leaky_relu(self.second(self.look(features)), _SLOPE)
