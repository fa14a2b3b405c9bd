"""What is registered of a trained model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from crack_pipeline.engines.compute import Compute, Plan
from crack_pipeline.models.weights import Weights
from crack_pipeline.serving.photographs import Limits

Kind = Literal["detector", "segmenter"]


@dataclass(frozen=True)
class Registration:
    """A trained model on its way into a registry.

    Attributes
    ----------
    kind
        Which of the models of :mod:`crack_pipeline.serving.pyfunc` answers with it.
    weights
        Everything that an answer needs.
    threshold
        The one that it is used with, unless a request gives another.
    tags
        Of the version: ``data_fingerprint``, ``threshold``, ``plan`` (JSON) and ``metric.<set>.<name>``.
    settings
        Of the served model: its limits and what else can be changed without training.
    """

    kind: Kind
    weights: Weights
    threshold: float
    tags: Mapping[str, str]
    settings: Mapping[str, Any]


def describe(
    kind: Kind,
    weights: Weights,
    threshold: float,
    metrics: Mapping[str, Any],
    data_fingerprint: Mapping[str, Any],
    plan: Plan,
    limits: Limits,
    **settings: Any,
) -> Registration:
    """Gather what is registered of a trained model.

    Parameters
    ----------
    kind, weights, threshold
        As in :class:`Registration`.
    metrics
        With ``sets``: numbers by name by set.
    data_fingerprint
        Of the data that it was trained on: ``fingerprint``.
    plan
        How it was trained.
    limits
        Of the photographs that it answers to.
    settings
        Further ones of the served model.
    """
    tags = {
        "data_fingerprint": str(data_fingerprint["fingerprint"]),
        "threshold": repr(float(threshold)),
        "plan": json.dumps(plan.model_dump(mode="json", exclude={"reasons"}), separators=(",", ":")),
    }
    for set_name, found in metrics["sets"].items():
        for name, value in found.items():
            if isinstance(value, float):
                tags[f"metric.{set_name}.{name}"] = f"{value:.6g}"
    # MLflow lets a server change what is named here, and nothing else.
    changeable = {**limits.model_dump(), "compute": Compute.model_validate({}).model_dump(mode="json"), **settings}
    return Registration(kind, weights, float(threshold), tags, changeable)
