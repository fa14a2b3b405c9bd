"""Train the segmenter; use it on new photographs of any size; measure it on other ones that have masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines import ingestion
from crack_pipeline.pipelines.ingestion.nodes import list_new_photographs
from crack_pipeline.pipelines.segmentation.evaluating import (
    choose_threshold,
    count_new,
    count_test,
    count_validation,
    list_measured,
    measure,
    measure_evaluation,
    tabulate_widths,
    track_metrics,
)
from crack_pipeline.pipelines.segmentation.pictures import (
    draw_curves,
    draw_examples,
    draw_training_curves,
    draw_widths,
    summarise,
    summarise_evaluation,
)
from crack_pipeline.pipelines.segmentation.predicting import (
    join_quarantine,
    list_predictions,
    segment_photographs,
    summarise_predictions,
)
from crack_pipeline.pipelines.segmentation.registering import describe_model
from crack_pipeline.pipelines.segmentation.training import (
    create_network,
    fingerprint_tested_data,
    pack_segmenter,
    prepare_admixture,
    read_preparation,
    train_segmenter,
)
from crack_pipeline.pipelines.steps import resolve_plan

COMPUTE = "params:compute"
READING = "params:reading"
REPORT = "params:report"
TILES = "params:tiles"
_OF_MODEL = (REPORT, TILES, "params:output")
_SHARED = (COMPUTE, "params:dataset", "params:presets", READING)


def create_pipeline(**_: Any) -> Pipeline:
    """Take photographs with masks; give segmenter, metrics, predictions and figures."""
    prepared = ["images", "manifest", "partition"]
    nodes = [
        Node(resolve_plan, COMPUTE, "plan", name="resolve_plan"),
        Node(
            create_network,
            [
                "params:image",
                "params:network",
                "params:encoder_weights",
                "params:training",
                "pretrained",
                TILES,
            ],
            "initial_weights",
            name="create_network",
        ),
        Node(fingerprint_tested_data, [*prepared, "params:image"], "data_fingerprint", name="fingerprint_data"),
        Node(
            prepare_admixture,
            [*prepared, "initial_weights", "params:synthetic", "params:training", "learned_generator"],
            "admixture",
            name="prepare_admixture",
        ),
        Node(
            train_segmenter,
            [*prepared, "data_fingerprint", "initial_weights", "params:training", "plan", "checkpoints", "admixture"],
            ["network_weights", "training_history"],
            name="train_segmenter",
            tags="training",
        ),
        Node(
            count_validation,
            ["network_weights", *prepared, TILES, "plan"],
            "validation_counts",
            name="count_validation",
        ),
        Node(choose_threshold, "validation_counts", "threshold", name="choose_threshold"),
        Node(
            pack_segmenter,
            ["network_weights", "threshold", TILES, "params:training", "plan"],
            "segmenter",
            name="pack_segmenter",
        ),
        *tested(),
    ]
    return ingestion.create_pipeline("segmentation") + Pipeline(
        nodes, namespace="segmentation", parameters={COMPUTE, READING}
    )


def tested() -> list[Node]:
    """Measure a segmenter on the photographs of the role ``test``, register it, and show what it does."""
    return [
        Node(
            count_test,
            ["segmenter", "images", "manifest", "partition", TILES, "plan"],
            "pixel_counts",
            name="count_test",
        ),
        Node(measure, ["pixel_counts", "segmenter", REPORT], "metrics", name="measure"),
        Node(track_metrics, "metrics", "tracked_metrics", name="track_metrics"),
        Node(
            describe_model,
            ["segmenter", "metrics", "data_fingerprint", REPORT, READING, "plan"],
            "registered_model",
            name="describe_model",
        ),
        Node(list_measured, ["pixel_counts", "segmenter", REPORT], "predictions_test", name="list_predictions"),
        Node(tabulate_widths, ["pixel_counts", REPORT], "widths", name="tabulate_widths"),
        Node(draw_training_curves, "training_history", "training_curves", name="draw_training_curves"),
        *_figures(),
        Node(
            summarise,
            ["metrics", "widths", "threshold", "quarantine", "data_fingerprint"],
            "summary",
            name="summarise",
        ),
    ]


def evaluated() -> list[Node]:
    """Measure a trained segmenter on photographs of another root, and show what it does."""
    return [
        Node(resolve_plan, COMPUTE, "plan", name="resolve_plan"),
        Node(read_preparation, "segmenter", "preparation", name="read_preparation"),
        Node(count_new, ["segmenter", "images", "manifest", TILES, "plan"], "pixel_counts", name="count_photographs"),
        Node(measure_evaluation, ["pixel_counts", "segmenter", REPORT], "evaluation", name="measure"),
        Node(track_metrics, "evaluation", "tracked_metrics", name="track_metrics"),
        Node(list_measured, ["pixel_counts", "segmenter", REPORT], "predictions_evaluation", name="list_predictions"),
        Node(tabulate_widths, ["pixel_counts", REPORT], "widths", name="tabulate_widths"),
        *_figures(),
        Node(summarise_evaluation, ["evaluation", "widths", "quarantine"], "summary", name="summarise"),
    ]


def create_evaluate_pipeline(model: str = "segmentation", **_: Any) -> Pipeline:
    """Take other photographs with masks and a trained segmenter; give metrics of the set ``evaluation``.

    Parameters
    ----------
    model
        The pipeline that trained the segmenter.
    """
    name = f"{model}_evaluate"
    return ingestion.create_pipeline(name, partitioned=False, image="preparation") + with_segmenter(
        evaluated(), name, model
    )


def create_predict_pipeline(model: str = "segmentation", **_: Any) -> Pipeline:
    """Take new photographs and a trained segmenter; give masks, overlays and a table.

    Parameters
    ----------
    model
        The pipeline that trained the segmenter.
    """
    name = f"{model}_predict"
    nodes = [
        Node(resolve_plan, COMPUTE, "plan", name="resolve_plan"),
        Node(
            list_new_photographs,
            ["raw", "params:dataset", "params:presets", READING],
            ["photographs", "rejected"],
            name="list_photographs",
        ),
        Node(
            segment_photographs,
            ["raw", "photographs", "segmenter", READING, TILES, "params:output", "plan", "blocks", "unfinished"],
            "segmentation",
            name="segment_photographs",
        ),
        Node(join_quarantine, ["rejected", "segmentation"], "quarantine", name="join_quarantine"),
        Node(list_predictions, ["segmentation", REPORT], "predictions_new", name="list_predictions"),
        Node(
            summarise_predictions,
            ["predictions_new", "quarantine", "segmenter"],
            "summary",
            name="summarise",
        ),
    ]
    return with_segmenter(nodes, name, model)


def _figures() -> list[Node]:
    return [
        Node(
            draw_curves,
            ["pixel_counts", "segmenter"],
            ["precision_recall", "threshold_curve"],
            name="draw_curves",
        ),
        Node(draw_widths, "widths", "crack_widths", name="draw_widths"),
        Node(
            draw_examples,
            ["segmenter", "images", "manifest", "pixel_counts", TILES, "plan", REPORT],
            "examples",
            name="draw_examples",
        ),
    ]


def with_segmenter(nodes: list[Node], name: str, model: str, inputs: Mapping[str, str] | None = None) -> Pipeline:
    """Place nodes under a name of their own, with the segmenter in use and the settings of the pipeline that trains it.

    Parameters
    ----------
    nodes
        What is done.
    name
        Theirs.
    model
        The pipeline that trained the segmenter.
    inputs
        Further datasets of other pipelines, by their names in the nodes.
    """
    used = set().union(*(node.inputs for node in nodes))
    parameters = {shared: shared for shared in _SHARED if shared in used}
    parameters |= {ours: ours.replace(":", f":{model}.") for ours in _OF_MODEL if ours in used}
    return Pipeline(
        nodes,
        namespace=name,
        inputs={"segmenter": f"{model}.segmenter_in_use", **(inputs or {})},
        parameters=parameters,
    )
