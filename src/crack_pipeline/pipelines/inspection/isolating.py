"""Nodes that tell the structure of photographs from their background."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from crack_pipeline.engines.compute import Plan
from crack_pipeline.imaging.foreground import Foreground, find_foreground
from crack_pipeline.imaging.prompts import Prompts, check_inside, read_prompts
from crack_pipeline.models.embedding import Embedding
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.listing import Source
from crack_pipeline.training.foreground import encode, find_structure, load_network

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

logger = logging.getLogger(__name__)

_MANY = 12
"""Points along a side that a processor can do with."""


class Store(Protocol):
    """Gives the weights of Segment Anything."""

    def fetch(self, model: str, weights: str) -> dict[str, Tensor]:
        """Read them, or fetch them once."""


class Cache(Protocol):
    """Keeps the embeddings of photographs."""

    def get(self, key: str) -> Embedding | None:
        """Give one; None if it is not there."""

    def put(self, key: str, embedding: Embedding) -> None:
        """Keep one."""


class Isolator:
    """Tells the structure of photographs from their background, in one way.

    Parameters
    ----------
    how
        The way.
    plan
        Compute plan.
    tensors
        The weights of Segment Anything; None for a way without a network.
    cache
        Of what they make of a photograph.
    prompts
        What people say of photographs, by path.
    """

    def __init__(
        self,
        how: Foreground,
        plan: Plan,
        tensors: dict[str, Tensor] | None = None,
        cache: Cache | None = None,
        prompts: Mapping[str, Prompts] | None = None,
    ) -> None:
        self._how, self._plan, self._cache, self._prompts = how, plan, cache, dict(prompts or {})
        self._tensors = tensors
        self._weights = None if tensors is None else Weights(tensors, {}).fingerprint()
        if plan.engine == "local":
            self._network  # noqa: B018  (what is wrong with the weights is said now)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_network"}

    @cached_property
    def _network(self) -> Sam | None:
        return None if self._tensors is None else load_network(self._tensors, self._how, self._plan)

    def settings(self, path: str) -> dict[str, Any]:
        """Give all that decides what is found in a photograph: JSON-like."""
        if self._tensors is None:
            return self._how.model_dump(mode="json", exclude={"weights", "prompts", "model", "automatic"})
        said = self._prompts.get(path)
        how = self._how.model_dump(mode="json", exclude={"weights", "prompts"})
        prompts = None if said is None else repr(said)
        return {**how, "weights": self._weights, "prompts": prompts, "precision": self._plan.precision}

    def find(self, path: str, photo_id: str, photograph: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Tell the structure, (H, W), of a photograph, (H, W, 3), from its background."""
        if self._network is None:
            return find_foreground(photograph, self._how)
        if path in self._prompts:
            try:
                check_inside(self._prompts[path], photograph.shape[:2])
            except ValueError as error:
                raise ValueError(f"{self._how.prompts}: {error}") from None
        key = hashlib.blake2b(f"{photo_id} {self._weights} {self._plan.precision}".encode(), digest_size=16).hexdigest()
        embedding = None if self._cache is None else self._cache.get(key)
        if embedding is None:
            embedding = encode(self._network, photograph, self._plan)
            if self._cache is not None:
                self._cache.put(key, embedding)
        return find_structure(self._network, embedding, photograph, self._how, self._prompts.get(path))


def prepare_isolation(
    raw: Source,
    photographs: pd.DataFrame,
    segment_anything: Store,
    embeddings: Cache,
    foreground: Foreground,
    plan: Plan,
) -> Isolator:
    """Get ready what tells the structure from its background.

    Parameters
    ----------
    raw
        The root, in which the table of prompts lies.
    photographs
        Those under it: ``path``.
    segment_anything, embeddings
        Weights, and what they made of photographs before; only used for the method ``segment_anything``.
    foreground
        The method.
    plan
        Compute plan.

    Raises
    ------
    ValueError
        If the weights are others, or the table of prompts is missing or wrong.
    """
    if foreground.method != "segment_anything":
        return Isolator(foreground, plan)
    prompts = {}
    if foreground.prompts is not None:
        try:
            content = raw.read(foreground.prompts)
        except (OSError, KeyError) as error:
            raise ValueError(
                f"the prompts {foreground.prompts} cannot be read in {raw.name}: {error}; "
                "inspection.foreground.prompts is relative to the root"
            ) from error
        prompts = read_prompts(content, photographs["path"])
        logger.info("%s says something of %s photographs", foreground.prompts, f"{len(prompts):,}")
    if plan.device.type == "cpu" and foreground.automatic.points_per_side > _MANY:
        logger.warning(
            "Segment Anything takes many minutes a photograph on a processor: set "
            "inspection.foreground.automatic.points_per_side to %s or so",
            _MANY,
        )
    tensors = segment_anything.fetch(foreground.model, foreground.weights)
    return Isolator(foreground, plan, tensors, embeddings, prompts)
