"""Compare trainings with more and more wrong labels."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines import ingestion
from crack_pipeline.pipelines.label_noise.nodes import (
    create_networks,
    draw_label_noise,
    label_squares,
    measure_segmenters,
    summarise,
    train_segmenters,
)
from crack_pipeline.pipelines.steps import resolve_plan
from crack_pipeline.pipelines.weak_segmentation.parameters import Settings

NAME, MODEL = "label_noise", "weak_segmentation"
_SETTINGS = tuple(Settings.model_fields)
_SHARED = ("params:compute", "params:dataset", "params:presets")


def create_pipeline(**_: Any) -> Pipeline:
    """Take photographs with labels and masks, and the settings of `MODEL`; give the trainings, and their curve."""
    prepared = ["images", "manifest", "partition"]
    nodes = [
        Node(resolve_plan, "params:compute", "plan", name="resolve_plan"),
        Node(Settings, {name: f"params:{name}" for name in _SETTINGS}, "settings", name="collect_settings"),
        Node(create_networks, ["settings", "pretrained", "params:noise"], "networks", name="create_networks"),
        Node(
            label_squares,
            [*prepared, "networks", "settings", "params:dataset", "params:presets", "params:noise"],
            "labelled",
            name="label_squares",
        ),
        Node(
            train_segmenters,
            ["labelled", "networks", "label_free_segmenter", "settings", "params:dataset", "plan", "checkpoints"],
            "segmenters",
            name="train_segmenters",
        ),
        Node(
            measure_segmenters,
            ["segmenters", "labelled", *prepared, "settings", "plan"],
            "trainings",
            name="measure_segmenters",
        ),
        Node(draw_label_noise, "trainings", "curve", name="draw_label_noise"),
        Node(summarise, "trainings", "summary", name="summarise"),
    ]
    ingested = Pipeline(
        ingestion.create_pipeline(NAME),
        parameters={f"params:{NAME}.{name}": f"params:{MODEL}.{name}" for name in ("image", "partition")},
    )
    return ingested + Pipeline(
        nodes,
        namespace=NAME,
        inputs={"label_free_segmenter": f"{MODEL}.label_free_segmenter"},
        parameters={
            **{name: name for name in _SHARED},
            **{f"params:{name}": f"params:{MODEL}.{name}" for name in _SETTINGS},
            "params:noise": f"params:{NAME}",
        },
    )
