"""Logits of images out of those of their pixels."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["mean", "max", "smooth_max", "highest"]

_SHARPNESS = 5.0
_HIGHEST = 0.02


def pool(logits: Tensor, ignored: Tensor, pooling: Pooling) -> Tensor:
    """Make one logit of those of all pixels of an image.

    Parameters
    ----------
    logits
        (N, 1, H, W).
    ignored
        (N, H, W) bool: pixels that do not count; at least one of every image does.
    pooling
        ``mean``; ``max``; ``smooth_max``: log of the mean exponential, sharpened five times (Pinheiro and Collobert,
        arXiv:1411.6228); ``highest``: mean of the highest fiftieth.

    Returns
    -------
    Tensor
        (N,), float32.
    """
    values = logits.float().flatten(1).masked_fill(ignored.flatten(1), -math.inf)
    number = (~ignored).flatten(1).sum(dim=1)
    if pooling == "max":
        return values.amax(dim=1)
    if pooling == "smooth_max":
        return ((_SHARPNESS * values).logsumexp(dim=1) - number.log()) / _SHARPNESS
    if pooling == "highest":
        most = max(1, round(_HIGHEST * values.shape[1]))
        highest = values.topk(most, dim=1).values
        wanted = torch.arange(most, device=values.device) < (number * _HIGHEST).round().clamp(min=1)[:, None]
        return highest.where(wanted, 0).sum(dim=1) / wanted.sum(dim=1)
    return values.where(~ignored.flatten(1), 0).sum(dim=1) / number
