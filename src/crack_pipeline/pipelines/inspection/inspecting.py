"""The node that looks at photographs, one at a time."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from crack_pipeline.engines.blocks import Item, Store
from crack_pipeline.engines.compute import Plan
from crack_pipeline.engines.photographs import EARLIER, Keeper, each_kept, without_copies
from crack_pipeline.evaluation.segmentation_counts import LEVELS, level_of
from crack_pipeline.imaging.camera import encode_jpeg, encode_png
from crack_pipeline.imaging.crack_objects import Crack, find_cracks
from crack_pipeline.imaging.crack_records import coco_annotation, geojson_feature
from crack_pipeline.imaging.decoding import convert
from crack_pipeline.imaging.inpainting import inpaint
from crack_pipeline.imaging.records import Record, RecordChunk
from crack_pipeline.imaging.segmented import draw_overlay, shrink_to
from crack_pipeline.imaging.views import draw_foreground, draw_mask, draw_probability
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.developing import open_photograph, photo_id_of
from crack_pipeline.pipelines.ingestion.listing import Source
from crack_pipeline.pipelines.ingestion.parameters import Image, Reading
from crack_pipeline.pipelines.inspection.isolating import Isolator
from crack_pipeline.pipelines.inspection.parameters import Cracks, Repair, Report
from crack_pipeline.pipelines.segmentation.predicting import levels
from crack_pipeline.pipelines.segmentation.training import rebuild, tiles_for
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

VIEWS = ("photograph", "probability", "mask", "foreground", "repaired")
"""Pictures of the report, in the files ``view_<name>.jpg``."""

_FORMAT = 1
"""Of the records: another number makes all of them anew."""
_PHOTOGRAPHS_IN_A_BLOCK = 8
"""Of one that a worker of a cluster is handed."""
_DARK, _BRIGHT, _SEEN = 24, 244, 0.05
"""Levels up to, and from, which nothing is seen, and the share of a photograph that must lie between them."""


class Finished(Protocol):
    """Records of earlier runs."""

    def key(self, path: str) -> str | None:
        """Give the key of a photograph's record; None where there is none."""

    def keeper(self) -> Keeper | None:
        """Give what lets the workers of a cluster write records; None where they do not reach them."""


def inspect_photographs(
    raw: Source,
    photographs: pd.DataFrame,
    finished: Finished,
    segmenter: Weights,
    isolator: Isolator,
    cracks: Cracks,
    repair: Repair,
    report: Report,
    tiles: Tiles,
    reading: Reading,
    plan: Plan,
    blocks: Store | None = None,
) -> Iterator[RecordChunk]:
    """Look at photographs of any size: foreground, cracks as things, repaired surface.

    Parameters
    ----------
    raw
        The root.
    photographs
        Those under it: ``path``.
    finished
        What is known of earlier runs: photographs that are the same, looked at in the same way, are passed over.
    segmenter
        As trained.
    isolator
        Tells the structure from its background.
    cracks, repair, report, tiles
        How each is looked at, and what is drawn of it.
    reading
        The limits.
    plan
        Compute plan, which says whose work this is.
    blocks
        Where the workers of a cluster leave what they found until it is written, if they cannot write the records
        themselves; None: it comes through memory.

    Yields
    ------
    RecordChunk
        One photograph at a time. The facts of a record: ``image_id``, ``width``, ``height``, ``foreground_share``,
        ``crack_share``, ``score`` (the highest probability of a pixel), ``note``, ``seconds`` by stage, and ``cracks``:
        of each what :class:`~crack_pipeline.imaging.crack_objects.Crack` says, in px, and its ``coco`` and ``geojson``.
        Photographs that cannot be read, or of which something else goes wrong, are in ``failed``, with the reason.
    """
    work = Inspecting(raw, segmenter, isolator, cracks, repair, report, tiles, reading, plan)
    paths = photographs["path"].tolist()
    items: list[Item] = [(path, finished.key(path)) for path in paths]
    spread = plan.engine == "ray"
    keeper = finished.keeper() if spread else None
    begun = 0
    if keeper is not None:
        items = [(*item, name) for item, name in zip(items, keeper.names(paths), strict=True)]
        yield RecordChunk([], [], [], 0, last=not items, root=raw.name)  # begins the run, before anyone writes there
        begun = 1
    outcomes = each_kept(
        work,
        items,
        plan,
        blocks if spread and keeper is None else None,
        done="inspected",
        size=_PHOTOGRAPHS_IN_A_BLOCK if spread else 1,
        identify=work.identify,
        once=True,
        keeper=keeper,
    )
    for number, outcome in enumerate(without_copies(outcomes, keeper), start=begun):
        records: list[Record] = []
        kept: list[str] = []
        failed: list[tuple[str, str, str]] = []
        if outcome.found is None:
            logger.warning("%s is left out: %s", outcome.path, outcome.reason)
            failed.append((outcome.path, outcome.kind, outcome.reason))
        elif EARLIER in outcome.found.facts:
            kept.append(outcome.path)
        else:
            records.append(outcome.found)
        yield RecordChunk(records, kept, failed, number, last=number + 1 - begun == len(items), root=raw.name)


