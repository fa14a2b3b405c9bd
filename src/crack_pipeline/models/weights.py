"""Trained weights together with what is needed to use them."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class Weights(NamedTuple):
    """A state dictionary and JSON-like facts about it, such as the options that rebuild the network."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
