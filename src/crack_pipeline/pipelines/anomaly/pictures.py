"""Nodes that show what the anomaly detector does, and the lines that end a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation import detection_figures, figures
from crack_pipeline.evaluation.metrics import metrics_table
from crack_pipeline.evaluation.scores import BASELINE
from crack_pipeline.imaging.stack import ImageStack
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.anomaly.nodes import SETS, reported, score_named
from crack_pipeline.pipelines.anomaly.parameters import Report
from crack_pipeline.pipelines.anomaly.training import build_network, detector_of
from crack_pipeline.training.answers import answers

EXPECTED = ("photograph", "expected", "error map")
LIKELY = ("photograph", "probability of a crack")


def draw_training_curves(training_history: pd.DataFrame) -> Figure:
    """Draw the losses of every epoch, and what they are made of."""
    return figures.training_curves(training_history, units={"kl": "nats", "reconstruction": "mean squared error"})


def draw_roc(test_scores: pd.DataFrame, thresholds: Mapping[str, float], score_choice: Mapping[str, Any]) -> Figure:
    """Draw ROC curves of the external set (the internal one where there is none): score, published, baseline."""
    external = test_scores[test_scores["role"] == SETS["external"]]
    table = external if len(external) else test_scores
    return _roc(table, str(score_choice["name"]), thresholds)


def draw_histogram(
    test_scores: pd.DataFrame, thresholds: Mapping[str, float], score_choice: Mapping[str, Any]
) -> Figure:
    """Draw how the scores of each set lie about the threshold."""
    name = str(score_choice["name"])
    tables = {s: _renamed(test_scores[test_scores["role"] == role], name) for s, role in SETS.items()}
    return detection_figures.score_histogram(
        {s: table for s, table in tables.items() if len(table)}, thresholds[name], score_name=name
    )


def draw_examples(
    detector: Weights,
    images: ImageStack,
    manifest: pd.DataFrame,
    test_scores: pd.DataFrame,
    plan: Plan,
    report: Report,
) -> tuple[Figure, Figure, Figure, Figure]:
    """Show photographs beside what the network answered and where the score looks.

    Returns
    -------
    tuple of matplotlib.figure.Figure
        Images drawn at random; the most confident right answers; the worst false alarms; the worst misses.
    """
    name, threshold = detector.facts["name"], detector.facts["thresholds"][detector.facts["name"]]
    table = test_scores.merge(manifest[["image_id", "row"]], on="image_id").sort_values(name)
    crack, cracked = table["label"] == "crack", table[name] > threshold
    n, half = report.examples, (report.examples + 1) // 2
    chosen = {
        "Photographs and what the network makes of them": table.sample(min(n, len(table)), random_state=report.seed),
        "Right and sure": pd.concat([table[~crack & ~cracked].head(half), table[crack & cracked].tail(half)]),
        f"False alarms: {(~crack & cracked).sum():,} of {(~crack).sum():,} sound photographs": table[
            ~crack & cracked
        ].tail(n)[::-1],
        f"Misses: {(crack & ~cracked).sum():,} of {crack.sum():,} cracked photographs": table[crack & ~cracked].head(n),
    }
    drawn = [_grid(title, part, detector, images, plan) for title, part in chosen.items()]
    return drawn[0], drawn[1], drawn[2], drawn[3]


def draw_evaluation(new_scores: pd.DataFrame, detector: Weights) -> tuple[Figure, Figure]:
    """Draw ROC curves and score histogram of an evaluation."""
    name = detector.facts["name"]
    histogram = detection_figures.score_histogram(
        {"evaluation": _renamed(new_scores, name)}, detector.facts["thresholds"][name], score_name=name
    )
    return _roc(new_scores, name, detector.facts["thresholds"]), histogram


def draw_error_maps(
    detector: Weights,
    images: ImageStack,
    manifest: pd.DataFrame,
    new_scores: pd.DataFrame,
    plan: Plan,
    report: Report,
) -> Iterator[dict[str, Figure]]:
    """Show, for the photographs with the highest scores, where the score looks; one figure a photograph.

    Yields
    ------
    dict
        ``{"<rank>_<image_id>": figure}``.
    """
    yield {}  # so that the folder is emptied of earlier maps even where none is asked for
    name = detector.facts["name"]
    table = new_scores.merge(manifest[["image_id", "row"]], on="image_id").nlargest(report.error_maps, name)
    for rank in range(0, len(table), plan.batch_size):
        part = table.iloc[rank : rank + plan.batch_size]
        for offset, sample in enumerate(_samples(part, detector, images, plan), start=rank + 1):
            figure = figures.image_grid([sample], **_columns(detector))
            yield {f"{offset:05d}_{part['image_id'].iloc[offset - rank - 1]}": figure}


def summarise(
    metrics: Mapping[str, Any],
    quarantine: pd.DataFrame,
    score_choice: Mapping[str, Any],
    data: Mapping[str, Any],
) -> str:
    """Say in a few lines what was found and how good it is."""
    roles = ", ".join(f"{n:,} {role}" for role, n in data["roles"].items())
    lines = [
        f"{data['images']:,} images ({roles}); {len(quarantine):,} files in quarantine",
        f"cracked is what scores above {metrics['threshold']:.4g} in {metrics['score']} ({score_choice['reason']})",
        *_answers(metrics),
        "",
        _table(metrics),
    ]
    return "\n".join(lines)


def summarise_evaluation(evaluation: Mapping[str, Any], quarantine: pd.DataFrame) -> str:
    """Say in a few lines how good a trained detector is on other photographs."""
    quarantined = f"{len(quarantine):,} files in quarantine"
    return "\n".join([quarantined, *_answers(evaluation), "", _table(evaluation)])


def summarise_predictions(predictions: pd.DataFrame, quarantine: pd.DataFrame, report: Report) -> str:
    """Say how many photographs are called cracked, and which are the clearest."""
    cracked = predictions[predictions["predicted"] == "crack"]
    lines = [
        f"{len(cracked):,} of {len(predictions):,} images look cracked; {len(quarantine):,} files in quarantine",
        f"error maps of the {min(report.error_maps, len(predictions)):,} highest scores are written",
    ]
    lines += [f"  {row.score:.4g}  {row.path}" for row in cracked.head(5).itertuples()]
    return "\n".join(lines)


def _answers(metrics: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, found in metrics["sets"].items():
        cells, n = found["confusion"], found["n"]
        lines.append(
            f"{name}: {cells['tp']:,} of {n['crack']:,} cracked photographs found, "
            f"{cells['fp']:,} of {n['normal']:,} sound ones called cracked"
        )
    return lines


def _table(metrics: Mapping[str, Any]) -> str:
    return metrics_table(metrics).to_string(index=False, float_format=lambda value: f"{value:.4f}")


def _renamed(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return pd.DataFrame({"label": table["label"], "score": table[name]})


def _roc(table: pd.DataFrame, name: str, thresholds: Mapping[str, float]) -> Figure:
    names = reported(thresholds, name)
    return detection_figures.roc_curves(
        {n: _renamed(table, n) for n in names}, thresholds={n: thresholds[n] for n in names}, dashed={BASELINE}
    )


def _grid(title: str, table: pd.DataFrame, detector: Weights, images: ImageStack, plan: Plan) -> Figure:
    return figures.image_grid(
        _samples(table, detector, images, plan),
        title=title,
        across=2,
        **_columns(detector),
    )


def _columns(detector: Weights) -> dict[str, Any]:
    if _expects(detector):
        return {"columns": EXPECTED, "heat_columns": {2}, "heat_unit": detector.facts["name"]}
    return {"columns": LIKELY, "heat_columns": {1}, "heat_unit": "probability", "heat_range": (0.0, 1.0)}


def _expects(detector: Weights) -> bool:
    """Say whether a detector answers with what it expects to see, rather than with where it sees a crack."""
    return detector_of(detector).root == "vae"


def _samples(table: pd.DataFrame, detector: Weights, images: ImageStack, plan: Plan) -> list[figures.Sample]:
    if not len(table):
        return []
    name = detector.facts["name"]
    score, threshold = score_named(detector.facts["score"]), detector.facts["thresholds"][name]
    samples: list[figures.Sample] = []
    rows = table["row"].to_numpy(np.int64)
    for seen, answer in answers(build_network(detector), images, rows, plan):
        with torch.inference_mode():
            maps = interpolate(score.map(seen, answer), size=seen.shape[-2:], mode="bilinear").cpu()
        shown = [_pixels(seen), *([_pixels(answer)] if _expects(detector) else [])]
        for *pictures, error in zip(*shown, maps[:, 0], strict=True):
            entry = table.iloc[len(samples)]
            text = detection_figures.caption(str(entry["path"]), float(entry[name]), threshold)
            samples.append(figures.Sample([*pictures, error.numpy()], text))
    return samples


def _pixels(images: Tensor) -> NDArray[np.uint8]:
    array = images.mul(255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    return array[..., 0] if array.shape[-1] == 1 else array
