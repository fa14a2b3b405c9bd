"""Nodes that fill the cracks of photographs, one photograph at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from crack_pipeline.engines.blocks import Item
from crack_pipeline.engines.compute import Plan
from crack_pipeline.engines.photographs import each
from crack_pipeline.imaging.decoding import Undecodable
from crack_pipeline.imaging.inpainting import Inpainting, inpaint, widen
from crack_pipeline.imaging.repaired import RepairedChunk, RepairedPhotograph, before_after
from crack_pipeline.imaging.segmented import Segmentation
from crack_pipeline.pipelines.ingestion.listing import Source
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Presets, Reading
from crack_pipeline.pipelines.inpainting.marking import Marked, Marker, Models, Segmenter
from crack_pipeline.pipelines.inpainting.parameters import Output
from crack_pipeline.training.segmenting import Tiles

_NOTHING_SOUND = "nothing sound"


def repair_photographs(
    raw: Source,
    photographs: pd.DataFrame,
    models: Models,
    dataset: Dataset,
    presets: Presets,
    reading: Reading,
    fill: Inpainting,
    tiles: Tiles,
    output: Output,
    plan: Plan,
) -> Iterator[RepairedChunk]:
    """Fill the cracks of photographs of any size.

    Parameters
    ----------
    raw
        The root.
    photographs
        Those under it: ``path``, ``label``, ``mask_path``.
    models
        A segmenter for those without a mask.
    dataset, presets
        The layout: what masks mean.
    reading
        The limits.
    fill
        How cracks are filled.
    tiles
        In which a segmenter looks at photographs.
    output
        What is written beside the photographs.
    plan
        Compute plan.

    Yields
    ------
    RepairedChunk
        One photograph at a time, also those without a crack; those that cannot be repaired are in its ``rejected``.
    """
    items = list(photographs[["path", "label", "mask_path"]].itertuples(index=False, name=None))
    marker = marker_of(raw, models, dataset, presets, reading, tiles, plan)
    for number, outcome in enumerate(each(Repairing(marker, fill, output), items, plan, done="repaired")):
        found = [] if outcome.found is None else [outcome.found]
        rejected = [] if outcome.found is not None else [(outcome.path, outcome.kind, outcome.reason)]
        yield RepairedChunk(found, rejected, number, last=number + 1 == len(items))


@dataclass(frozen=True)
class Repairing:
    """The work of :func:`repair_photographs`."""

    marker: Marker
    fill: Inpainting
    output: Output

    def prepare(self) -> Callable[[Item], RepairedPhotograph]:
        """Give what repairs one photograph."""
        return self._repair

    def _repair(self, item: Item) -> RepairedPhotograph:
        path, label, mask_path = item
        return _repair(path, self.marker.open(path, label, mask_path), self.fill, self.output)


def marker_of(
    raw: Source, models: Models, dataset: Dataset, presets: Presets, reading: Reading, tiles: Tiles, plan: Plan
) -> Marker:
    """Give what opens photographs and says where their cracks are."""
    segmenter = Segmenter(models.segmenter, tiles, plan) if models.segmenter is not None else None
    return Marker(raw, presets.named(dataset), reading, segmenter)


def join_quarantine(rejected: pd.DataFrame, repaired: Segmentation) -> pd.DataFrame:
    """Name every file that was left out: ``path``, ``reason``, ``kind``."""
    both = pd.concat([rejected, repaired.rejected], ignore_index=True).astype("str")
    return both.sort_values(["path", "reason"], ignore_index=True)[["path", "reason", "kind"]]


def list_repaired(repaired: Segmentation) -> pd.DataFrame:
    """Say of every photograph what was filled.

    Returns
    -------
    pandas.DataFrame
        ``image_id``, ``path``, ``cracks`` (what said where they are), ``crack_pixels``, ``filled_pixels`` (with the
        margin), ``method``, ``seconds`` (of the filling), ``width``, ``height``, and the files ``repaired`` and
        ``before_after``; the most cracked photograph first.
    """
    columns = ["image_id", "path", "cracks", "crack_pixels", "filled_pixels", "method", "seconds", "width", "height"]
    table = repaired.photographs.reindex(columns=[*columns, "repaired", "before_after"])
    return table.sort_values("crack_pixels", ascending=False, kind="stable", ignore_index=True)


def _repair(path: str, marked: Marked, fill: Inpainting, output: Output) -> RepairedPhotograph:
    _, pixels, crack, source = marked
    began = time.perf_counter()
    try:
        filled = inpaint(pixels, crack, fill)
    except ValueError as error:
        raise Undecodable(_NOTHING_SOUND, str(error)) from None
    seconds = time.perf_counter() - began
    facts = {
        "image_id": marked.photo_id,
        "width": crack.shape[1],
        "height": crack.shape[0],
        "cracks": source,
        "crack_pixels": int(np.count_nonzero(crack)),
        "filled_pixels": int(np.count_nonzero(widen(crack, fill.margin))) if crack.any() else 0,
        "method": fill.method,
        "seconds": round(seconds, 4),
    }
    shown = before_after(pixels, filled, crack) if output.before_after and crack.any() else None
    return RepairedPhotograph(path, filled, shown, facts)