@dataclass(frozen=True)
class Inspecting:
    """The work of :func:`inspect_photographs`, with whose parameters it is described.

    An item is the path of a photograph, and the key of its record, if there is one of an earlier run.
    """

    raw: Source
    segmenter: Weights
    isolator: Isolator
    cracks: Cracks
    repair: Repair
    report: Report
    tiles: Tiles
    reading: Reading
    plan: Plan

    def prepare(self) -> Inspector:
        """Build the network."""
        return Inspector(self)

    def identify(self, item: Item) -> list[Any]:
        """Give what decides what is found in one photograph alone."""
        return [item[0], self.isolator.settings(item[0])]

    def settings(self) -> dict[str, Any]:
        """Give all else that decides what is found."""
        parts: dict[str, BaseModel] = {
            "cracks": self.cracks,
            "repair": self.repair,
            "tiles": tiles_for(self.segmenter, self.tiles),
        }
        return {
            **{name: part.model_dump(mode="json") for name, part in parts.items()},
            "pictures": [self.report.side, self.report.quality],
            "segmenter": self.segmenter.fingerprint(),
            "threshold": threshold_of(self.segmenter, self.cracks),
            "format": _FORMAT,
        }


def threshold_of(segmenter: Weights, cracks: Cracks) -> float:
    """Give the probability from which on a pixel is a crack: one of the levels in which probabilities are told."""
    if cracks.threshold is None:
        return float(segmenter.facts["threshold"])
    return min(max(round(cracks.threshold * LEVELS), 1), LEVELS - 1) / LEVELS


