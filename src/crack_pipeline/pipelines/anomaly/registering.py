"""Node that gathers what is registered of a detector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crack_pipeline.engines.compute import Plan
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Reading
from crack_pipeline.serving.photographs import Limits
from crack_pipeline.serving.registration import Registration, describe


def describe_model(
    detector: Weights, metrics: Mapping[str, Any], data_fingerprint: Mapping[str, Any], reading: Reading, plan: Plan
) -> Registration:
    """Gather what is registered of a detector.

    Parameters
    ----------
    detector
        As trained.
    metrics
        What it was measured at.
    data_fingerprint
        Of the data that it was trained on.
    reading
        The limits of photographs, which are those of the served model, too.
    plan
        How it was trained.
    """
    threshold = detector.facts["thresholds"][detector.facts["name"]]
    limits = Limits.model_validate(reading.model_dump())
    return describe("detector", detector, threshold, metrics, data_fingerprint, plan, limits)
