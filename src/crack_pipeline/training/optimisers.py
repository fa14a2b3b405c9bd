"""Optimisers by name."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Optimiser = Literal["adam", "adamw", "nadam", "rmsprop", "sgd"]


def create_optimiser(name: Optimiser, network: nn.Module, rate: float, decay: float) -> torch.optim.Optimizer:
    """Create an optimiser; ``sgd`` has Nesterov momentum 0.9, and decay is decoupled where that is possible."""
    # Biases and the scales of normalisations are not drawn towards zero: they do not overfit.
    matrices = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    match name:
        case "adam":
            return torch.optim.Adam(groups, rate)
        case "adamw":
            return torch.optim.AdamW(groups, rate)
        case "nadam":
            return torch.optim.NAdam(groups, rate, decoupled_weight_decay=True)
        case "rmsprop":
            return torch.optim.RMSprop(groups, rate)
        case "sgd":
            return torch.optim.SGD(groups, rate, momentum=0.9, nesterov=True)