class Inspector:
    """Looks at photographs in one way; made once in each worker."""

    def __init__(self, work: Inspecting) -> None:
        self._raw, self._reading = work.raw, work.reading
        self._isolator, self._cracks, self._repair, self._report = work.isolator, work.cracks, work.repair, work.report
        self._network, self._tiles = rebuild(work.segmenter), tiles_for(work.segmenter, work.tiles)
        self._plan = work.plan
        self._mode = Image.model_validate(work.segmenter.facts["image"]).mode
        self._threshold = threshold_of(work.segmenter, work.cracks)
        self._settings = work.settings()

    def key(self, item: Item) -> str | None:
        """Identify what is found: another photograph, segmenter or parameter gives another key."""
        photo_id = photo_id_of(self._raw, item[0])
        return None if photo_id is None else self._key(item, photo_id)

    def __call__(self, item: Item) -> Record:
        """Find out all about a photograph, or say that an earlier run has; raises Undecodable."""
        path, finished = item[:2]
        if finished is not None:
            photo_id = photo_id_of(self._raw, path)
            if photo_id is not None and finished == self._key(item, photo_id):
                return Record(path, "", {"image_id": photo_id, EARLIER: True})
        began = time.monotonic()
        photo_id, pixels = open_photograph(self._raw, path, mode="rgb", reading=self._reading)
        facts, files = self.look(path, photo_id, pixels, time.monotonic() - began)
        return Record(path, self._key(item, photo_id), facts, files)

    def _key(self, item: Item, photo_id: str) -> str:
        mine = {"photograph": photo_id, "foreground": self._isolator.settings(item[0])}
        decides = json.dumps({**self._settings, **mine}, sort_keys=True)
        return hashlib.blake2b(decides.encode(), digest_size=16).hexdigest()

    def look(
        self, path: str, photo_id: str, pixels: NDArray[np.uint8], seconds: float
    ) -> tuple[dict[str, Any], dict[str, bytes]]:
        """Find out all about a photograph, (H, W, 3); ``seconds`` are those of its reading."""
        clock = _Clock(read=seconds)
        with clock.stage("foreground"):
            inside = self._isolator.find(path, photo_id, pixels)
        with clock.stage("segment"):
            level = levels(self._network, convert(pixels, self._mode), self._plan, self._tiles)
            level[~inside] = 0
        with clock.stage("measure"):
            every = find_cracks(level >= level_of(self._threshold), least_pixels=self._cracks.least_pixels)
            formed = [crack for crack in every if self._cracks.counts(crack)]
            found = [crack for crack in formed if not self._cracks.too_wide(crack)]
            mask = _together(found, (level.shape[0], level.shape[1]))
        note = _nothing_seen(pixels) or ("" if inside.any() else "no concrete was found in it")
        if len(found) < len(formed) and not note:
            wide = len(formed) - len(found)
            note = (
                f"{wide} wider than {self._cracks.most_width:g} px on average, {'is' if wide == 1 else 'are'} left out"
            )
        repaired = pixels
        with clock.stage("repair"):
            if self._repair.enabled and found:
                try:
                    repaired = inpaint(pixels, mask, self._repair.how)
                except ValueError as error:
                    note = str(error)
        with clock.stage("draw"):
            files = self._files(pixels, level, mask, inside, repaired)
        facts = {
            "image_id": photo_id,
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "foreground_share": float(inside.mean()),
            "crack_share": float(mask.mean()),
            "score": float(level.max()) / 255,
            "note": note,
            "seconds": clock.seconds,
            "cracks": [_facts(path, f"c{number}", crack, level) for number, crack in enumerate(found, start=1)],
        }
        return facts, files

    def _files(
        self,
        pixels: NDArray[np.uint8],
        level: NDArray[np.uint8],
        mask: NDArray[np.bool_],
        inside: NDArray[np.bool_],
        repaired: NDArray[np.uint8],
    ) -> dict[str, bytes]:
        side, quality = self._report.side, self._report.quality
        views = {
            "photograph": shrink_to(pixels, side),
            "probability": draw_probability(level, side),
            "mask": draw_mask(mask, side),
            "foreground": draw_foreground(pixels, inside, side),
        }
        files = {
            "mask.png": encode_png(mask),
            "foreground.png": encode_png(inside),
            "overlay.jpg": encode_jpeg(draw_overlay(pixels, mask.view(np.uint8)), 88),
        }
        if self._repair.enabled:
            views["repaired"] = shrink_to(repaired, side)
            files["repaired.jpg"] = encode_jpeg(repaired, 92)
        return files | {f"view_{name}.jpg": encode_jpeg(view, quality) for name, view in views.items()}


def _nothing_seen(pixels: NDArray[np.uint8]) -> str:
    """Say so where a photograph is nearly black or white all over."""
    light = shrink_to(pixels, 512).max(axis=2) > _DARK, shrink_to(pixels, 512).min(axis=2) < _BRIGHT
    if light[0].mean() < _SEEN:
        return "it is black nearly all over: nothing can be said of what it shows"
    if light[1].mean() < _SEEN:
        return "it is white nearly all over: nothing can be said of what it shows"
    return ""


def _together(cracks: list[Crack], shape: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, np.bool_)
    for crack in cracks:
        y, x, height, width = crack.box
        mask[y : y + height, x : x + width] |= crack.pixels()
    return mask


def _facts(path: str, crack_id: str, crack: Crack, level: NDArray[np.uint8]) -> dict[str, Any]:
    y, x, height, width = crack.box
    mine = level[y : y + height, x : x + width][crack.pixels()]
    return {
        "crack_id": crack_id,
        "length": crack.length,
        "mean_width": crack.mean_width,
        "max_width": crack.max_width,
        "widest": [crack.widest[1], crack.widest[0]],
        "area": crack.area,
        "orientation": crack.orientation,
        "branches": len(crack.branches),
        "box": [x, y, width, height],
        "probability": float(mine.mean()) / 255,
        "coco": coco_annotation(1, 1, crack, (level.shape[0], level.shape[1])),
        "geojson": geojson_feature(path, crack_id, crack),
    }


class _Clock:
    """Seconds by stage."""

    def __init__(self, **known: float) -> None:
        self.seconds = {name: round(value, 3) for name, value in known.items()}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 3)
