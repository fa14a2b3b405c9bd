"""The work of scoring images with a detector, block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch

from crack_pipeline.engines import engine_of
from crack_pipeline.engines.blocks import Block, Blocks, Store, tables
from crack_pipeline.engines.compute import Plan
from crack_pipeline.engines.photographs import Outcome, Progress
from crack_pipeline.evaluation.scores import BASELINE, Score, contrast
from crack_pipeline.imaging.stack import ImageStack
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.anomaly.training import build_network
from crack_pipeline.training.answers import answers

_IMAGES_IN_A_BLOCK = 4096


@dataclass(frozen=True)
class ImageScoring:
    """A job: from a block of images, (image_id, row of the stack) each, to a table of their scores.

    Attributes
    ----------
    weights
        Of a detector.
    images
        The stack, which every worker opens where it lies.
    scores
        By name; the baseline is added.
    plan
        Compute plan.
    """

    weights: Weights
    images: ImageStack
    scores: Mapping[str, Score]
    plan: Plan

    def settings(self) -> dict[str, Any]:
        """Give all that decides the score of an image."""
        return {
            "weights": self.weights.fingerprint(),
            "network": self.weights.facts["network"],
            "image": self.weights.facts["image"],
            "scores": {name: score.model_dump(mode="json") for name, score in self.scores.items()},
            "precision": self.plan.precision,
            "format": 1,
        }

    def begin(self) -> Callable[[Block], Any]:
        """Build the network."""
        network = build_network(self.weights)

        def score(block: Block) -> Any:
            ids, rows = zip(*block.items, strict=True)
            columns: dict[str, list[torch.Tensor]] = {name: [] for name in (*self.scores, BASELINE)}
            for seen, answer in answers(network, self.images, np.array(rows, np.int64), self.plan):
                with torch.inference_mode():
                    for name, found in self.scores.items():
                        columns[name].append(found(seen, answer).cpu())
                    columns[BASELINE].append(contrast(seen).cpu())
            values = {name: torch.cat(parts).double().numpy() for name, parts in columns.items()}
            return pa.table({"image_id": list(ids), **values})

        return score


def score_images(job: ImageScoring, table: pd.DataFrame, store: Store | None = None) -> pd.DataFrame:
    """Score images on the engine of the plan.

    Parameters
    ----------
    job
        How.
    table
        ``image_id`` and ``row`` of the stack; no image twice.
    store
        Where scores are kept; None: nowhere.

    Returns
    -------
    pandas.DataFrame
        A row per image in their order: a column per score, float64.

    Raises
    ------
    RuntimeError
        If an image is missing or comes twice, which an engine must not do.
    """
    items = list(zip(table["image_id"].tolist(), table["row"].tolist(), strict=True))
    settings = job.settings() if store is not None else {}
    blocks = Blocks(items, job.plan.block or _IMAGES_IN_A_BLOCK, settings, identify=lambda item: item[0])
    progress = Progress(len(items), "scored", things="images")
    found = []
    for part in tables(engine_of(job.plan), job, blocks, store):
        found.append(part.to_pandas())
        progress.step([Outcome(image_id, True) for image_id in found[-1]["image_id"]])
    if not found:
        return pd.DataFrame({name: np.zeros(0) for name in (*job.scores, BASELINE)})
    scores = pd.concat(found, ignore_index=True)
    if scores["image_id"].tolist() != table["image_id"].tolist():
        raise RuntimeError("the scores are not of the images that were asked for, each once: run the pipeline again")
    return scores.drop(columns="image_id")
