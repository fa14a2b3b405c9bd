"""Which of the trained models that there are is used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Literal

from crack_pipeline.models.weights import Weights

logger = logging.getLogger(__name__)

Loader = Callable[[], Weights]
Trained = Literal["segmentation", "weak_segmentation", "label_free"]
"""Pipelines that train a segmenter."""


def choose(wanted: Trained | Literal["auto"], loaders: Mapping[Trained, Loader]) -> tuple[Trained, Weights] | None:
    """Load the newest segmenter of one pipeline.

    Parameters
    ----------
    wanted
        The pipeline; ``auto``: the first that has trained one.
    loaders
        Load the segmenters, by pipeline, in the order in which they are asked for.

    Returns
    -------
    tuple of str and Weights, or None
        The pipeline and its segmenter; None if ``auto`` finds none. What a store raises if the one that is named is
        missing comes through.
    """
    if wanted != "auto":
        return wanted, loaders[wanted]()
    for name, load in loaders.items():
        segmenter = load_if_there(name, load)
        if segmenter is not None:
            return name, segmenter
    return None


def load_if_there(name: str, load: Loader) -> Weights | None:
    """Load a model, or log why there is none."""
    try:
        return load()
    except Exception as error:  # whatever a store raises: there is none, and others may do
        logger.info("%s: no trained model (%s)", name, " ".join(str(error).split()))
        return None
