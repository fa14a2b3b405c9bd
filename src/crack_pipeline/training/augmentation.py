"""Changes of whole batches on the device that trains: what another camera, another day and another place would do.

Every image of a batch gets its own change, but each change is one operation on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad

from crack_pipeline.imaging import jpeg
from crack_pipeline.imaging.photograph_stack import IGNORED

_JPEG_MIDDLE = 128 / 255


class Augmentation(BaseModel):
    """How strongly training images are changed; 0 or false switches a change off."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flips: bool = Field(True, description="mirror, and turn by quarter turns")
    rotation: float = Field(0.0, ge=0, le=1, description="share of the images turned by any angle and scaled")
    scale: float = Field(1.4, ge=1, le=4, description="largest factor by which those are enlarged or shrunk")
    brightness: float = Field(0.15, ge=0, le=1, description="largest shift, of the range from black to white")
    contrast: float = Field(0.3, ge=0, lt=1, description="largest relative change")
    gamma: float = Field(0.5, ge=0, le=2, description="largest change of the exponent's logarithm")
    colour: float = Field(0.05, ge=0, le=1, description="largest shift of a single channel")
    blur: float = Field(0.25, ge=0, le=1, description="share of the images out of focus")
    blur_width: float = Field(1.5, gt=0, le=8, description="largest standard deviation of the blur, in px")
    noise: float = Field(0.05, ge=0, le=1, description="largest standard deviation, of the range; half the images")
    jpeg: float = Field(0.25, ge=0, le=1, description="share of the images that are compressed")
    jpeg_quality: int = Field(30, ge=1, le=100, description="lowest quality")


def augment(images: Tensor, masks: Tensor, how: Augmentation) -> tuple[Tensor, Tensor]:
    """Change a batch; the randomness is that of torch's global generators.

    Parameters
    ----------
    images
        (N, C, S, S), float in [0, 1].
    masks
        (N, S, S), uint8: 0 background, 1 crack, 2 ignored. They follow the geometry of the images.
    how
        What is done.

    Returns
    -------
    tuple of Tensor
        Both in the same form; the given ones are left as they are.
    """
    images, masks = images.clone(), masks.clone()
    if how.flips:
        _flip(images, masks)
    chosen = _choose(how.rotation, images)
    if len(chosen):
        images[chosen], masks[chosen] = _rotate(images[chosen], masks[chosen], how.scale)
    images = _light(images, how)
    _some(images, how.blur, lambda some: _blur(some, how.blur_width))
    if how.noise:
        _some(images, 0.5, lambda some: _noise(some, how.noise))
    # A camera cuts off what it cannot show before it compresses.
    images.clamp_(0, 1)
    _some(images, how.jpeg, lambda some: _compress(some, how.jpeg_quality).clamp_(0, 1))
    return images.contiguous(memory_format=torch.channels_last), masks


def _choose(share: float, images: Tensor) -> Tensor:
    """Draw which images are changed, each with this probability."""
    return torch.nonzero(torch.rand(len(images)) < share).squeeze(1).to(images.device)


def _some(images: Tensor, share: float, change: Callable[[Tensor], Tensor]) -> None:
    """Change some images in place."""
    chosen = _choose(share, images)
    if len(chosen):
        images[chosen] = change(images[chosen])


def _flip(images: Tensor, masks: Tensor) -> None:
    """Lay each square, in place, in one of the eight ways in which it can lie, all as likely."""
    turns: tuple[Callable[[Tensor], Tensor], ...] = (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.mT)
    for turn in turns:
        chosen = _choose(0.5, images)
        for batch in (images, masks):
            batch[chosen] = turn(batch[chosen])


def _rotate(images: Tensor, masks: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Turn by any angle and scale; what lies beyond the image is mirrored, and ignored in the mask."""
    number = len(images)
    angle = _uniform(number, -math.pi, math.pi, images)
    factor = _uniform(number, -math.log(scale), math.log(scale), images).exp()
    cosine, sine, nothing = factor * angle.cos(), factor * angle.sin(), torch.zeros_like(angle)
    matrix = torch.stack(
        [torch.stack([cosine, -sine, nothing], dim=1), torch.stack([sine, cosine, nothing], dim=1)], dim=1
    )
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    turned = grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    # Shifted by the ignored value, so that the zeros around the mask come out as ignored.
    shifted = masks.unsqueeze(1).to(images.dtype) - IGNORED
    followed = grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False) + IGNORED
    return turned, followed.squeeze(1).to(torch.uint8)


def _light(images: Tensor, how: Augmentation) -> Tensor:
    number = len(images)
    if how.gamma:
        gamma = _uniform(number, -how.gamma, how.gamma, images).exp().view(-1, 1, 1, 1)
        images = images.clamp(1e-3, 1).pow(gamma)
    factor = 1 + _uniform(number, -how.contrast, how.contrast, images).view(-1, 1, 1, 1)
    shift = _uniform(number, -how.brightness, how.brightness, images).view(-1, 1, 1, 1)
    shift = shift + how.colour * (2 * torch.rand(number, images.shape[1], 1, 1).to(images) - 1)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return images * factor + (mean * (1 - factor) + shift)


def _blur(images: Tensor, widest: float) -> Tensor:
    """Blur with a Gaussian whose width is drawn for each image."""
    number, channels = images.shape[:2]
    reach = max(1, math.ceil(2.5 * widest))
    deviation = _uniform(number, 0.3, max(0.3, widest), images).view(-1, 1)
    at = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    profile = torch.exp(-0.5 * (at / deviation) ** 2)
    profile = (profile / profile.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    flat = pad(images, [reach] * 4, mode="replicate").flatten(0, 1).unsqueeze(0)
    rows = conv2d(flat, profile[:, None, None, :], groups=len(profile))
    return conv2d(rows, profile[:, None, :, None], groups=len(profile)).reshape(images.shape)


def _noise(images: Tensor, largest: float) -> Tensor:
    deviation = _uniform(len(images), 0, largest, images).view(-1, 1, 1, 1)
    return images + deviation * torch.randn_like(images)


def _compress(images: Tensor, lowest: int) -> Tensor:
    """Quantise the cosine transform of blocks of 8 px, as JPEG does (ITU-T T.81), each channel for itself."""
    height, width = images.shape[-2:]
    padded = pad(images, [0, -width % 8, 0, -height % 8], mode="replicate")
    quality = _uniform(len(images), lowest, 95, images).view(-1, 1, 1, 1)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    table = (torch.from_numpy(jpeg.LUMINANCE).to(images) * scale).round_().clamp_(1, 255) / 255
    split = (*padded.shape[:2], padded.shape[2] // 8, 8, padded.shape[3] // 8, 8)
    blocks = (padded - _JPEG_MIDDLE).reshape(split).transpose(3, 4)
    cosine = _cosines().to(images)
    coefficients = (blocks.flatten(4).flatten(2, 3) @ cosine.T / table).round_() * table
    restored = (coefficients @ cosine).view(blocks.shape) + _JPEG_MIDDLE
    return restored.transpose(3, 4).flatten(4, 5).flatten(2, 3)[..., :height, :width]


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """Give the orthonormal matrix, (64, 64), of the cosine transform of a block, row by row."""
    return torch.from_numpy(np.kron(jpeg.COSINES, jpeg.COSINES))


def _uniform(number: int, low: float, high: float, like: Tensor) -> Tensor:
    """Draw on the CPU, so that a seed means the same on every device."""
    return (low + (high - low) * torch.rand(number)).to(like)
