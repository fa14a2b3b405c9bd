"""Which of the trained models that there are is used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Protocol, get_args

from pydantic import AfterValidator

from crack_pipeline.models.registered import PREFIX, Registered, parse
from crack_pipeline.models.weights import Weights

logger = logging.getLogger(__name__)

Loader = Callable[[], Weights]
Trained = Literal["segmentation", "weak_segmentation", "label_free"]
"""Pipelines that train a segmenter."""


class Registry(Protocol):
    """Registered models."""

    def find(self, address: str) -> Registered:
        """Load what an address names."""


def _known(wanted: str) -> str:
    names = ("auto", *get_args(Trained))
    if wanted not in names and not wanted.startswith(PREFIX):
        raise ValueError(
            f"it is one of {', '.join(names)}, or a registered segmenter, such as {PREFIX}segmentation@champion or "
            f"{PREFIX}segmentation/3, not {wanted!r}"
        )
    if wanted.startswith(PREFIX):
        parse(wanted)
    return wanted


Wanted = Annotated[str, AfterValidator(_known)]
"""A pipeline, whose newest segmenter is meant; ``auto``, the first that has trained one; or a registered segmenter."""


def choose(wanted: Wanted, loaders: Mapping[Trained, Loader], registry: Registry) -> tuple[str, Weights] | None:
    """Load a segmenter.

    Parameters
    ----------
    wanted
        Which one.
    loaders
        Load the newest segmenters, by pipeline, in the order in which they are asked for.
    registry
        Where registered ones are; asked only if one is wanted.

    Returns
    -------
    tuple of str and Weights, or None
        What it is called in reports, and the segmenter; None if ``auto`` finds none. What a store raises if the one
        that is named is missing comes through.

    Raises
    ------
    ValueError
        If what is registered is no segmenter.
    """
    if wanted.startswith(PREFIX):
        version, weights = registry.find(wanted)
        if "tiles" not in weights.facts:
            raise ValueError(f"{wanted} does not say where cracks are: it is no segmenter")
        name = f"{parse(wanted).model}, version {version}"
        logger.info("%s is %s", wanted, name)
        return name, weights
    if wanted != "auto":
        (load,) = (load for name, load in loaders.items() if name == wanted)
        return wanted, load()
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
