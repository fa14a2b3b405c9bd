"""Compare trainings with and without synthetic cracks."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines import ingestion
from crack_pipeline.pipelines.segmentation.training import fingerprint_data
from crack_pipeline.pipelines.steps import resolve_plan
from crack_pipeline.pipelines.synthesis_gain.nodes import (
    compare_trainings,
    create_networks,
    draw_gain,
    summarise,
    summarise_gain,
)

NAME = "synthesis_gain"
COMPUTE = "params:compute"


def create_pipeline(**_: Any) -> Pipeline:
    """Take photographs with masks; give the trainings, what was gained, and its curve."""
    prepared = ["images", "manifest", "partition"]
    nodes = [
        Node(resolve_plan, COMPUTE, "plan", name="resolve_plan"),
        Node(
            create_networks,
            [
                "params:image",
                "params:network",
                "params:encoder_weights",
                "params:training",
                "pretrained",
                "params:tiles",
                "params:gain",
            ],
            "initial_weights",
            name="create_networks",
        ),
        Node(fingerprint_data, [*prepared, "params:image"], "data_fingerprint", name="fingerprint_data"),
        Node(
            compare_trainings,
            [
                *prepared,
                "data_fingerprint",
                "initial_weights",
                "params:training",
                "params:simulation",
                "params:gain",
                "params:tiles",
                "plan",
                "checkpoints",
            ],
            "trainings",
            name="compare_trainings",
        ),
        Node(summarise_gain, "trainings", "gains", name="summarise_gain"),
        Node(draw_gain, "gains", "gain_curve", name="draw_gain"),
        Node(summarise, "gains", "summary", name="summarise"),
    ]
    return ingestion.create_pipeline(NAME) + Pipeline(nodes, namespace=NAME, parameters={COMPUTE})
