"""The node that looks at photographs, one at a time."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from crack_pipeline.evaluation.segmentation_counts import LEVELS, level_of
from crack_pipeline.imaging.camera import encode_jpeg, encode_png
from crack_pipeline.imaging.crack_objects import Crack, find_cracks
from crack_pipeline.imaging.crack_records import coco_annotation, geojson_feature
from crack_pipeline.imaging.decoding import Undecodable, convert
from crack_pipeline.imaging.inpainting import inpaint
from crack_pipeline.imaging.records import Record, RecordChunk
from crack_pipeline.imaging.segmented import draw_overlay, shrink_to
from crack_pipeline.imaging.views import draw_foreground, draw_mask, draw_probability
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.developing import open_photograph
from crack_pipeline.pipelines.ingestion.listing import Source
from crack_pipeline.pipelines.ingestion.parameters import Image, Reading
from crack_pipeline.pipelines.inspection.isolating import Isolator
from crack_pipeline.pipelines.inspection.parameters import Cracks, Repair, Report
from crack_pipeline.pipelines.segmentation.predicting import levels
from crack_pipeline.pipelines.segmentation.training import rebuild, tiles_for
from crack_pipeline.training.compute import Plan
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

VIEWS = ("photograph", "probability", "mask", "foreground", "repaired")
"""Pictures of the report, in the files ``view_<name>.jpg``."""

_FORMAT = 1
"""Of the records: another number makes all of them anew."""
_SECONDS_BETWEEN_LINES = 10.0
_DARK, _BRIGHT, _SEEN = 24, 244, 0.05
"""Levels up to, and from, which nothing is seen, and the share of a photograph that must lie between them."""


class Finished(Protocol):
    """Records of earlier runs."""

    def key(self, path: str) -> str | None:
        """Give the key of a photograph's record; None where there is none."""


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
        Compute plan.

    Yields
    ------
    RecordChunk
        One photograph at a time. The facts of a record: ``image_id``, ``width``, ``height``, ``foreground_share``,
        ``crack_share``, ``score`` (the highest probability of a pixel), ``note``, ``seconds`` by stage, and ``cracks``:
        of each what :class:`~crack_pipeline.imaging.crack_objects.Crack` says, in px, and its ``coco`` and ``geojson``.
        Photographs that cannot be read, or of which something else goes wrong, are in ``failed``, with the reason.
    """
    inspector = _Inspector(segmenter, isolator, cracks, repair, report, tiles, plan)
    paths = photographs["path"].tolist()
    progress = _Progress(len(paths))
    seen: dict[str, str] = {}
    for number, path in enumerate(paths):
        records: list[Record] = []
        kept: list[str] = []
        failed: list[tuple[str, str, str]] = []
        try:
            photo_id = _photo_id(raw, path)
            if photo_id in seen:
                raise Undecodable("copy", f"same bytes as {seen[photo_id]}")
            if photo_id is not None and finished.key(path) == inspector.key(path, photo_id):
                kept.append(path)
            else:
                began = time.monotonic()
                photo_id, pixels = open_photograph(raw, path, mode="rgb", reading=reading)
                records.append(inspector.look(path, photo_id, pixels, time.monotonic() - began))
                del pixels
            if photo_id is not None:
                seen[photo_id] = path
        except Undecodable as why:
            failed.append((path, why.kind, why.reason))
        except MemoryError:
            failed.append((path, "memory", "it does not fit in memory: lower reading.max_pixels, or tiles.size"))
        except Exception as error:  # one odd photograph must not cost the others
            logger.debug("%s", path, exc_info=True)
            name = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            failed.append((path, "error", f"{name}{error}"))
        progress.step(path, kept=bool(kept), why=failed[0][2] if failed else None)
        yield RecordChunk(records, kept, failed, number, last=number + 1 == len(paths), root=raw.name)


def threshold_of(segmenter: Weights, cracks: Cracks) -> float:
    """Give the probability from which on a pixel is a crack: one of the levels in which probabilities are told."""
    if cracks.threshold is None:
        return float(segmenter.facts["threshold"])
    return min(max(round(cracks.threshold * LEVELS), 1), LEVELS - 1) / LEVELS


class _Inspector:
    """Looks at photographs in one way."""

    def __init__(
        self,
        segmenter: Weights,
        isolator: Isolator,
        cracks: Cracks,
        repair: Repair,
        report: Report,
        tiles: Tiles,
        plan: Plan,
    ) -> None:
        self._isolator, self._cracks, self._repair, self._report = isolator, cracks, repair, report
        self._network, self._tiles, self._plan = rebuild(segmenter), tiles_for(segmenter, tiles), plan
        self._mode = Image.model_validate(segmenter.facts["image"]).mode
        self._threshold = threshold_of(segmenter, cracks)
        parts: dict[str, BaseModel] = {
            "cracks": cracks,
            "repair": repair,
            "tiles": self._tiles,
        }
        self._settings = {
            **{name: part.model_dump(mode="json") for name, part in parts.items()},
            "pictures": [report.side, report.quality],
            "segmenter": segmenter.fingerprint(),
            "threshold": self._threshold,
            "format": _FORMAT,
        }

    def key(self, path: str, photo_id: str) -> str:
        """Identify what is found: another photograph, segmenter or parameter gives another key."""
        mine = {"photograph": photo_id, "foreground": self._isolator.settings(path)}
        decides = json.dumps({**self._settings, **mine}, sort_keys=True)
        return hashlib.blake2b(decides.encode(), digest_size=16).hexdigest()

    def look(self, path: str, photo_id: str, pixels: NDArray[np.uint8], seconds: float) -> Record:
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
        return Record(path, self.key(path, photo_id), facts, files)

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


def _photo_id(raw: Source, path: str) -> str | None:
    """Hash a file as ``open_photograph`` does; None where it cannot be read, which that one explains."""
    try:
        return hashlib.blake2b(raw.read(path), digest_size=16).hexdigest()
    except Exception:  # an object store raises anything
        return None


class _Clock:
    """Seconds by stage."""

    def __init__(self, **known: float) -> None:
        self.seconds = {name: round(value, 3) for name, value in known.items()}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 3)


class _Progress:
    """Logs how far the inspection is, and every photograph that fails."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._kept = total, 0, 0
        self._began = self._said = time.monotonic()

    def step(self, path: str, *, kept: bool, why: str | None) -> None:
        self._done += 1
        self._kept += kept
        if why is not None:
            logger.warning("%s is left out: %s", path, why)
        now = time.monotonic()
        if now - self._said > _SECONDS_BETWEEN_LINES or self._done == self._total:
            self._said = now
            new = self._done - self._kept
            left = (now - self._began) / new * (self._total - self._done) if new else 0.0
            logger.info(
                "inspected %s of %s photographs, %s of them in an earlier run; about %s s left",
                f"{self._done:,}",
                f"{self._total:,}",
                f"{self._kept:,}",
                f"{left:,.0f}",
            )
