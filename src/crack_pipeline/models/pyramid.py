"""Pictures as bands of detail, from single pixels to coarse patches (Burt and Adelson 1983)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate


def split(pictures: Tensor, bands: int) -> list[Tensor]:
    """Split pictures into bands of detail and what is left.

    Parameters
    ----------
    pictures
        (N, C, S, S), S divisible by 2 to the power of ``bands``.
    bands
        How many, at least 1.

    Returns
    -------
    list of Tensor
        ``bands`` + 1 of them, of the sides S, S / 2, S / 4, ...: finest detail first, the coarse rest last.
    """
    found = []
    for _ in range(bands):
        coarse = avg_pool2d(pictures, 2)
        found.append(pictures - doubled(coarse))
        pictures = coarse
    return [*found, pictures]


def join(bands: Sequence[Tensor]) -> Tensor:
    """Put together what `split` gave."""
    pictures = bands[-1]
    for band in reversed(bands[:-1]):
        pictures = doubled(pictures) + band
    return pictures


def doubled(pictures: Tensor) -> Tensor:
    """Double the side, (N, C, S, S) to (N, C, 2 S, 2 S), without steps."""
    return interpolate(pictures, scale_factor=2, mode="bilinear", align_corners=False)
