"""Nodes that export a trained model to ONNX, and compare the two on photographs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.engines.compute import Compute, Plan, resolve
from crack_pipeline.evaluation.probability_levels import to_levels
from crack_pipeline.imaging.decoding import Undecodable
from crack_pipeline.imaging.overlapping import Tiles
from crack_pipeline.models.registered import IN_USE
from crack_pipeline.models.segmenters import rebuild
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.export.parameters import Check
from crack_pipeline.pipelines.ingestion.developing import open_photograph
from crack_pipeline.pipelines.ingestion.listing import Source
from crack_pipeline.pipelines.ingestion.parameters import Reading
from crack_pipeline.pipelines.segmentation.parameters import Report
from crack_pipeline.serving.answering import DetectorAnswers, plan_for
from crack_pipeline.serving.exporting import Exported, export
from crack_pipeline.serving.onnx import PRECISION, OnnxModel
from crack_pipeline.serving.photographs import Limits
from crack_pipeline.serving.replies import limit_of
from crack_pipeline.training.segmenting import probabilities

logger = logging.getLogger(__name__)

AS_MEASURED = "_as_measured"
"""Ends the names of columns that compare with torch at the precision that the model was measured with."""


class Difference(NamedTuple):
    """How far two answers to one photograph lie apart.

    Attributes
    ----------
    max_difference, mean_difference
        Of the probabilities of its pixels; of a detector both that of its scores.
    pixels_differing
        Share of its pixels that one mask has and the other has not; NaN of a detector.
    label_differs
        Whether one calls it cracked and the other does not.
    """

    max_difference: float
    mean_difference: float
    pixels_differing: float
    label_differs: bool


class _Answer(NamedTuple):
    numbers: NDArray[np.float32]
    """Probabilities of the pixels, or a score."""
    mask: NDArray[np.bool_] | None
    cracked: bool


_Asked = Callable[[NDArray[np.uint8]], _Answer]


def export_detector(trained: Weights, reading: Reading) -> Exported:
    """Make an ONNX model of a detector; see :func:`crack_pipeline.serving.exporting.export`."""
    return export(trained, "detector", Limits.model_validate(reading.model_dump()), **_identity(trained))


def export_segmenter(trained: Weights, reading: Reading, report: Report) -> Exported:
    """Make an ONNX model of a segmenter; see :func:`crack_pipeline.serving.exporting.export`."""
    limits, least = Limits.model_validate(reading.model_dump()), report.least_pixels
    return export(trained, "segmenter", limits, **_identity(trained), least_pixels=least)


def compare(
    candidate: Exported, trained: Weights, raw: Source, photographs: pd.DataFrame, check: Check, reading: Reading
) -> pd.DataFrame:
    """Let the exported model and torch answer to the same photographs.

    Parameters
    ----------
    candidate, trained
        The two models.
    raw, photographs
        The root, and the photographs under it: ``path``.
    check
        How many are compared.
    reading
        The limits.

    Returns
    -------
    pandas.DataFrame
        A row a photograph: ``path``, ``width``, ``height`` and the fields of :class:`Difference` to torch in single
        precision; where the model was measured in another one, the same to that, with names that end in
        ``_as_measured``.

    Raises
    ------
    ValueError
        If no photograph can be compared.
    """
    exact = resolve(Compute.model_validate({"accelerator": "cpu", "precision": PRECISION}))
    plans = {"": exact}
    measured = plan_for(trained, Compute.model_validate({}))
    if measured.precision != PRECISION:
        plans[AS_MEASURED] = measured
    model = OnnxModel(candidate.model)
    ours = _asked_of_graph(model)
    theirs = {ending: _asked_of_torch(trained, candidate, plan) for ending, plan in plans.items()}
    rows: list[dict[str, Any]] = []
    chosen = np.unique(np.linspace(0, len(photographs) - 1, check.photographs).round().astype(int))
    for path in photographs["path"].iloc[chosen] if len(photographs) else []:
        try:
            _, pixels = open_photograph(raw, path, mode=candidate.facts.mode, reading=reading)
            height, width = pixels.shape[:2]
            if candidate.facts.size is None and height * width > check.most_pixels:
                logger.info("%s is not compared: it is larger than export.most_pixels", path)
                continue
            found = ours(pixels)
            row: dict[str, Any] = {"path": path, "width": width, "height": height}
            for ending, asked in theirs.items():
                row |= {name + ending: value for name, value in _difference(asked(pixels), found)._asdict().items()}
        except Undecodable as why:
            logger.info("%s is not compared: %s", path, why)
            continue
        rows.append(row)
    if not rows:
        raise ValueError(
            f"none of the photographs in {raw.name} can be used to compare the exported model with torch: give others "
            "with raw_root"
        )
    return pd.DataFrame(rows)


def accept(candidate: Exported, agreement: pd.DataFrame, check: Check) -> Exported:
    """Give the exported model, if it answers as torch does.

    Raises
    ------
    ValueError
        If it differs by more than the parameters allow; the message names the photograph.
    """
    limits = {"max_difference": check.probability, "pixels_differing": check.pixels}
    what = {"max_difference": "the probability of a pixel", "pixels_differing": "the mask, as a share of its pixels,"}
    if candidate.facts.kind == "detector":
        limits, what = {"max_difference": check.score}, {"max_difference": "the score"}
    for name, limit in limits.items():
        # NaN is beyond any limit
        beyond = agreement[~(agreement[name] <= limit)]
        if len(beyond):
            worst = beyond.sort_values(name).iloc[-1]
            raise ValueError(
                f"the exported {candidate.facts.model} does not answer as torch does: of {len(beyond):,} of "
                f"{len(agreement):,} photographs {what[name]} differs by more than {limit:g}, of {worst['path']} by "
                f"{worst[name]:.3g}; nothing is exported"
            )
    return candidate


def summarise(candidate: Exported, agreement: pd.DataFrame) -> str:
    """Say in a few lines what was exported, and how far it is from torch."""
    facts = candidate.facts
    which = "the newest training" if facts.version is None else f"version {facts.version}"
    lines = [
        f"{facts.model}, {which}: ONNX opset {facts.opset}, {len(candidate.model) / 1e6:.1f} MB",
        f"compared with torch on {len(agreement):,} photographs ({PRECISION}): {_told(agreement, '')}",
    ]
    if f"max_difference{AS_MEASURED}" in agreement:
        lines.append(f"at the precision it was measured with: {_told(agreement, AS_MEASURED)}")
    return "\n".join(lines)


def _told(agreement: pd.DataFrame, ending: str) -> str:
    told = f"largest difference {agreement[f'max_difference{ending}'].max():.2g}"
    pixels = agreement[f"pixels_differing{ending}"]
    if pixels.notna().any():
        told += f", masks differ in at most {pixels.max():.2g} of the pixels"
    return f"{told}, {int(agreement[f'label_differs{ending}'].sum()):,} labels differ"


def _identity(trained: Weights) -> dict[str, Any]:
    model, version = (trained.facts[IN_USE][name] for name in ("model", "version"))
    return {"model": model, "version": None if version is None else str(version)}


def _asked_of_graph(model: OnnxModel) -> _Asked:
    facts = model.facts

    def segmented(pixels: NDArray[np.uint8]) -> _Answer:
        return _segmented(model.probabilities(pixels), facts.threshold, facts.least_pixels or 1)

    def scored(pixels: NDArray[np.uint8]) -> _Answer:
        scores, _ = model.scores(model.prepare(pixels))
        return _Answer(scores, None, bool(scores[0] > facts.threshold))

    return segmented if facts.kind == "segmenter" else scored


def _asked_of_torch(trained: Weights, candidate: Exported, plan: Plan) -> _Asked:
    facts = candidate.facts
    if facts.kind == "detector":
        detector = DetectorAnswers(trained, plan)

        def scored(pixels: NDArray[np.uint8]) -> _Answer:
            (said,) = detector.answer([detector.prepare(pixels)])
            return _Answer(np.array([said["score"]], np.float32), None, said["label"] == "crack")

        return scored
    network, tiles = rebuild(trained), Tiles.model_validate(trained.facts["tiles"])

    def segmented(pixels: NDArray[np.uint8]) -> _Answer:
        found = probabilities(network, pixels, plan, tiles)
        return _segmented(found, facts.threshold, facts.least_pixels or 1)

    return segmented


def _segmented(found: NDArray[np.float32], threshold: float, least_pixels: int) -> _Answer:
    mask = to_levels(found) >= limit_of(threshold)
    return _Answer(found, mask, int(mask.sum()) >= least_pixels)


def _difference(one: _Answer, other: _Answer) -> Difference:
    apart = np.abs(one.numbers.astype(np.float64) - other.numbers)
    if one.mask is None or other.mask is None:
        apart /= max(1.0, float(np.abs(one.numbers).max()))
        return Difference(float(apart.max()), float(apart.mean()), float("nan"), one.cracked != other.cracked)
    differing = float((one.mask != other.mask).mean())
    return Difference(float(apart.max()), float(apart.mean()), differing, one.cracked != other.cracked)
