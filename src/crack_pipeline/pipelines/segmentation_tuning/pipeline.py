"""Search for the parameters of the segmenter."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines import ingestion
from crack_pipeline.pipelines.segmentation.training import fingerprint_data
from crack_pipeline.pipelines.segmentation_tuning.nodes import (
    check_space,
    choose_best,
    leave_out_test,
    measure_importance,
    plan_trials,
    search_parameters,
    tabulate_trials,
    track_metrics,
    write_parameters,
)
from crack_pipeline.pipelines.segmentation_tuning.pictures import (
    draw_history,
    draw_importance,
    draw_slices,
    summarise,
)

NAME = "segmentation_tuning"
COMPUTE = "params:compute"
_OF_SEGMENTATION = ("image", "partition", "network", "encoder_weights", "training")


def create_pipeline(**_: Any) -> Pipeline:
    """Take photographs with masks; give the trials, the best parameters and figures. Settings are segmentation's."""
    used = ["used_manifest", "used_partition"]
    nodes = [
        Node(
            check_space,
            ["params:space", "params:search", "params:network", "params:training"],
            "checked_space",
            name="check_space",
        ),
        Node(plan_trials, COMPUTE, "plan", name="plan_trials"),
        Node(leave_out_test, ["manifest", "partition"], used, name="leave_out_test"),
        Node(fingerprint_data, ["images", *used, "params:image"], "data_fingerprint", name="fingerprint_data"),
        Node(
            search_parameters,
            [
                "studies",
                "images",
                *used,
                "data_fingerprint",
                "params:image",
                "params:encoder_weights",
                "checked_space",
                "params:search",
                "params:pruning",
                "plan",
                "checkpoints",
                "pretrained",
            ],
            "results",
            name="search_parameters",
        ),
        Node(tabulate_trials, "results", "trials", name="tabulate_trials"),
        Node(measure_importance, ["results", "checked_space", "params:search"], "shares", name="measure_importance"),
        Node(
            choose_best,
            ["results", "shares", "checked_space", "params:network", "params:training", "params:encoder_weights"],
            "best",
            name="choose_best",
        ),
        Node(write_parameters, "best", "best_parameters", name="write_parameters"),
        Node(track_metrics, "best", "tracked_metrics", name="track_metrics"),
        Node(draw_importance, ["shares", "results"], "importance", name="draw_importance"),
        Node(draw_history, "results", "history", name="draw_history"),
        Node(draw_slices, ["results", "checked_space"], "slices", name="draw_slices"),
        Node(summarise, ["results", "best", "params:search"], "summary", name="summarise"),
    ]
    tuning = Pipeline(
        nodes,
        namespace=NAME,
        inputs={"pretrained": "segmentation.pretrained"},
        parameters={COMPUTE: COMPUTE},
    )
    whole = ingestion.create_pipeline(NAME) + tuning
    shared = {f"params:{NAME}.{name}": f"params:segmentation.{name}" for name in _OF_SEGMENTATION}
    return Pipeline(whole, parameters=shared)
