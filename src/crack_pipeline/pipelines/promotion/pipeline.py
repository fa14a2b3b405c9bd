"""Compare the newest version of a model with the one in use, and let the better one be used; go back again."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines.promotion.contending import answer, check_unseen, load_contenders, read_external
from crack_pipeline.pipelines.promotion.deciding import (
    choose_earlier,
    decide,
    insist,
    record,
    record_rollback,
    report,
    summarise_rollback,
)
from crack_pipeline.pipelines.promotion.parameters import MODELS
from crack_pipeline.pipelines.steps import resolve_plan

PROMOTION = "params:promotion"
READ = [f"{model}_{what}" for model in MODELS for what in ("images", "manifest", "partition")]


def create_pipeline(promotion: str = PROMOTION, **_: Any) -> Pipeline:
    """Take a registered model and photographs that it has not learned from; give a decision, and carry it out.

    Parameters
    ----------
    promotion
        Dataset that says which model is looked at, and what is asked of it.
    """
    nodes = [
        Node(resolve_plan, "params:compute", "plan", name="resolve_plan"),
        Node(load_contenders, ["registry", promotion], "contenders", name="load_contenders"),
        Node(read_external, [promotion, *READ], "external", name="read_external"),
        Node(check_unseen, ["contenders", "external"], "photographs", name="check_unseen"),
        Node(
            answer,
            ["contenders", "external", "photographs", "plan"],
            ["challenger_answers", "champion_answers"],
            name="answer",
        ),
        Node(
            decide,
            ["contenders", "external", "photographs", "challenger_answers", "champion_answers", promotion],
            "proposal",
            name="decide",
        ),
        Node(record, "proposal", "recorded", name="record"),
        Node(report, "recorded", ["decision", "comparison", "figure", "summary", "tracked_metrics"], name="report"),
        Node(insist, ["decision", "summary"], "settled", name="insist"),
    ]
    inputs = {promotion} - {PROMOTION}
    return Pipeline(nodes, namespace="promotion", inputs=inputs, parameters={promotion, "params:compute"} - inputs)


def create_rollback_pipeline(**_: Any) -> Pipeline:
    """Take a registered model; let the version be used again that was in use before."""
    nodes = [
        Node(choose_earlier, ["registry", PROMOTION], "rollback", name="choose_earlier"),
        Node(summarise_rollback, "rollback", "summary", name="summarise"),
        Node(record_rollback, ["rollback", "summary"], "recorded", name="record"),
    ]
    return Pipeline(nodes, namespace="rollback", parameters={PROMOTION})
