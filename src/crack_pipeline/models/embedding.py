"""What an encoder makes of a photograph, apart from the encoder, so that it can be kept without importing one."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Embedding(NamedTuple):
    """What the encoder makes of a photograph, on the CPU: all that masks are made from."""

    features: Tensor
    """(1, C, h, w) float32."""
    input_size: tuple[int, int]
    """Height and width of the photograph as the encoder saw it, px: masks are of this size."""
    photograph_size: tuple[int, int]
    """Height and width of the photograph, px."""
