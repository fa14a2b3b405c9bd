"""The networks that detectors score with."""

from __future__ import annotations

from typing import Literal

from torch import nn

from crack_pipeline.models.segmenters import rebuild
from crack_pipeline.models.vae import ConvVAE
from crack_pipeline.models.weights import Weights

Kind = Literal["vae", "simulated"]


def kind_of(weights: Weights) -> Kind:
    """Say which kind of detector some weights belong to; before there were others, all were autoencoders."""
    kind: Kind = weights.facts.get("detector", "vae")
    return kind


def build_network(weights: Weights) -> nn.Module:
    """Rebuild the network that some weights belong to."""
    if kind_of(weights) == "simulated":
        segmenter: nn.Module = rebuild(weights)
        return segmenter
    network = ConvVAE(**weights.facts["network"])
    network.load_state_dict(weights.tensors)
    return network
