"""Nodes that find the cracks in new photographs, one photograph at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from crack_pipeline.engines.blocks import Item, Store
from crack_pipeline.engines.compute import Plan
from crack_pipeline.engines.photographs import Keeper, each_kept, some_at_a_time, without_copies
from crack_pipeline.evaluation.probability_levels import level_counts, level_of, likeliest
from crack_pipeline.imaging.camera import encode_jpeg, encode_png
from crack_pipeline.imaging.records import Record
from crack_pipeline.imaging.segmented import OVERLAY_QUALITY, Segmentation, SegmentedChunk, draw_overlay
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.developing import open_photograph, photo_id_of
from crack_pipeline.pipelines.ingestion.listing import Source
from crack_pipeline.pipelines.ingestion.parameters import Image, Reading
from crack_pipeline.pipelines.segmentation.parameters import Output, Report
from crack_pipeline.pipelines.segmentation.training import rebuild, tiles_for
from crack_pipeline.training.levels import levels
from crack_pipeline.training.segmenting import Tiles, check_tiles

_FORMAT = 1
"""Of the records: another number makes all of them anew."""
_PHOTOGRAPHS_IN_A_BLOCK = 16
_AT_ONCE = 64
"""Photographs whose files lie where they belong already, on their way to the table."""


def segment_photographs(
    raw: Source,
    photographs: pd.DataFrame,
    segmenter: Weights,
    reading: Reading,
    tiles: Tiles,
    output: Output,
    plan: Plan,
    blocks: Store | None = None,
    unfinished: Keeper | None = None,
) -> Iterator[SegmentedChunk]:
    """Find the cracks in photographs of any size.

    Parameters
    ----------
    raw
        The root.
    photographs
        Those under it: ``path``.
    segmenter
        As trained.
    reading
        The limits.
    tiles
        How a photograph is cut.
    output
        What is written beside the masks.
    plan
        Compute plan, which says whose work this is.
    blocks
        Keeps what was found, so that a run that is started again goes on; None: nowhere.
    unfinished
        Lets the workers of a cluster write the files where they belong; None: they come through memory.

    Yields
    ------
    SegmentedChunk
        One photograph at a time, or some dozen whose files are written already; those of which nothing can be found are
        in its ``rejected``.
    """
    paths = photographs["path"].tolist()
    keeper = unfinished if plan.engine == "ray" else None
    items: list[Item] = [(path,) for path in paths]
    number = 0
    if keeper is not None:
        items = list(zip(paths, keeper.names(paths), strict=True))
        yield SegmentedChunk([], [], 0, last=not items)  # begins the folder, before anyone writes there
        number = 1
    work = Segmenting(raw, segmenter, reading, tiles, output, plan)
    kept = each_kept(
        work,
        items,
        plan,
        blocks,
        done="segmented",
        size=_PHOTOGRAPHS_IN_A_BLOCK,
        identify=lambda item: item[:1],
        keeper=keeper,
    )
    left = len(items)
    for some in some_at_a_time(without_copies(kept, keeper), 1 if keeper is None else _AT_ONCE):
        left -= len(some)
        found = [outcome.found for outcome in some if outcome.found is not None]
        rejected = [(outcome.path, outcome.kind, outcome.reason) for outcome in some if outcome.found is None]
        yield SegmentedChunk(found, rejected, number, last=not left)
        number += 1
    if number == 0:
        yield SegmentedChunk([], [], 0, last=True)


@dataclass(frozen=True)
class Segmenting:
    """The work of :func:`segment_photographs`, with whose parameters it is described."""

    raw: Source
    segmenter: Weights
    reading: Reading
    tiles: Tiles
    output: Output
    plan: Plan

    def prepare(self) -> Segmenter:
        """Build the network; raises ValueError if the tiles do not suit it."""
        return Segmenter(self)

    def settings(self) -> dict[str, Any]:
        """Give all that decides what is found, beside the photographs."""
        return {
            "segmenter": self.segmenter.fingerprint(),
            "threshold": self.segmenter.facts["threshold"],
            "image": self.segmenter.facts["image"],
            "tiles": tiles_for(self.segmenter, self.tiles).model_dump(mode="json"),
            "output": self.output.model_dump(mode="json"),
            "precision": self.plan.precision,
            "format": _FORMAT,
        }


class Segmenter:
    """Finds the cracks in photographs; made once in each worker."""

    def __init__(self, work: Segmenting) -> None:
        self._work = work
        self._network = rebuild(work.segmenter)
        self._mode = Image.model_validate(work.segmenter.facts["image"]).mode
        self._tiles = tiles_for(work.segmenter, work.tiles)
        check_tiles(self._tiles, self._network)
        self._least = level_of(float(work.segmenter.facts["threshold"]))

    def key(self, item: Item) -> str | None:
        """Hash the file of a photograph."""
        return photo_id_of(self._work.raw, item[0])

    def __call__(self, item: Item) -> Record:
        """Find the cracks in a photograph; raises Undecodable."""
        path, output = str(item[0]), self._work.output
        photo_id, pixels = open_photograph(self._work.raw, path, mode=self._mode, reading=self._work.reading)
        level = levels(self._network, pixels, self._work.plan, self._tiles)
        mask = level >= self._least
        height, width = mask.shape
        files = {"mask": encode_png(mask)}
        if output.probabilities:
            files["probability"] = encode_png(level)
        if output.overlays:
            files["overlay"] = encode_jpeg(draw_overlay(pixels, mask.view(np.uint8)), OVERLAY_QUALITY)
        facts = {
            "image_id": photo_id,
            "width": width,
            "height": height,
            "crack_pixels": int(mask.sum()),
            "score": likeliest(level_counts(level)),
        }
        return Record(path, photo_id, facts, files)


def list_predictions(segmentation: Segmentation, report: Report) -> pd.DataFrame:
    """Say for every photograph how much of it is cracked.

    Returns
    -------
    pandas.DataFrame
        ``image_id``, ``path``, ``label`` (missing), ``score`` (mean probability of the 100 likeliest pixels),
        ``predicted``, ``crack_share``, ``crack_pixels``, ``width``, ``height`` and the ``mask`` that was written; the
        most cracked photograph first.
    """
    table = segmentation.photographs
    if table.empty:
        columns = ["image_id", "path", "label", "score", "predicted", "crack_share", "crack_pixels", "width", "height"]
        return pd.DataFrame(columns=[*columns, "mask"])
    cracked = table["crack_pixels"].to_numpy() >= report.least_pixels
    predictions = pd.DataFrame(
        {
            "image_id": table["image_id"],
            "path": table["path"],
            "label": None,
            "score": table["score"],
            "predicted": np.where(cracked, "crack", "normal"),
            "crack_share": table["crack_pixels"] / (table["width"] * table["height"]),
            **{name: table[name] for name in ("crack_pixels", "width", "height", "mask")},
        }
    )
    return predictions.sort_values("crack_share", ascending=False, kind="stable", ignore_index=True)


def join_quarantine(rejected: pd.DataFrame, segmentation: Segmentation) -> pd.DataFrame:
    """Name every file that was left out: ``path``, ``reason``, ``kind``."""
    both = pd.concat([rejected, segmentation.rejected], ignore_index=True).astype("str")
    return both.sort_values(["path", "reason"], ignore_index=True)[["path", "reason", "kind"]]


def summarise_predictions(predictions_new: pd.DataFrame, quarantine: pd.DataFrame, segmenter: Weights) -> str:
    """Say in a few lines what was found."""
    if predictions_new.empty:
        return f"no photograph could be read; {len(quarantine):,} files are in quarantine, with the reason of each"
    cracked = predictions_new[predictions_new["predicted"] == "crack"]
    lines = [
        f"{len(cracked):,} of {len(predictions_new):,} photographs show cracks"
        f" (threshold {segmenter.facts['threshold']:.3f}); {len(quarantine):,} files left out"
    ]
    if len(cracked):
        top = cracked.head(10)[["path", "crack_share", "crack_pixels", "score"]]
        top = top.assign(crack_share=[f"{share:.2%}" for share in top["crack_share"]])
        lines += ["", "the most cracked:", top.to_string(index=False, float_format=lambda value: f"{value:.3f}")]
    return "\n".join(lines)
