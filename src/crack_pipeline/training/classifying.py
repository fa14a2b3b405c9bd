"""A small convolutional classifier of squares, trained from nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from crack_pipeline.engines.compute import Plan
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.training.batches import as_tensor, normalise

if TYPE_CHECKING:
    # It imports Lightning, which takes seconds, and only training needs it.
    from crack_pipeline.training.crops import Source

_AT_ONCE = 32
_WIDTHS = (32, 64, 128, 128)

Labelled = tuple[NDArray[np.uint8], NDArray[np.bool_]]
"""Squares, (n, S, S[, C]), and the class of each, (n,)."""


def train_classifier(batches: Iterator[Labelled], *, channels: int, steps: int, plan: Plan, seed: int) -> nn.Module:
    """Train a classifier of two classes.

    Parameters
    ----------
    batches
        At least as many as there are steps.
    channels
        1 or 3.
    steps
        Batches to learn from.
    plan
        Compute plan.
    seed
        Of weights and of how squares are laid.

    Returns
    -------
    torch.nn.Module
        For `classify`.
    """
    plan = plan.here()
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 5])
    network = _network(channels).to(plan.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=max(steps, 3))
    for _ in range(steps):
        squares, labels = next(batches)
        images = _turn(normalise(as_tensor(squares), plan.device), rng)
        # Gradients of 16 bits would have to be scaled.
        with nullcontext() if plan.precision == "16-mixed" else plan.autocast():
            logits = network(images).squeeze(1)
        loss = binary_cross_entropy_with_logits(logits.float(), torch.from_numpy(labels).float().to(plan.device))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network.eval()


@torch.inference_mode()
def classify(network: nn.Module, squares: NDArray[np.uint8], plan: Plan) -> NDArray[np.float32]:
    """Give the probability of the class True of each square, (n,)."""
    plan, found = plan.here(), [np.zeros(0, np.float32)]
    for start in range(0, len(squares), _AT_ONCE):
        images = normalise(as_tensor(squares[start : start + _AT_ONCE]), plan.device)
        with plan.autocast():
            found.append(network(images).squeeze(1).float().sigmoid().cpu().numpy())
    return np.concatenate(found)


def cracked_or_sound(source: Source, *, least: int, seed: int) -> Iterator[Labelled]:
    """Give batches of squares that are known to be cracked or sound, without an end.

    Parameters
    ----------
    source
        Of squares with masks.
    least
        Crack pixels that make a square cracked; one with fewer, or with pixels to be ignored and no crack, is left out.
    seed
        Of what is drawn.

    Raises
    ------
    ValueError
        If all squares of an epoch are left out.
    """
    for epoch in count(seed):
        empty = True
        for batch in source.draw(epoch):
            squares, masks = source.make(batch)
            cracked = (masks == CRACK).sum(axis=(1, 2)) >= least
            known = cracked | ~masks.any(axis=(1, 2))
            if known.any():
                empty = False
                yield squares[known], cracked[known]
        if empty:
            raise ValueError(
                f"no square is free of cracks, and none shows {least:,} pixels of one: lower min_crack_pixels"
            )


def _network(channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    before = channels
    for after in _WIDTHS:
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        before = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 1))


def _turn(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Lay a batch in one of the eight ways in which squares can lie."""
    if rng.random() < 0.5:
        images = images.flip(-1)
    return torch.rot90(images, int(rng.integers(4)), (-2, -1))
