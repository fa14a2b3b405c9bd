"""A root in memory, photographs with a crack of known size, and a segmenter that needs no training."""

from __future__ import annotations

import numpy as np
import torch

from crack_pipeline.imaging.camera import encode_png


class Dark(torch.nn.Module):
    """A segmenter that calls a pixel a crack because it is dark."""

    stride, reach = 1, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 40 * (0.4 - images.mean(dim=1, keepdim=True))


class Files:
    """A root in memory."""

    name = "memory"

    def __init__(self, **files: bytes) -> None:
        self.files = files

    def list(self):
        return [(path, len(data), "", "") for path, data in sorted(self.files.items())]

    def read(self, path):
        return self.files[path]


def photograph(seed: int, top: int = 40, width: int = 4, size: tuple[int, int] = (96, 160)) -> bytes:
    """Concrete with a crack from left to right, ``width`` px wide; none where that is 0."""
    image = np.random.default_rng(seed).normal(160, 6, (*size, 3)).clip(0, 255).astype(np.uint8)
    image[top : top + width, 20:140] = 20
    return encode_png(image)
