"""A classifier that is trained to tell real pictures from generated ones: the harder it is, the better they are."""

from __future__ import annotations

import logging

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from crack_pipeline.training.batches import as_tensor, normalise
from crack_pipeline.training.compute import Plan

logger = logging.getLogger(__name__)

_BATCH = 32
_WIDTHS = (32, 64, 128, 128)


def tell_apart(
    real: NDArray[np.uint8],
    generated: NDArray[np.uint8],
    groups: NDArray[np.int64],
    plan: Plan,
    *,
    folds: int,
    steps: int,
    seed: int,
) -> NDArray[np.float32]:
    """Judge every picture by a classifier that was trained on others.

    Parameters
    ----------
    real, generated
        (n, S, S[, C]) and (m, S, S[, C]) uint8.
    groups
        (n,): real pictures of one group, such as crops of one photograph, are never on both sides.
    plan
        Compute plan.
    folds
        Of the cross-validation; fewer where there are fewer groups.
    steps
        Of each training, with batches of 32, half of them real.
    seed
        Of folds, weights and batches.

    Returns
    -------
    ndarray of float32
        (n + m,): probability of being generated, the real ones first.

    Raises
    ------
    ValueError
        If the real pictures are of one group.
    """
    pictures = np.concatenate([real, generated])
    labels = np.repeat([0, 1], [len(real), len(generated)])
    apart = np.concatenate([groups, groups.max() + 1 + np.arange(len(generated))])
    folds = min(folds, len(np.unique(groups)))
    if folds < 2:
        raise ValueError("to tell real pictures from generated ones, real ones of two groups at least are needed")
    judged = np.empty(len(pictures), np.float32)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (learned, asked) in enumerate(splitter.split(pictures, labels, apart), start=1):
        network = _train(pictures, labels, learned, plan, steps, seed)
        judged[asked] = _ask(network, pictures[asked], plan)
        right = ((judged[asked] > 0.5) == labels[asked]).mean()
        logger.info("real or generated, fold %d of %d: %.1f %% right", number, folds, 100 * right)
    return judged


def _train(
    pictures: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64], plan: Plan, steps: int, seed: int
) -> nn.Module:
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = _network(1 if pictures.ndim == 3 else pictures.shape[3]).to(plan.device).train()
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=max(steps, 3))
    classes = [rows[labels[rows] == label] for label in (0, 1)]
    target = torch.repeat_interleave(torch.tensor([0.0, 1.0]), _BATCH // 2).to(plan.device)
    for _ in range(steps):
        chosen = np.concatenate([rng.choice(found, _BATCH // 2) for found in classes])
        images = _turn(normalise(as_tensor(pictures[chosen]), plan.device), rng)
        with plan.autocast():
            logits = network(images).squeeze(1)
        loss = binary_cross_entropy_with_logits(logits.float(), target)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return network


@torch.inference_mode()
def _ask(network: nn.Module, pictures: NDArray[np.uint8], plan: Plan) -> NDArray[np.float32]:
    network.eval()
    found = []
    for start in range(0, len(pictures), _BATCH):
        images = normalise(as_tensor(pictures[start : start + _BATCH]), plan.device)
        with plan.autocast():
            found.append(network(images).squeeze(1).float().sigmoid().cpu().numpy())
    return np.concatenate(found)


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
