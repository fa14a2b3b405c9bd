"""Features of pictures that no data set has shaped."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from crack_pipeline.engines.compute import Plan
from crack_pipeline.training.batches import as_tensor, normalise

_BATCH = 32
_WIDTHS = (32, 64, 128, 256)


@torch.inference_mode()
def random_features(pictures: NDArray[np.uint8], plan: Plan, seed: int = 0) -> NDArray[np.float32]:
    """Look at pictures through a network that was never trained.

    Such features judge generated pictures of what ImageNet does not know better than trained ones do (Naeem et al.,
    arXiv:2002.09797, section 4.3).

    Parameters
    ----------
    pictures
        (n, S, S) or (n, S, S, C) uint8.
    plan
        Compute plan.
    seed
        Of the weights.

    Returns
    -------
    ndarray of float32
        (n, 960): mean and deviation of every feature map of four layers, each standardised over the pictures.
    """
    plan, channels = plan.here(), 1 if pictures.ndim == 3 else pictures.shape[3]
    torch.manual_seed(seed)
    layers = [
        nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False).to(plan.device)
        for before, after in pairwise((channels, *_WIDTHS))
    ]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight)
    found = []
    for start in range(0, len(pictures), _BATCH):
        maps = 2 * normalise(as_tensor(pictures[start : start + _BATCH]), plan.device) - 1
        seen = []
        for layer in layers:
            maps = layer(maps).relu()
            seen += [maps.mean(dim=(2, 3)), maps.std(dim=(2, 3))]
        found.append(torch.cat(seen, dim=1).cpu().numpy())
    return np.concatenate(found)
