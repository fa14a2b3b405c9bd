"""Look for what is new, train on all of it, and decide which version is used: one pipeline for each model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines import anomaly, label_free, promotion, segmentation, weak_segmentation
from crack_pipeline.pipelines.promotion.parameters import MODELS, Model
from crack_pipeline.pipelines.promotion.pipeline import PROMOTION, READ
from crack_pipeline.pipelines.retraining.drifting import judge, measure_photographs
from crack_pipeline.pipelines.retraining.going_on import (
    aim,
    finish_earlier,
    go_on,
    note_unusable,
    permit,
    record_decision,
    remember,
    summarise,
)
from crack_pipeline.pipelines.retraining.looking import look
from crack_pipeline.pipelines.steps import resolve_plan

COMPUTE, RETRAINING = "params:compute", "params:retraining"
_LOADERS = [f"promotion.{what}" for what in READ]
_TRAIN: dict[Model, Callable[[], Pipeline]] = {
    "anomaly": anomaly.create_pipeline,
    "segmentation": segmentation.create_pipeline,
    "label_free": label_free.create_pipeline,
    "weak_segmentation": weak_segmentation.create_pipeline,
}


def create_pipelines() -> dict[str, Pipeline]:
    """Give the retraining of every model by the name of its pipeline; that of the detector is ``retraining``."""
    return {"retraining" if model == "anomaly" else f"retraining_{model}": create_pipeline(model) for model in MODELS}


def create_pipeline(model: Model = "anomaly", **_: Any) -> Pipeline:
    """Take all photographs, old and new; where some are new, train on all, register, and decide what is used.

    Parameters
    ----------
    model
        Registered model, which has the name of the pipeline that trains it.
    """
    own = f"retraining_{model}"
    trained = Pipeline(
        _TRAIN[model](),
        inputs={f"{model}.raw": f"{own}.root", f"{model}.checkpoints": f"{own}.permitted"},
    )
    promoted = promotion.create_pipeline(f"{own}.promotion")
    # Others may promote meanwhile: here the decision is made anew then
    promoted = Pipeline([node for node in promoted.nodes if node.name != "promotion.record"])
    return _looked(model, own) + trained + _compared(model, own) + promoted + _concluded(model, own)


def _looked(model: Model, own: str) -> Pipeline:
    """Find out what is new, and finish what an earlier run has left."""
    asked = [
        "raw",
        "known",
        "manifest_before",
        "partition_before",
        "registry",
        "params:dataset",
        "params:presets",
        "params:reading",
        f"params:{model}.image",
        RETRAINING,
    ]
    before = ["images_before", "manifest_before", "partition_before"]
    left = ["news", "registry", PROMOTION, RETRAINING, "plan", "known_before", *before]
    return _placed(
        own,
        own,
        Node(_of(look, model), asked, ["news", "known_before"], name="look"),
        Node(resolve_plan, COMPUTE, "plan", name="resolve_plan"),
        Node(_of(finish_earlier, model), left, "finished", name="finish_earlier"),
        Node(_of(go_on, model), ["news", "finished", "raw"], "root", name="go_on"),
    )


def _compared(model: Model, own: str) -> Pipeline:
    """Compare the new photographs with the earlier ones, between the ingestion and the training."""
    prepared = [f"{model}.{what}" for what in ("images", "manifest", "partition")]
    permitted = ["news", f"{model}.manifest", "known_noted", "drift", RETRAINING, f"{model}.checkpoints"]
    return _placed(
        own,
        f"{model}.drift",  # within the training, since it lies between its steps
        Node(
            note_unusable,
            ["news", *(f"{model}.{what}" for what in ("manifest", "quarantine")), "known_before", RETRAINING],
            ["known_noted", "unread"],
            name="note_unusable",
        ),
        Node(
            _of(measure_photographs, model),
            ["news", *prepared, "registry", RETRAINING, "plan"],
            "measured",
            name="measure_photographs",
        ),
        Node(
            judge,
            ["measured", RETRAINING],
            ["drift", "drift_table", "drift_figure", "tracked_metrics"],
            name="judge",
        ),
        Node(summarise, ["news", "drift"], "summary", name="summarise"),
        Node(permit, permitted, "permitted", name="permit"),
    )


def _concluded(model: Model, own: str) -> Pipeline:
    """Decide about the version that was registered, and remember what it was made with."""
    registered = f"{model}.registered_model"
    return _placed(
        own,
        "promotion",
        Node(_of(aim, model), [registered, PROMOTION], "promotion", name="aim"),
        Node(
            record_decision,
            ["promotion.proposal", "registry", "promotion", RETRAINING, "plan", *_LOADERS],
            "promotion.recorded",
            name="record_decision",
        ),
        Node(remember, ["news", registered, "unread", "promotion.settled"], "known_after", name="remember"),
    )


def _placed(own: str, namespace: str, *nodes: Node) -> Pipeline:
    """Name the datasets after the retraining, and the nodes after the part of the lineage that they are in."""

    def named(dataset: str) -> str:
        return dataset if ":" in dataset or "." in dataset else f"{own}.{dataset}"

    return Pipeline(
        [
            Node(
                node.func,
                [named(dataset) for dataset in node.inputs],
                [named(dataset) for dataset in node.outputs] if len(node.outputs) > 1 else named(node.outputs[0]),
                name=node.name,
                namespace=namespace,
            )
            for node in nodes
        ]
    )


def _of(function: Callable[..., Any], model: Model) -> Callable[..., Any]:
    """Bind the model to a node function, which keeps its name and its annotations."""
    bound = partial(function, model=model)
    return update_wrapper(bound, function)
