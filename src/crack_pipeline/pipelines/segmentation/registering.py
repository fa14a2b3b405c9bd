"""Node that gathers what is registered of a segmenter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crack_pipeline.engines.compute import Plan
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.parameters import Reading
from crack_pipeline.pipelines.segmentation.parameters import Report
from crack_pipeline.serving.photographs import Limits
from crack_pipeline.serving.registration import Registration, describe


def describe_model(
    segmenter: Weights,
    metrics: Mapping[str, Any],
    data_fingerprint: Mapping[str, Any],
    report: Report,
    reading: Reading,
    plan: Plan,
) -> Registration:
    """Gather what is registered of a segmenter.

    Parameters
    ----------
    segmenter
        As trained.
    metrics
        What it was measured at.
    data_fingerprint
        Of the data that it was trained on.
    report
        From how many crack pixels on a photograph is called cracked.
    reading
        The limits of photographs, which are those of the served model, too.
    plan
        How it was trained.
    """
    threshold, least = segmenter.facts["threshold"], report.least_pixels
    limits = Limits.model_validate(reading.model_dump())
    return describe("segmenter", segmenter, threshold, metrics, data_fingerprint, plan, limits, least_pixels=least)
