"""Train a segmenter from labels; use it on new photographs; set it beside others on ones that have masks."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines import ingestion, segmentation
from crack_pipeline.pipelines.segmentation.pipeline import (
    COMPUTE,
    READING,
    REPORT,
    TILES,
    evaluated,
    tested,
    with_segmenter,
)
from crack_pipeline.pipelines.segmentation.training import pack_segmenter
from crack_pipeline.pipelines.steps import resolve_plan
from crack_pipeline.pipelines.weak_segmentation.comparing import (
    compare,
    compare_new,
    draw_comparison,
    keep_ways,
    summarise,
    summarise_evaluation,
)
from crack_pipeline.pipelines.weak_segmentation.labelling import fingerprint_labels, label_squares
from crack_pipeline.pipelines.weak_segmentation.measuring import (
    count_new,
    count_test,
    list_predictions,
    measure,
    measure_evaluation,
)
from crack_pipeline.pipelines.weak_segmentation.starting import create_networks, find_sound_concrete, learn_start
from crack_pipeline.pipelines.weak_segmentation.teaching import choose_threshold, draw_pseudo_masks, learn_in_rounds

_SHARED = ("params:dataset", "params:presets")
_OTHERS = ["ways", "label_free_segmenter", "supervised_segmenter"]
_OWN = ("count_test", "count_photographs", "measure", "list_predictions", "summarise")
"""Steps of the evaluation of a segmenter that are others here, where not all photographs have masks."""
_SQUARES, _SOUND = ["train_squares", "validation_squares"], ["sound_train", "sound_validation"]


def create_pipeline(**_: Any) -> Pipeline:
    """Take photographs with labels; give segmenter, and, where there are masks, metrics, figures and a comparison."""
    nodes = [
        Node(resolve_plan, COMPUTE, "plan", name="resolve_plan"),
        Node(
            create_networks,
            [
                "params:image",
                "params:network",
                "params:encoder_weights",
                "params:training",
                "params:labels",
                "pretrained",
                TILES,
            ],
            ["initial_weights", "initial_classifier"],
            name="create_networks",
        ),
        Node(
            label_squares,
            ["images", "manifest", "partition", "params:squares", *_SHARED],
            _SQUARES,
            name="label_squares",
        ),
        Node(fingerprint_labels, _SQUARES, "data_fingerprint", name="fingerprint_labels"),
        Node(
            find_sound_concrete,
            [
                *_SQUARES,
                "initial_weights",
                "params:simulation",
                "params:start",
                "params:training",
                "params:self_training",
            ],
            _SOUND,
            name="find_sound_concrete",
        ),
        Node(
            learn_start,
            [
                *_SQUARES,
                *_SOUND,
                "data_fingerprint",
                "initial_weights",
                "initial_classifier",
                "label_free_segmenter",
                "params:way",
                "params:self_training",
                "params:labels",
                "params:start",
                "params:squares",
                "params:dataset",
                "plan",
                "checkpoints",
            ],
            ["first_weights", "first_history"],
            name="learn_start",
            tags="training",
        ),
        Node(
            learn_in_rounds,
            [
                "first_weights",
                "first_history",
                "train_squares",
                "sound_validation",
                "data_fingerprint",
                "initial_weights",
                "params:way",
                "params:self_training",
                "params:maps",
                "params:simulation",
                "params:training",
                "params:start",
                TILES,
                "plan",
                "checkpoints",
            ],
            ["network_weights", "training_history", "marked"],
            name="learn_in_rounds",
            tags="training",
        ),
        Node(
            draw_pseudo_masks,
            ["marked", "train_squares", "params:training"],
            "pseudo_masks",
            name="draw_pseudo_masks",
        ),
        Node(
            choose_threshold,
            ["network_weights", "sound_validation", "params:threshold", "params:start", TILES, "plan"],
            "threshold",
            name="choose_threshold",
        ),
        Node(
            pack_segmenter,
            ["network_weights", "threshold", TILES, "params:training", "plan"],
            "segmenter",
            name="pack_segmenter",
        ),
        Node(
            count_test,
            ["segmenter", "images", "manifest", "partition", TILES, "plan"],
            ["pixel_counts", "unmarked"],
            name="count_test",
        ),
        Node(measure, ["pixel_counts", "unmarked", "segmenter", REPORT], "metrics", name="measure"),
        Node(
            list_predictions,
            ["pixel_counts", "unmarked", "segmenter", REPORT],
            "predictions_test",
            name="list_predictions",
        ),
        *(node for node in tested() if node.name not in _OWN),
        Node(
            keep_ways,
            [
                "segmenter",
                "first_weights",
                "sound_validation",
                "params:way",
                "params:self_training",
                "params:threshold",
                "params:start",
                TILES,
                "plan",
            ],
            "ways",
            name="keep_ways",
        ),
        Node(
            compare,
            [*_OTHERS, "images", "manifest", "partition", TILES, REPORT, "plan"],
            "comparison",
            name="compare",
        ),
        Node(draw_comparison, "comparison", "comparison_figure", name="draw_comparison"),
        Node(
            summarise,
            ["metrics", "widths", "threshold", "quarantine", "data_fingerprint", "comparison"],
            "summary",
            name="summarise",
        ),
    ]
    return ingestion.create_pipeline("weak_segmentation") + Pipeline(
        nodes, namespace="weak_segmentation", parameters={COMPUTE, READING, *_SHARED}
    )


def create_evaluate_pipeline(**_: Any) -> Pipeline:
    """Take other photographs with masks and the trained segmenters; give metrics of the set ``evaluation``."""
    name, model = "weak_segmentation_evaluate", "weak_segmentation"
    nodes = [
        Node(
            count_new,
            ["segmenter", "images", "manifest", TILES, "plan"],
            ["pixel_counts", "unmarked"],
            name="count_photographs",
        ),
        Node(measure_evaluation, ["pixel_counts", "unmarked", "segmenter", REPORT], "evaluation", name="measure"),
        Node(
            list_predictions,
            ["pixel_counts", "unmarked", "segmenter", REPORT],
            "predictions_evaluation",
            name="list_predictions",
        ),
        *(node for node in evaluated() if node.name not in _OWN),
        Node(
            compare_new,
            [*_OTHERS, "images", "manifest", TILES, REPORT, "plan"],
            "comparison",
            name="compare",
        ),
        Node(draw_comparison, "comparison", "comparison_figure", name="draw_comparison"),
        Node(
            summarise_evaluation,
            ["evaluation", "widths", "quarantine", "comparison"],
            "summary",
            name="summarise",
        ),
    ]
    others = {other: f"{model}.{other}" for other in _OTHERS}
    return ingestion.create_pipeline(name, partitioned=False, image="preparation") + with_segmenter(
        nodes, name, model, others
    )


def create_predict_pipeline(**_: Any) -> Pipeline:
    """Take new photographs and the trained segmenter; give masks, overlays and a table."""
    return segmentation.create_predict_pipeline("weak_segmentation")
