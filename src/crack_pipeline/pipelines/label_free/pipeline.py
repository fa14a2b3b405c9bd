"""Train a segmenter on simulated cracks; use it on new photographs; measure it on ones that have masks."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines import ingestion, segmentation
from crack_pipeline.pipelines.label_free.nodes import (
    choose_simulated_threshold,
    draw_simulated,
    find_sound_concrete,
    train_segmenter,
)
from crack_pipeline.pipelines.segmentation.pipeline import COMPUTE, READING, TILES, tested
from crack_pipeline.pipelines.segmentation.training import (
    create_network,
    fingerprint_tested_data,
    pack_segmenter,
)
from crack_pipeline.pipelines.steps import resolve_plan


def create_pipeline(**_: Any) -> Pipeline:
    """Take photographs and where they are sound; give segmenter, and, where there are masks, metrics and figures."""
    prepared = ["images", "manifest", "partition"]
    squares = ["train_squares", "validation_squares"]
    nodes = [
        Node(resolve_plan, COMPUTE, "plan", name="resolve_plan"),
        Node(
            create_network,
            ["params:image", "params:network", "params:encoder_weights", "params:training", "pretrained", TILES],
            "initial_weights",
            name="create_network",
        ),
        Node(fingerprint_tested_data, [*prepared, "params:image"], "data_fingerprint", name="fingerprint_data"),
        Node(
            find_sound_concrete,
            [*prepared, "params:simulation", "params:training"],
            squares,
            name="find_sound_concrete",
        ),
        Node(draw_simulated, ["train_squares", "params:training"], "simulated", name="draw_simulated"),
        Node(
            train_segmenter,
            [*squares, "manifest", "data_fingerprint", "initial_weights", "params:training", "plan", "checkpoints"],
            ["network_weights", "training_history"],
            name="train_segmenter",
            tags="training",
        ),
        Node(
            choose_simulated_threshold,
            ["network_weights", "validation_squares", "params:training", TILES, "plan"],
            "threshold",
            name="choose_threshold",
        ),
        Node(
            pack_segmenter,
            ["network_weights", "threshold", TILES, "params:training", "plan"],
            "segmenter",
            name="pack_segmenter",
        ),
        *tested(),
    ]
    return ingestion.create_pipeline("label_free") + Pipeline(
        nodes, namespace="label_free", parameters={COMPUTE, READING}
    )


def create_evaluate_pipeline(**_: Any) -> Pipeline:
    """Take other photographs with masks and the trained segmenter; give metrics of the set ``evaluation``."""
    return segmentation.create_evaluate_pipeline("label_free")


def create_predict_pipeline(**_: Any) -> Pipeline:
    """Take new photographs and the trained segmenter; give masks, overlays and a table."""
    return segmentation.create_predict_pipeline("label_free")
