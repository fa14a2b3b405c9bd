"""A classifier that is trained to tell real pictures from generated ones: the harder it is, the better they are."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from crack_pipeline.engines.compute import Plan
from crack_pipeline.training.classifying import Labelled, classify, train_classifier

logger = logging.getLogger(__name__)

_BATCH = 32


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
        (n + m,), the real ones first: pictures of one group, such as crops of one photograph, are never on both sides.
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
        If the pictures of one kind are of one group.
    """
    # It takes a second to import, and only this function needs it.
    from sklearn.model_selection import StratifiedGroupKFold

    pictures = np.concatenate([real, generated])
    labels = np.repeat([False, True], [len(real), len(generated)])
    channels = 1 if pictures.ndim == 3 else pictures.shape[3]
    folds = min(folds, *(len(np.unique(groups[labels == label])) for label in (False, True)))
    if folds < 2:
        raise ValueError("to tell real pictures from generated ones, two groups at least of each are needed")
    judged = np.empty(len(pictures), np.float32)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for number, (learned, asked) in enumerate(splitter.split(pictures, labels, groups), start=1):
        batches = _balanced(pictures, labels, learned, seed)
        network = train_classifier(batches, channels=channels, steps=steps, plan=plan, seed=seed)
        judged[asked] = classify(network, pictures[asked], plan)
        right = ((judged[asked] > 0.5) == labels[asked]).mean()
        logger.info("real or generated, fold %d of %d: %.1f %% right", number, folds, 100 * right)
    return judged


def _balanced(
    pictures: NDArray[np.uint8], labels: NDArray[np.bool_], rows: NDArray[np.int64], seed: int
) -> Iterator[Labelled]:
    """Give batches, half of each class, without an end."""
    rng = np.random.default_rng(seed)
    classes = [rows[labels[rows] == label] for label in (False, True)]
    while True:
        chosen = np.concatenate([rng.choice(found, _BATCH // 2) for found in classes])
        yield pictures[chosen], labels[chosen]
