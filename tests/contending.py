"""Photographs with a dark line, and small segmenters that find it well or not so well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from crack_pipeline.imaging.photograph_stack import CRACK, PhotographStack
from crack_pipeline.models.segmenters import create_segmenter
from crack_pipeline.models.weights import Weights
from crack_pipeline.training.segmenting import Tiles
from stacks import prepare

ROLES = ["train"] * 4 + ["validation"] * 2 + ["test"] * 12
LEARNED_FROM = [f"{number:02d}" for number in range(6)]
SIDE = 32
_NETWORK = {"name": "unet", "levels": 2, "base_channels": 4, "in_channels": 3, "patch": 1}


def photographs(folder: Path) -> tuple[PhotographStack, pd.DataFrame, pd.DataFrame]:
    """Give stack, manifest and partition, as the ingestion writes them."""
    return prepare(folder, [_photograph(seed) for seed in range(len(ROLES))], ROLES)


def segmenter(steps: int, seed: int = 0, **facts: Any) -> Weights:
    """Train for a number of steps, which take a hundredth of a second each."""
    torch.manual_seed(seed)
    network = create_segmenter(_NETWORK)
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    pictures, masks = zip(*(_photograph(100 + seed) for seed in range(8)), strict=True)
    images = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    truth = torch.from_numpy(np.stack(masks))[:, None].float()
    for _ in range(steps):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(images), truth)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    about = {
        "network": _NETWORK,
        "image": {"size": None, "mode": "rgb", "masks": True},
        "tiles": Tiles(size=64, halo=4, blend=2).model_dump(),
        "threshold": 0.5,
        "learned_from": LEARNED_FROM,
    }
    return Weights(network.state_dict(), about | facts)


def _photograph(seed: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    image = rng.normal(150, 8, (SIDE, SIDE, 3))
    mask = np.zeros((SIDE, SIDE), np.uint8)
    place = int(rng.integers(4, SIDE - 8))
    mask[:, place : place + 3] = CRACK
    image[mask == CRACK] -= 70
    image[int(rng.integers(SIDE - 6)) :, place - 4 : place - 2] -= 30  # a shadow, which is none
    return image.clip(0, 255).astype(np.uint8), mask
