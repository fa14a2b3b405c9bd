"""A classifier that says where it looks: class-activation maps (Zhou et al., arXiv:1512.04150)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import interpolate

from crack_pipeline.models.any_size import AnySize
from crack_pipeline.models.unet import DEVIATION, MEAN


class ActivationMaps(AnySize):
    """Convolutions that end in one logit for every place of a coarse grid; their mean classifies an image.

    What is averaged last and weighted before is the same as what is weighted last and averaged before: the logits of
    the places are the class-activation map.

    Parameters
    ----------
    in_channels
        1 (grey) or 3 (colour).
    widths
        Channels of each level; from one to the next the resolution halves.
    """

    def __init__(self, in_channels: int, widths: Sequence[int]) -> None:
        # Beyond some convolutions of the lowest level nothing is seen.
        super().__init__(in_channels, 2 ** (len(widths) - 1), [MEAN], [DEVIATION], reach=4 * 2 ** len(widths))
        layers: list[nn.Module] = []
        for level, (before, after) in enumerate(pairwise([in_channels, *widths])):
            layers += [nn.MaxPool2d(2)] if level else []
            for channels in (before, after):
                layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(True)]
        self.features = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], 1, 1)

    def logits(self, images: Tensor) -> Tensor:
        """See `AnySize.logits`."""
        coarse = self.head(self.features(images))
        return interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)
