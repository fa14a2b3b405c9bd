"""Simulate cracks on photographs of sound concrete, write them as a data set, and judge them."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines import ingestion
from crack_pipeline.pipelines.steps import resolve_plan
from crack_pipeline.pipelines.synthesis.nodes import fingerprint_data
from crack_pipeline.pipelines.synthesis.pipeline import COMPUTE, judged
from crack_pipeline.pipelines.synthesis_simulated.nodes import find_sound_concrete

NAME = "synthesis_simulated"


def create_pipeline(**_: Any) -> Pipeline:
    """Take photographs and where they are sound; give new pictures, figures and a judgement."""
    prepared = ["images", "manifest", "partition"]
    nodes = [
        Node(resolve_plan, COMPUTE, "plan", name="resolve_plan"),
        Node(fingerprint_data, [*prepared, "params:image"], "data_fingerprint", name="fingerprint_data"),
        Node(
            find_sound_concrete,
            [*prepared, "params:simulation", "params:pictures"],
            ["drawing", "train_pictures", "test_pictures"],
            name="find_sound_concrete",
        ),
        *judged("params:pictures"),
    ]
    return ingestion.create_pipeline(NAME) + Pipeline(nodes, namespace=NAME, parameters={COMPUTE})
