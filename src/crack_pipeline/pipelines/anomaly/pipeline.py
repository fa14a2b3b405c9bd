"""Train the anomaly detector; use it on new photographs; measure it on other labelled ones."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines import ingestion
from crack_pipeline.pipelines.anomaly.nodes import (
    choose_score,
    choose_thresholds,
    fingerprint_data,
    list_new_predictions,
    list_predictions,
    measure,
    measure_evaluation,
    pack_detector,
    read_preparation,
    score_new,
    score_test,
    score_validation,
    track_metrics,
)
from crack_pipeline.pipelines.anomaly.pictures import (
    draw_error_maps,
    draw_evaluation,
    draw_examples,
    draw_histogram,
    draw_roc,
    draw_training_curves,
    summarise,
    summarise_evaluation,
    summarise_predictions,
)
from crack_pipeline.pipelines.anomaly.registering import describe_model
from crack_pipeline.pipelines.anomaly.training import check_network, train_detector
from crack_pipeline.pipelines.steps import resolve_plan

COMPUTE = "params:compute"
READING = "params:reading"
REPORT = "params:report"


def create_pipeline(**_: Any) -> Pipeline:
    """Take photographs with labels; give detector, metrics, predictions and figures."""
    prepared = ["images", "manifest", "partition"]
    detection = [
        Node(resolve_plan, COMPUTE, "plan", name="resolve_plan"),
        Node(
            check_network,
            ["params:image", "params:detector", "params:vae", "params:simulated", "params:scoring"],
            "network",
            name="check_network",
        ),
        Node(
            fingerprint_data,
            ["manifest", "partition", "params:image"],
            "data_fingerprint",
            name="fingerprint_data",
        ),
        Node(
            train_detector,
            [*prepared, "data_fingerprint", "params:image", "network", "plan", "checkpoints"],
            ["network_weights", "training_history"],
            name="train_detector",
            tags="training",
        ),
        Node(
            score_validation,
            ["network_weights", *prepared, "params:scoring", "plan"],
            "validation_scores",
            name="score_validation",
        ),
        Node(
            choose_score,
            ["validation_scores", "params:scoring", REPORT],
            "score_choice",
            name="choose_score",
        ),
        Node(
            choose_thresholds,
            ["validation_scores", "score_choice", "params:threshold"],
            "thresholds",
            name="choose_thresholds",
        ),
        Node(
            pack_detector,
            ["network_weights", "score_choice", "thresholds", "params:threshold", "plan"],
            "detector",
            name="pack_detector",
        ),
        Node(
            score_test,
            ["network_weights", *prepared, "score_choice", "plan"],
            "test_scores",
            name="score_test",
        ),
        Node(measure, ["test_scores", "thresholds", "score_choice", REPORT], "metrics", name="measure"),
        Node(track_metrics, "metrics", "tracked_metrics", name="track_metrics"),
        Node(
            describe_model,
            ["detector", "metrics", "data_fingerprint", READING, "plan"],
            "registered_model",
            name="describe_model",
        ),
        Node(
            list_predictions,
            ["test_scores", "thresholds", "score_choice"],
            ["predictions_internal", "predictions_external"],
            name="list_predictions",
        ),
        Node(draw_training_curves, "training_history", "training_curves", name="draw_training_curves"),
        Node(draw_roc, ["test_scores", "thresholds", "score_choice"], "roc", name="draw_roc"),
        Node(
            draw_histogram,
            ["test_scores", "thresholds", "score_choice"],
            "score_histogram",
            name="draw_histogram",
        ),
        Node(
            draw_examples,
            ["detector", "images", "manifest", "test_scores", "plan", REPORT],
            ["reconstructions", "confident", "false_alarms", "misses"],
            name="draw_examples",
        ),
        Node(
            summarise,
            ["metrics", "quarantine", "score_choice", "data_fingerprint"],
            "summary",
            name="summarise",
        ),
    ]
    return ingestion.create_pipeline("anomaly") + Pipeline(
        detection, namespace="anomaly", parameters={COMPUTE, READING}
    )


def create_evaluate_pipeline(**_: Any) -> Pipeline:
    """Take another labelled folder and the trained detector; give metrics of the set ``evaluation``."""
    name = "anomaly_evaluate"
    evaluation = [
        Node(
            measure_evaluation,
            ["new_scores", "detector", REPORT],
            "evaluation",
            name="measure",
        ),
        Node(track_metrics, "evaluation", "tracked_metrics", name="track_metrics"),
        Node(
            list_new_predictions,
            ["new_scores", "detector"],
            "predictions_evaluation",
            name="list_predictions",
        ),
        Node(draw_evaluation, ["new_scores", "detector"], ["roc", "score_histogram"], name="draw_evaluation"),
        Node(summarise_evaluation, ["evaluation", "quarantine"], "summary", name="summarise"),
    ]
    return _read_and_score(name, labelled=True) + _with_detector(evaluation, name)


def create_predict_pipeline(**_: Any) -> Pipeline:
    """Take new photographs and the trained detector; give a table and error maps."""
    name = "anomaly_predict"
    prediction = [
        Node(list_new_predictions, ["new_scores", "detector"], "predictions_new", name="list_predictions"),
        Node(
            draw_error_maps,
            ["detector", "images", "manifest", "new_scores", "plan", REPORT],
            "error_maps",
            name="draw_error_maps",
        ),
        Node(summarise_predictions, ["predictions_new", "quarantine", REPORT], "summary", name="summarise"),
    ]
    return _read_and_score(name, labelled=False) + _with_detector(prediction, name)


def _read_and_score(name: str, *, labelled: bool) -> Pipeline:
    """Prepare photographs as the detector was trained on them, and score them."""
    scoring = [
        Node(resolve_plan, COMPUTE, "plan", name="resolve_plan"),
        Node(read_preparation, "detector", "preparation", name="read_preparation"),
        Node(score_new, ["detector", "images", "manifest", "plan", "blocks"], "new_scores", name="score_new"),
    ]
    prepared = ingestion.create_pipeline(
        name, labelled=labelled, partitioned=False, grouped=labelled, image="preparation"
    )
    return prepared + _with_detector(scoring, name)


def _with_detector(nodes: list[Node], name: str) -> Pipeline:
    """Place nodes under a name of their own, with the detector in use and the settings of ``anomaly``."""
    used = set().union(*(node.inputs for node in nodes))
    return Pipeline(
        nodes,
        namespace=name,
        inputs={"detector": "anomaly.detector_in_use"} if "detector" in used else None,
        parameters={
            ours: theirs for ours, theirs in {COMPUTE: COMPUTE, REPORT: "params:anomaly.report"}.items() if ours in used
        },
    )
