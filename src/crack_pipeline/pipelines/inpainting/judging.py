"""Nodes that compare the ways to fill a crack: where the surface is known, and by who still sees a crack."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation.filling import fill_quality
from crack_pipeline.imaging import tiling
from crack_pipeline.imaging.camera_traces import measure_traces
from crack_pipeline.imaging.decoding import Undecodable, prepare
from crack_pipeline.imaging.inpainting import Inpainting, Method, inpaint, widen
from crack_pipeline.imaging.segmented import Segmentation
from crack_pipeline.imaging.simulation import Simulation, simulate
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.anomaly.nodes import score_named
from crack_pipeline.pipelines.anomaly.training import build_network
from crack_pipeline.pipelines.ingestion.listing import Source
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Image, Presets, Reading
from crack_pipeline.pipelines.inpainting.marking import Marked, Marker, Models, Segmenter
from crack_pipeline.pipelines.inpainting.parameters import Judging
from crack_pipeline.pipelines.inpainting.repairing import marker_of
from crack_pipeline.training.answers import answers
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

_OF_ONE, _SCANNED = 2, 2
"""Most squares of one photograph, and how many photographs are opened for each one that is needed."""
_CLEAR = 8
"""Least distance of a sound square from any crack, px."""

CRACKED, AS_IT_WAS = "cracked", "as_it_was"
FILLS = ("square", "method", "psnr", "ssim", "grain", "seconds", "pixels", "filled", "crack")
ALARMS = ("image_id", "path", "method", "segmenter", "segmenter_there", "detector")


@dataclass(frozen=True)
class SimulatedCrack:
    """A square of sound concrete, and the same with a crack: (S, S, 3), (S, S, 3) and (S, S)."""

    sound: NDArray[np.uint8]
    cracked: NDArray[np.uint8]
    crack: NDArray[np.bool_]


def find_sound_concrete(
    raw: Source,
    photographs: pd.DataFrame,
    models: Models,
    dataset: Dataset,
    presets: Presets,
    reading: Reading,
    tiles: Tiles,
    judging: Judging,
    plan: Plan,
) -> list[NDArray[np.uint8]]:
    """Cut squares of sound concrete out of the photographs.

    Returns
    -------
    list of ndarray of uint8
        (S, S, 3) each, at most ``judging.squares``; fewer, or none, where there are no more in the photographs that are
        opened: two for each square.
    """
    marker = marker_of(raw, models, dataset, presets, reading, tiles, plan)
    squares: list[NDArray[np.uint8]] = []
    for row, marked in _opened(marker, photographs, _SCANNED * judging.squares, judging.seed):
        squares += _sound_squares(marked, judging.size, np.random.default_rng([judging.seed, row]))
        if len(squares) >= judging.squares:
            break
    if judging.squares and not squares:
        logger.warning(
            "no square of %d px without a crack is in the photographs: the methods are not compared on simulated "
            "cracks; lower inpainting.judging.size",
            judging.size,
        )
    return squares[: judging.squares]


def simulate_cracks(
    squares: Sequence[NDArray[np.uint8]], simulation: Simulation, seed: int
) -> Iterator[SimulatedCrack]:
    """Draw a crack on each square of sound concrete, as its camera would have taken it, and leave out those without.

    Parameters
    ----------
    squares
        (S, S, 3) uint8 each.
    simulation
        What is drawn.
    seed
        Of what is drawn.

    Yields
    ------
    SimulatedCrack
        Their sound surface is the square itself.
    """
    for number, square in enumerate(squares):
        cracked, mask = simulate(square, np.random.default_rng([seed, number]), simulation, measure_traces(square))
        if mask.any():
            yield SimulatedCrack(square, cracked, mask.astype(np.bool_))


def compare_fills(
    sound_squares: Sequence[NDArray[np.uint8]],
    models: Models,
    fill: Inpainting,
    tiles: Tiles,
    judging: Judging,
    plan: Plan,
) -> pd.DataFrame:
    """Fill simulated cracks with every method, and let the segmenter look at what comes out.

    Returns
    -------
    pandas.DataFrame
        A row per square and method, and one each for the square with its crack (`CRACKED`) and without (`AS_IT_WAS`):
        ``square``, ``method``, ``psnr``, ``ssim``, ``grain`` (:func:`crack_pipeline.evaluation.filling.fill_quality`),
        ``seconds``, ``pixels`` of the square, ``filled`` pixels, and how many of these the segmenter calls ``crack``,
        missing where there is none. What is filled, and judged, is the crack with its margin.
    """
    segmenter = Segmenter(models.segmenter, tiles, plan) if models.segmenter is not None else None
    rows = []
    for number, one in enumerate(simulate_cracks(sound_squares, judging.simulation, judging.seed)):
        where = widen(one.crack, fill.margin)
        if where.all():
            continue
        pictures = {CRACKED: (one.cracked, 0.0), AS_IT_WAS: (one.sound, 0.0)}
        for method in judging.methods:
            began = time.perf_counter()
            filled = inpaint(one.cracked, one.crack, fill.model_copy(update={"method": method}))
            pictures[method] = filled, time.perf_counter() - began
        for name, (picture, seconds) in pictures.items():
            called = int(segmenter.find(picture)[where].sum()) if segmenter is not None else None
            quality = fill_quality(one.sound, picture, where)
            rows.append((number, name, *quality, seconds, where.size, int(where.sum()), called))
    return pd.DataFrame(rows, columns=list(FILLS))


def look_again(
    raw: Source,
    photographs: pd.DataFrame,
    models: Models,
    dataset: Dataset,
    presets: Presets,
    reading: Reading,
    repaired: Segmentation,
    fill: Inpainting,
    tiles: Tiles,
    judging: Judging,
    plan: Plan,
) -> pd.DataFrame:
    """Repair some photographs with every method, and let the segmenter and the detector look at them again.

    Parameters
    ----------
    repaired
        What has been repaired already: of these photographs, some that are cracked and not too large are taken.

    Returns
    -------
    pandas.DataFrame
        A row per photograph and method, and one each with the method ``none``, as it was: ``segmenter`` (crack pixels
        that it finds), ``segmenter_there`` (of these, where there was one that was filled), ``detector`` (its score,
        less its threshold: above 0 is an alarm); missing where there is no such model.
    """
    done = repaired.photographs
    if done.empty or (models.segmenter is None and models.detector is None):
        return pd.DataFrame(columns=list(ALARMS))
    marker = marker_of(raw, models, dataset, presets, reading, tiles, plan)
    detector = Detector(models.detector, plan) if models.detector is not None else None
    wanted = done.loc[(done["crack_pixels"] > 0) & (done["width"] * done["height"] <= judging.largest), "path"]
    cracked = photographs[photographs["path"].isin(wanted)]
    rows: list[tuple[Any, ...]] = []
    for row, marked in _opened(marker, cracked, judging.photographs, judging.seed):
        where = widen(marked.crack, fill.margin)
        pictures = _repaired(marked, fill, judging.methods)
        found = [marker.segmenter.find(picture) if marker.segmenter else None for picture in pictures.values()]
        scores = detector.above(list(pictures.values())) if detector else [None] * len(pictures)
        for method, crack, score in zip(pictures, found, scores, strict=True):
            counts = (int(crack.sum()), int((crack & where).sum())) if crack is not None else (None, None)
            rows.append((marked.photo_id, cracked["path"].iloc[row], method, *counts, score))
        logger.info("looked again at %s", cracked["path"].iloc[row])
    return pd.DataFrame(rows, columns=list(ALARMS))


def measure(
    fills: pd.DataFrame, alarms: pd.DataFrame, predictions_repaired: pd.DataFrame, judging: Judging
) -> dict[str, Any]:
    """Sum up what each method does.

    Returns
    -------
    dict
        ``methods``: of each ``psnr``, ``ssim``, ``grain`` (means over the squares; of the grain the median),
        ``seconds_per_megapixel``, and, of the photographs that alarmed before, the share that still does:
        ``segmenter``, ``segmenter_there`` (where it was filled), ``detector``; ``segmenter_left``: of the crack pixels
        that it found there, the share that it still finds; ``called_crack``: of what was filled of the simulated
        cracks, the share that it calls crack. None where it is not known.
        ``squares``: how many; ``called_crack``: the same share of the squares with and without their cracks;
        ``alarmed``: photographs that did before, by who looks; ``repaired``: ``photographs``, ``cracked``,
        ``crack_pixels`` and ``seconds``.
    """
    least = {"segmenter": judging.least_pixels, "segmenter_there": judging.least_pixels, "detector": 0}
    alarm = alarms[["path", "method"]].assign(
        **{
            name: pd.to_numeric(alarms[name]).gt(limit) if name == "detector" else pd.to_numeric(alarms[name]).ge(limit)
            for name, limit in least.items()
        }
    )
    before = {name: alarm.loc[(alarm["method"] == "none") & alarm[name], "path"] for name in least}
    methods: dict[str, dict[str, float | None]] = {}
    for method in judging.methods:
        own, after = fills[fills["method"] == method], alarm[alarm["method"] == method]
        entry: dict[str, float | None] = {name: _number(own[name].mean()) for name in ("psnr", "ssim")}
        entry["grain"] = _number(own["grain"].median())
        entry["seconds_per_megapixel"] = _number(1e6 * own["seconds"].sum() / own["pixels"].sum()) if len(own) else None
        for name, paths in before.items():
            entry[name] = _number(after.loc[after["path"].isin(paths), name].mean())
        entry["segmenter_left"] = _left(alarms, method)
        entry["called_crack"] = _called(fills, method)
        methods[method] = entry
    cracked = predictions_repaired["crack_pixels"] > 0
    return {
        "methods": methods,
        "squares": int(fills["square"].nunique()),
        "called_crack": {name: _called(fills, name) for name in (CRACKED, AS_IT_WAS)},
        "alarmed": {name: len(paths) for name, paths in before.items()},
        "repaired": {
            "photographs": len(predictions_repaired),
            "cracked": int(cracked.sum()),
            "crack_pixels": int(predictions_repaired["crack_pixels"].sum()),
            "seconds": float(predictions_repaired["seconds"].sum()),
        },
    }


def track_metrics(metrics: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Flatten metrics to ``{"<method>.<metric>": {"value": number, "step": 0}}``, as the tracker takes them."""
    flat = {
        f"{method}.{name}": value
        for method, entry in metrics["methods"].items()
        for name, value in entry.items()
        if value is not None
    }
    flat |= {f"repaired.{name}": float(value) for name, value in metrics["repaired"].items()}
    return {name: {"value": value, "step": 0} for name, value in flat.items()}


