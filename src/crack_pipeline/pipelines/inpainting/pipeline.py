"""Fill the cracks of photographs, and compare the ways to do it."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines.inpainting.judging import (
    compare_fills,
    find_sound_concrete,
    look_again,
    measure,
    track_metrics,
)
from crack_pipeline.pipelines.inpainting.marking import find_models, list_photographs
from crack_pipeline.pipelines.inpainting.pictures import draw_fills, summarise
from crack_pipeline.pipelines.inpainting.repairing import join_quarantine, list_repaired, repair_photographs
from crack_pipeline.pipelines.steps import resolve_plan

_COMPUTE = "params:compute"
_LAYOUT = ["params:dataset", "params:presets", "params:reading"]
_FOUND = ["raw", "photographs", "models", *_LAYOUT]
_FILL, _TILES, _JUDGING = "params:fill", "params:tiles", "params:judging"


def create_pipeline(**_: Any) -> Pipeline:
    """Take photographs, and masks or a segmenter; give them repaired, a table, and a comparison of the methods."""
    nodes = [
        Node(resolve_plan, _COMPUTE, "plan", name="resolve_plan"),
        Node(
            list_photographs,
            ["raw", *_LAYOUT, "params:cracks"],
            ["photographs", "rejected"],
            name="list_photographs",
        ),
        Node(
            find_models,
            [
                "photographs",
                "supervised_segmenter",
                "weak_segmenter",
                "label_free_segmenter",
                "anomaly_detector",
                "registry",
                "params:cracks",
            ],
            "models",
            name="find_models",
        ),
        Node(
            repair_photographs,
            [*_FOUND, _FILL, _TILES, "params:output", "plan"],
            "repaired",
            name="repair_photographs",
        ),
        Node(join_quarantine, ["rejected", "repaired"], "quarantine", name="join_quarantine"),
        Node(list_repaired, "repaired", "predictions_repaired", name="list_repaired"),
        Node(
            find_sound_concrete,
            [*_FOUND, _TILES, _JUDGING, "plan"],
            "sound_squares",
            name="find_sound_concrete",
        ),
        Node(
            compare_fills, ["sound_squares", "models", _FILL, _TILES, _JUDGING, "plan"], "fills", name="compare_fills"
        ),
        Node(look_again, [*_FOUND, "repaired", _FILL, _TILES, _JUDGING, "plan"], "alarms", name="look_again"),
        Node(measure, ["fills", "alarms", "predictions_repaired", _JUDGING], "metrics", name="measure"),
        Node(track_metrics, "metrics", "tracked_metrics", name="track_metrics"),
        Node(draw_fills, ["sound_squares", _FILL, _JUDGING], "filled_cracks", name="draw_fills"),
        Node(summarise, ["metrics", "predictions_repaired", "quarantine", _FILL], "summary", name="summarise"),
    ]
    return Pipeline(nodes, namespace="inpainting", parameters={_COMPUTE, *_LAYOUT})
