"""U-Net: a convolutional encoder and decoder, joined at every resolution.

Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", arXiv:1505.04597.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from crack_pipeline.models.any_size import AnySize

Activation = Literal["relu", "leaky_relu", "elu", "gelu", "silu"]
Normalisation = Literal["none", "batch", "group", "instance"]
Initialisation = Literal["default", "he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "orthogonal"]
Upsampling = Literal["transposed", "bilinear", "nearest"]

MEAN, DEVIATION = 0.5, 0.25
_GROUPS = 8
_INITIALISERS: dict[str, Callable[[Tensor], Any]] = {
    "he_normal": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "he_uniform": lambda weight: nn.init.kaiming_uniform_(weight, nonlinearity="relu"),
    "glorot_normal": nn.init.xavier_normal_,
    "glorot_uniform": nn.init.xavier_uniform_,
    "orthogonal": nn.init.orthogonal_,
}


class UNet(AnySize):
    """U-Net with one logit per pixel.

    It differs from the paper's in that every convolution keeps the size, so that the result is as large as the image.

    Parameters
    ----------
    in_channels
        1 (grey) or 3 (colour).
    levels
        Resolutions, the first one included; each is half of the one before it.
    base_channels
        At the first resolution; they double with every level.
    max_channels
        The most that they double to.
    convolutions
        Per level, on the way down and again on the way up.
    kernel
        Side of their kernels in px, odd.
    activation, slope
        After every convolution; ``slope`` is what ``leaky_relu`` has below zero, and used by nothing else.
    normalisation
        Between convolution and activation; ``group`` has 8 groups, or as many as divide the channels.
    initialisation
        Of the kernels: that of torch, or those that Keras knows by these names, whose scale does not depend on the
        slope (``he_normal`` is not truncated). All but ``default`` set the biases to zero.
    upsampling
        ``transposed``: a learned 2 × 2 transposed convolution; else a 1 × 1 convolution, then interpolation.
    dropout
        Share of the channels of the lowest level that are dropped in training.
    patch
        Side in px of the squares that the first level takes for one pixel each, so that it works at a lower resolution:
        their values become channels, and the last convolution gives a logit for each of their pixels (sub-pixel
        convolution, Shi et al., arXiv:1609.05158). 1: every level as in the paper.
    prior
        Share of crack pixels that an untrained network is to expect: sets the bias of the logits, so that training
        need not begin with learning that cracks are rare (Lin et al., arXiv:1708.02002, section 4.1).

    Raises
    ------
    ValueError
        If a value lies outside its range.
    """

    def __init__(
        self,
        in_channels: int = 3,
        levels: int = 5,
        base_channels: int = 24,
        max_channels: int = 512,
        convolutions: int = 2,
        kernel: int = 3,
        activation: Activation = "relu",
        slope: float = 0.01,
        normalisation: Normalisation = "batch",
        initialisation: Initialisation = "default",
        upsampling: Upsampling = "transposed",
        dropout: float = 0.0,
        patch: int = 1,
        prior: float = 0.05,
    ) -> None:
        at_least_one = {
            "in_channels": in_channels,
            "levels": levels,
            "base_channels": base_channels,
            "max_channels": max_channels,
            "convolutions": convolutions,
            "patch": patch,
        }
        for name, number in at_least_one.items():
            if number < 1:
                raise ValueError(f"{name} is {number}; it must be at least 1")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel is {kernel}; it must be odd")
        if not 0 < prior < 1:
            raise ValueError(f"prior is {prior}; it must lie between 0 and 1")
        for name, value, choices in (
            ("activation", activation, Activation),
            ("normalisation", normalisation, Normalisation),
            ("initialisation", initialisation, Initialisation),
            ("upsampling", upsampling, Upsampling),
        ):
            if value not in get_args(choices):
                raise ValueError(f"{name} is {value!r}; it takes {', '.join(get_args(choices))}")
        reach = patch * _reach(levels, convolutions * (kernel // 2), interpolated=upsampling == "bilinear")
        super().__init__(in_channels, patch * 2 ** (levels - 1), [MEAN], [DEVIATION], reach=reach, patch=patch)

        def block(before: int, after: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for channels in (before, *[after] * (convolutions - 1)):
                # The normalisation takes any bias away again, or has one of its own.
                bias = normalisation == "none"
                layers.append(nn.Conv2d(channels, after, kernel, padding=kernel // 2, bias=bias))
                layers += _normalisation(normalisation, after)
                layers.append(_activation(activation, slope))
            return nn.Sequential(*layers)

        widths = [min(base_channels * 2**level, max_channels) for level in range(levels)]
        self.down = nn.ModuleList(block(before, after) for before, after in pairwise([in_channels * patch**2, *widths]))
        self.halve = nn.MaxPool2d(2)
        self.dropout = nn.Dropout2d(dropout)
        self.enlarge = nn.ModuleList(_enlarging(upsampling, low, high) for high, low in pairwise(widths))
        self.up = nn.ModuleList(block(2 * width, width) for width in widths[:-1])
        self.head = nn.Conv2d(widths[0], patch**2, 1)
        if initialisation != "default":
            self.apply(_initialise(_INITIALISERS[initialisation]))
        expect(self.head, prior)

    def logits(self, images: Tensor) -> Tensor:
        """See `AnySize.logits`."""
        features = self.down[0](pixel_unshuffle(images, self.patch))
        kept = []
        for block in self.down[1:]:
            kept.append(features)
            features = block(self.halve(features))
        features = self.dropout(features)
        for level in reversed(range(len(kept))):
            features = self.up[level](torch.cat([kept.pop(), self.enlarge[level](features)], dim=1))
        return pixel_shuffle(self.head(features), self.patch)


class _GroupNorm(nn.GroupNorm):
    """Group normalisation that also takes a single value per group, as the lowest level of a small image has."""

    def forward(self, values: Tensor) -> Tensor:
        return torch.group_norm(values, self.num_groups, self.weight, self.bias, self.eps)


def expect(head: nn.Conv2d, share: float) -> None:
    """Set the bias of the convolution that gives the logits to the log-odds of this share of crack pixels."""
    assert head.bias is not None
    nn.init.constant_(head.bias, math.log(share / (1 - share)))


def _reach(levels: int, radius: int, *, interpolated: bool) -> int:
    """Give how far from a pixel the last one lies that it depends on; ``radius`` is that of a level's convolutions."""
    reach = radius * (2 ** (levels - 1) - 1) + radius * 2 ** (levels - 1)
    for level in reversed(range(levels - 1)):
        # A pixel of this level takes what the whole pixel of the lower one knows.
        lower = 2 ** (level + 1)
        reach = -(-reach // lower) * lower + (lower if interpolated else 0) + radius * 2**level
    return reach


def _normalisation(kind: Normalisation, channels: int) -> list[nn.Module]:
    if kind == "batch":
        return [nn.BatchNorm2d(channels)]
    if kind == "none":
        return []
    # As many groups as channels are instance normalisation; torch's own of that name leaves channels_last.
    return [_GroupNorm(math.gcd(_GROUPS, channels) if kind == "group" else channels, channels)]


def _activation(kind: Activation, slope: float) -> nn.Module:
    if kind == "leaky_relu":
        return nn.LeakyReLU(slope, inplace=True)
    if kind == "gelu":
        return nn.GELU()
    return {"relu": nn.ReLU, "elu": nn.ELU, "silu": nn.SiLU}[kind](inplace=True)


def _enlarging(kind: Upsampling, before: int, after: int) -> nn.Module:
    if kind == "transposed":
        return nn.ConvTranspose2d(before, after, 2, stride=2)
    # The two commute, and before the interpolation there are four times fewer pixels to convolve.
    return nn.Sequential(nn.Conv2d(before, after, 1), nn.Upsample(scale_factor=2, mode=kind))


def _initialise(initialise: Callable[[Tensor], Any]) -> Callable[[nn.Module], None]:
    def apply(layer: nn.Module) -> None:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            initialise(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    return apply