class Detector:
    """A trained detector, ready for photographs of any size."""

    def __init__(self, weights: Weights, plan: Plan) -> None:
        self._plan, self._network = plan, build_network(weights)
        self._image = Image.model_validate(weights.facts["image"])
        self._score = score_named(weights.facts["score"])
        self._threshold = float(weights.facts["thresholds"][weights.facts["name"]])

    def above(self, pictures: Sequence[NDArray[np.uint8]]) -> list[float]:
        """Give the scores of photographs, less the threshold: above 0 is an alarm."""
        images = np.stack([prepare(picture, self._image.size, self._image.mode) for picture in pictures])
        scores = []
        for seen, answer in answers(self._network, _InMemory(images), np.arange(len(images)), self._plan):
            with torch.inference_mode():
                scores += self._score(seen, answer).double().cpu().tolist()
        return [score - self._threshold for score in scores]


@dataclass(frozen=True)
class _InMemory:
    images: NDArray[np.uint8]

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Give some of them."""
        return self.images[rows]


def _repaired(marked: Marked, fill: Inpainting, methods: Sequence[Method]) -> dict[str, NDArray[np.uint8]]:
    pictures = {"none": marked.pixels}
    for method in methods:
        pictures[method] = inpaint(marked.pixels, marked.crack, fill.model_copy(update={"method": method}))
    return pictures


def _opened(marker: Marker, photographs: pd.DataFrame, most: int, seed: int) -> Iterator[tuple[int, Marked]]:
    """Open some photographs in random order, and pass over those that cannot be used: a repair says which."""
    order = np.random.default_rng(seed).permutation(len(photographs))[:most]
    table = photographs[["path", "label", "mask_path"]]
    for row in order.tolist():
        path, label, mask_path = table.iloc[row]
        try:
            yield row, marker.open(path, label, mask_path)
        except Undecodable:
            continue


def _sound_squares(marked: Marked, size: int, rng: np.random.Generator) -> list[NDArray[np.uint8]]:
    height, width = marked.crack.shape
    if min(height, width) < size:
        return []
    corners = tiling.grid(height, width, size, max(16, size // 4))
    corners = corners[tiling.count(marked.crack, corners, size, _CLEAR) == 0]
    chosen = rng.permutation(len(corners))[:_OF_ONE]
    return [marked.pixels[y : y + size, x : x + size].copy() for y, x in corners[chosen].tolist()]


def _left(alarms: pd.DataFrame, method: str) -> float | None:
    """Give the share of the crack pixels that were found where something was filled, and still are."""
    found = alarms.assign(pixels=pd.to_numeric(alarms["segmenter_there"])).groupby("method")["pixels"].sum(min_count=1)
    before = found.get("none")
    return _number(found[method] / before) if before else None


def _called(fills: pd.DataFrame, method: str) -> float | None:
    """Give the share of what was filled that the segmenter calls crack."""
    own = fills[fills["method"] == method]
    known = pd.to_numeric(own["crack"])
    return _number(known.sum() / own["filled"].sum()) if known.notna().any() else None


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)
