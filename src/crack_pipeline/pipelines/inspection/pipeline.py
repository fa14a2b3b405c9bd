"""Photographs of a structure in; a report, tables, and files for other tools out."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines.ingestion.nodes import list_new_photographs
from crack_pipeline.pipelines.inspection.inspecting import inspect_photographs
from crack_pipeline.pipelines.inspection.isolating import prepare_isolation
from crack_pipeline.pipelines.inspection.preparing import choose_segmenter, read_scale
from crack_pipeline.pipelines.inspection.reporting import draw_widths, summarise, write_report
from crack_pipeline.pipelines.inspection.tabulating import (
    export_coco,
    export_geojson,
    list_failures,
    tabulate_cracks,
    tabulate_photographs,
    total,
)
from crack_pipeline.pipelines.steps import resolve_plan

_SHARED = ("params:compute", "params:dataset", "params:presets", "params:reading")


def create_pipeline(**_: Any) -> Pipeline:
    """Take photographs and a trained segmenter; give tables, files for other tools and a report."""
    nodes = [
        Node(resolve_plan, "params:compute", "plan", name="resolve_plan"),
        Node(
            list_new_photographs,
            ["raw", "params:dataset", "params:presets", "params:reading"],
            ["listed", "rejected"],
            name="list_photographs",
        ),
        Node(
            read_scale,
            ["raw", "listed", "params:scale", "params:foreground"],
            "photographs",
            name="read_scale",
        ),
        Node(
            prepare_isolation,
            ["raw", "photographs", "segment_anything", "embeddings", "params:foreground", "plan"],
            "isolator",
            name="prepare_isolation",
        ),
        Node(
            choose_segmenter,
            ["params:model", "segmentation_segmenter", "weak_segmenter", "label_free_segmenter", "registry"],
            ["segmenter", "trained_by"],
            name="choose_segmenter",
        ),
        Node(
            inspect_photographs,
            [
                "raw",
                "photographs",
                "finished",
                "segmenter",
                "isolator",
                "params:cracks",
                "params:repair",
                "params:report",
                "params:tiles",
                "params:reading",
                "plan",
                "blocks",
            ],
            "inspected",
            name="inspect_photographs",
        ),
        Node(
            tabulate_cracks,
            ["inspected", "photographs", "params:severity"],
            ["cracks", "cracks_csv"],
            name="tabulate_cracks",
        ),
        Node(
            tabulate_photographs,
            ["inspected", "photographs", "cracks", "params:severity"],
            ["tabulated", "predictions_new"],
            name="tabulate_photographs",
        ),
        Node(
            list_failures,
            ["rejected", "inspected", "params:scale"],
            ["failures", "quarantine"],
            name="list_failures",
        ),
        Node(export_coco, ["inspected", "cracks"], "coco", name="export_coco"),
        Node(export_geojson, ["inspected", "cracks"], "geojson", name="export_geojson"),
        Node(total, ["tabulated", "cracks", "failures"], "totals", name="total"),
        Node(draw_widths, ["cracks", "params:severity"], "widths", name="draw_widths"),
        Node(
            write_report,
            [
                "inspected",
                "tabulated",
                "cracks",
                "failures",
                "segmenter",
                "trained_by",
                "params:foreground",
                "params:cracks",
                "params:scale",
                "params:repair",
                "params:severity",
                "params:report",
            ],
            "report",
            name="write_report",
        ),
        Node(
            summarise,
            ["totals", "tabulated", "failures", "params:severity"],
            "summary",
            name="summarise",
        ),
    ]
    return Pipeline(nodes, namespace="inspection", parameters=set(_SHARED))
