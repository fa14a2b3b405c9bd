"""What every segmenter does around its network: standardise, pad to the network's stride, crop back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class AnySize(nn.Module, ABC):
    """A segmenter of images of any size, from 1 × 1 px on.

    Parameters
    ----------
    in_channels
        1 (grey) or 3 (colour).
    stride
        The network takes images whose sides are multiples of it; others are padded below and on the right by
        repeating their last row and column.
    reach
        How far from a pixel, in px, lies the last one that has a say in its logit; None: not known.
    patch
        Side of the squares, in px, that its first level takes for one pixel each.
    mean, deviation
        One value for all channels or one a channel: what the network expects to be subtracted from images in
        [0, 1], and to divide them by.
    """

    def __init__(
        self,
        in_channels: int,
        stride: int,
        mean: Sequence[float],
        deviation: Sequence[float],
        *,
        reach: int | None = None,
        patch: int = 1,
    ) -> None:
        super().__init__()
        self.in_channels, self.stride, self.reach, self.patch = in_channels, stride, reach, patch
        scale = 1 / torch.tensor(deviation).view(1, -1, 1, 1)
        self._scale: Tensor
        self._shift: Tensor
        self.register_buffer("_scale", scale, persistent=False)
        self.register_buffer("_shift", -torch.tensor(mean).view(1, -1, 1, 1) * scale, persistent=False)

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """Give logits (N, 1, H, W) of standardised images (N, C, H, W); H and W are multiples of the stride."""

    def standardise(self, images: Tensor) -> Tensor:
        """Subtract and divide by what the network expects, of images (N, C, H, W) in [0, 1]."""
        return torch.addcmul(self._shift, images, self._scale)

    def forward(self, images: Tensor) -> Tensor:
        """Give the log-odds of a crack.

        Parameters
        ----------
        images
            (N, C, H, W), float in [0, 1]; any H and W from 1 on.

        Returns
        -------
        Tensor
            (N, 1, H, W), of the dtype of the images, whatever autocast computes in.
        """
        height, width = images.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        standardised = self.standardise(images)
        if below or right:
            standardised = pad(standardised, (0, right, 0, below), mode="replicate")
            return self.logits(standardised)[..., :height, :width].to(images.dtype)
        return self.logits(standardised).to(images.dtype)
