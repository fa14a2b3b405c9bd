"""Scores: one number per image, higher where a crack is more likely.

A crack is darker than its surroundings, thin and long. Of a network that says what it expects of sound concrete, the
published mean squared error knows none of this; the other scores look at the signed residual ``expected - seen``, which
is positive where the image is darker than expected. Of a network that says where it sees a crack, the pixels count of
which it is most certain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d, pad

BASELINE = "contrast"
_COARSEST_WIDTH = 2.2
_LENGTH_IN_WIDTHS = 3.33
_REACH = 2.5


class _Score(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: ClassVar[str] = "vae"
    """What must give the answer that is scored."""


class MeanSquaredError(_Score):
    """Mean of the squared residual over all pixels: the published score."""

    kind: Literal["mse"] = "mse"

    @property
    def name(self) -> str:
        """What tables call it."""
        return "mse"

    def map(self, images: Tensor, expected: Tensor) -> Tensor:
        """Give the squared residual per pixel, (N, 1, H, W)."""
        return (images - expected).square().mean(dim=1, keepdim=True)

    def __call__(self, images: Tensor, expected: Tensor) -> Tensor:
        """Score images and what was expected, each (N, C, H, W) in [0, 1]; gives (N,)."""
        return self.map(images, expected).mean(dim=(1, 2, 3))


class DarkTail(_Score):
    """Upper quantile of the smoothed signed residual above its median: how dark the darkest few pixels are."""

    kind: Literal["dark_tail"] = "dark_tail"
    smoothing: float = Field(1.0, ge=0, le=20, description="standard deviation of the Gaussian, in px")
    quantile: float = Field(0.99, gt=0.5, lt=1, description="of the pixels of an image")

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"dark_tail_{self.smoothing:g}px_{100 * self.quantile:g}"

    def map(self, images: Tensor, expected: Tensor) -> Tensor:
        """Give the smoothed residual per pixel above the image's median, (N, 1, H, W)."""
        return _above_median(_smooth(_residual(images, expected), self.smoothing))

    def __call__(self, images: Tensor, expected: Tensor) -> Tensor:
        """Score images and what was expected, each (N, C, H, W) in [0, 1]; gives (N,)."""
        return _upper_quantile(self.map(images, expected), self.quantile)


class Ridge(_Score):
    """Upper quantile of the response to thin dark lines of one width in any direction, above its median.

    The residual is correlated with elongated second derivatives of a Gaussian in twelve directions, the strongest
    of which counts (oriented filters after Freeman and Adelson, IEEE PAMI 13(9), 1991; the ridge measure of
    Lindeberg, IJCV 30(2), 1998).
    """

    kind: Literal["ridge"] = "ridge"
    width: float = Field(1.5, gt=0.5, le=16, description="standard deviation of the line's profile, in px")
    quantile: float = Field(0.99, gt=0.5, lt=1, description="of the pixels of an image")

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"ridge_{self.width:g}px_{100 * self.quantile:g}"

    def map(self, images: Tensor, expected: Tensor) -> Tensor:
        """Give the strongest response per pixel above the image's median, (N, 1, h, w); wide lines at half size."""
        residual, width = _residual(images, expected), self.width
        while width > _COARSEST_WIDTH and min(residual.shape[-2:]) >= 32:
            residual, width = avg_pool2d(residual, 2), width / 2
        bank = _line_filters(width).to(residual.device)
        reach = min(bank.shape[-1] // 2, *(side - 1 for side in residual.shape[-2:]))
        trim = bank.shape[-1] // 2 - reach
        bank = bank[..., trim : bank.shape[-2] - trim, trim : bank.shape[-1] - trim]
        padded = pad(residual, [reach] * 4, mode="reflect")
        return _above_median(conv2d(padded, bank).amax(dim=1, keepdim=True))

    def __call__(self, images: Tensor, expected: Tensor) -> Tensor:
        """Score images and what was expected, each (N, C, H, W) in [0, 1]; gives (N,)."""
        return _upper_quantile(self.map(images, expected), self.quantile)


class Likeliest(_Score):
    """Mean log-odds of a crack over the pixels that most likely show one."""

    detector: ClassVar[str] = "simulated"

    kind: Literal["likeliest"] = "likeliest"
    pixels: int = Field(100, ge=1, description="of each image")

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"likeliest_{self.pixels}px"

    def map(self, images: Tensor, logits: Tensor) -> Tensor:
        """Give the probability of a crack per pixel, (N, 1, H, W)."""
        return logits.sigmoid()

    def __call__(self, images: Tensor, logits: Tensor) -> Tensor:
        """Score images (N, C, H, W) by the log-odds of a crack in their pixels, (N, 1, H, W); gives (N,)."""
        flat = logits.flatten(1)
        return flat.topk(min(self.pixels, flat.shape[1]), dim=1, sorted=False).values.mean(dim=1)


Score = Annotated[MeanSquaredError | DarkTail | Ridge | Likeliest, Field(discriminator="kind")]


def score_named(parameters: Mapping[str, Any]) -> Score:
    """Rebuild a score from its parameters."""
    return TypeAdapter[Score](Score).validate_python(parameters)


def contrast(images: Tensor) -> Tensor:
    """Trivial baseline without any network: median minus 1st percentile of the grey values.

    Parameters
    ----------
    images
        (N, C, H, W), float in [0, 1].

    Returns
    -------
    Tensor
        (N,), in [0, 1].
    """
    values = images.mean(dim=1).flatten(1)
    return values.median(dim=1).values - torch.quantile(values, 0.01, dim=1)


def _residual(images: Tensor, expected: Tensor) -> Tensor:
    return (expected - images).mean(dim=1, keepdim=True)


def _above_median(values: Tensor) -> Tensor:
    return values - values.flatten(1).median(dim=1).values.view(-1, 1, 1, 1)


def _upper_quantile(values: Tensor, quantile: float) -> Tensor:
    flat = values.flatten(1)
    rank = max(1, math.ceil((1 - quantile) * flat.shape[1]))
    return flat.topk(rank, dim=1, sorted=False).values.amin(dim=1)


def _smooth(values: Tensor, deviation: float) -> Tensor:
    if deviation == 0:
        return values
    reach = min(math.ceil(3 * deviation), *(side - 1 for side in values.shape[-2:]))
    at = torch.arange(-reach, reach + 1, dtype=values.dtype, device=values.device)
    profile = torch.exp(-0.5 * (at / deviation) ** 2)
    profile = profile / profile.sum()
    padded = pad(values, [reach] * 4, mode="reflect")
    return conv2d(conv2d(padded, profile.view(1, 1, -1, 1)), profile.view(1, 1, 1, -1))


@lru_cache(maxsize=16)
def _line_filters(width: float, directions: int = 12) -> Tensor:
    """Give filters (directions, 1, k, k) that answer with about the depth of a dark line of this width."""
    along = _LENGTH_IN_WIDTHS * width
    reach = math.ceil(_REACH * along)
    y, x = torch.meshgrid(*[torch.arange(-reach, reach + 1, dtype=torch.float64)] * 2, indexing="ij")
    filters = []
    for angle in torch.arange(directions, dtype=torch.float64) * math.pi / directions:
        across = x * angle.cos() + y * angle.sin()
        lengthwise = y * angle.cos() - x * angle.sin()
        line = (1 - across**2 / width**2) * torch.exp(-0.5 * (across**2 / width**2 + lengthwise**2 / along**2))
        line = line - line.mean()
        filters.append(line / line.clamp(min=0).sum())
    return torch.stack(filters).unsqueeze(1).float()
