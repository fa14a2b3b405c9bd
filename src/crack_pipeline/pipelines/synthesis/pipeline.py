"""Train a generator of pictures of cracks, draw a data set from it, and judge it."""

from __future__ import annotations

from typing import Any

from kedro.pipeline import Node, Pipeline

from crack_pipeline.pipelines import ingestion
from crack_pipeline.pipelines.steps import resolve_plan
from crack_pipeline.pipelines.synthesis.drawing import draw_data_set, draw_from
from crack_pipeline.pipelines.synthesis.judging import judge, summarise, track_judgement
from crack_pipeline.pipelines.synthesis.nodes import (
    choose_pictures,
    fingerprint_data,
    fit_latent_prior,
    train_generator,
)
from crack_pipeline.pipelines.synthesis.pictures import (
    draw_nearest,
    draw_reconstructions,
    draw_samples,
    draw_training_curves,
    draw_walks,
)

COMPUTE = "params:compute"


def create_pipeline(**_: Any) -> Pipeline:
    """Take photographs of cracks; give a generator, new pictures, figures and a judgement."""
    prepared = ["images", "manifest", "partition"]
    nodes = [
        Node(resolve_plan, COMPUTE, "plan", name="resolve_plan"),
        Node(fingerprint_data, [*prepared, "params:image"], "data_fingerprint", name="fingerprint_data"),
        Node(
            choose_pictures,
            [*prepared, "params:image", "params:generator"],
            ["train_pictures", "validation_pictures", "test_pictures"],
            name="choose_pictures",
        ),
        Node(
            train_generator,
            [
                "train_pictures",
                "validation_pictures",
                "manifest",
                "data_fingerprint",
                "params:image",
                "params:generator",
                "plan",
                "checkpoints",
            ],
            ["network_weights", "training_history"],
            name="train_generator",
            tags="training",
        ),
        Node(
            fit_latent_prior,
            ["network_weights", "train_pictures", "params:sampling", "plan"],
            "generator",
            name="fit_latent_prior",
        ),
        Node(draw_from, "generator", "drawing", name="draw_from"),
        Node(draw_training_curves, "training_history", "training_curves", name="draw_training_curves"),
        Node(
            draw_reconstructions,
            ["network_weights", "validation_pictures", "plan"],
            "reconstructions",
            name="draw_reconstructions",
        ),
        Node(draw_walks, "generator", "walks", name="draw_walks"),
        *judged("params:sampling"),
    ]
    return ingestion.create_pipeline("synthesis") + Pipeline(nodes, namespace="synthesis", parameters={COMPUTE})


def judged(sampling: str) -> list[Node]:
    """Draw a data set from what makes pictures, show some, and judge them: the same for every generator.

    Parameters
    ----------
    sampling
        Name of the parameters that say how many are drawn.
    """
    return [
        Node(draw_data_set, ["drawing", sampling], "drawn", name="draw_data_set"),
        Node(
            judge,
            ["drawing", "train_pictures", "test_pictures", "manifest", "params:judging", "plan"],
            ["judgement", "drawn_and_nearest"],
            name="judge",
        ),
        Node(track_judgement, "judgement", "tracked_metrics", name="track_judgement"),
        Node(draw_samples, "drawing", "samples", name="draw_samples"),
        Node(
            draw_nearest,
            ["drawing", "drawn_and_nearest", "train_pictures"],
            "nearest",
            name="draw_nearest",
        ),
        Node(summarise, ["judgement", "data_fingerprint", "quarantine"], "summary", name="summarise"),
    ]
