"""Where the cracks of photographs are: by masks, by labels, or by a segmenter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation.segmentation_counts import level_of
from crack_pipeline.imaging.decoding import Mode, StorageLostError, Undecodable, Unreadable, convert
from crack_pipeline.imaging.photograph_stack import CRACK
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion import nodes as ingestion
from crack_pipeline.pipelines.ingestion.developing import open_photograph
from crack_pipeline.pipelines.ingestion.listing import MASK, NO_MASK, UNMARKED, Source
from crack_pipeline.pipelines.ingestion.masks import read_mask
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Preset, Presets, Reading
from crack_pipeline.pipelines.inpainting.parameters import Cracks
from crack_pipeline.pipelines.segmentation.predicting import levels
from crack_pipeline.pipelines.segmentation.training import rebuild, tiles_for
from crack_pipeline.pipelines.trained import Loader, Registry, Trained, choose, load_if_there
from crack_pipeline.training.segmenting import Tiles

BY_MASK, BY_LABEL, BY_SEGMENTER = "mask", "label", "segmenter"


@dataclass(frozen=True)
class Models:
    """The trained models that there are, or None."""

    segmenter: Weights | None
    detector: Weights | None
    name: str = ""
    """What the segmenter is called: the pipeline that trained it, and its version where it is a registered one."""


class Marked(NamedTuple):
    """A photograph whose cracks are known."""

    photo_id: str
    pixels: NDArray[np.uint8]
    """(H, W, 3)."""
    crack: NDArray[np.bool_]
    """(H, W)."""
    source: str
    """``mask``, ``label`` (it is said to be sound) or ``segmenter``."""


def list_photographs(
    raw: Source, dataset: Dataset, presets: Presets, reading: Reading, cracks: Cracks
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """List the photographs under a root, with their masks where these are to say where the cracks are.

    Returns
    -------
    photographs : DataFrame
        ``path``, ``label``, ``mask_path``; sorted by path.
    rejected : DataFrame
        ``path``, ``kind``, ``reason`` of those that cannot be used.

    Raises
    ------
    ValueError
        If there is no such preset, none with masks where only masks are to be used, or no photograph.
    """
    unlabelled = presets.named(dataset).label_from == "none"
    if unlabelled and cracks.source == "masks":
        raise ValueError(
            f"dataset={dataset} has no masks: set inpainting.cracks.source to segmenter, or name another one"
        )
    if unlabelled or cracks.source == "segmenter":
        photographs, rejected = ingestion.list_new_photographs(raw, dataset, presets, reading)
        photographs = photographs.assign(label=None, mask_path=None)
    else:
        photographs, rejected = ingestion.list_photographs(raw, dataset, presets, reading)
        unmarked = photographs["mask_path"].isna() & (photographs["label"] != "normal")
        without = rejected["kind"] == NO_MASK
        if cracks.source == "auto":
            more = rejected.loc[without, ["path"]].assign(label=None, mask_path=None)
            photographs, rejected = pd.concat([photographs, more], ignore_index=True), rejected[~without]
        else:
            reason = f"no mask says where: inpainting.cracks.source is {cracks.source}"
            left_out = photographs.loc[unmarked, ["path"]].assign(kind=UNMARKED, reason=reason)
            photographs, rejected = photographs[~unmarked], pd.concat([rejected, left_out], ignore_index=True)
    if photographs.empty:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in rejected["kind"].value_counts().items())
        raise ValueError(
            f"no photograph under the root can be repaired ({kinds or 'it holds none'}): name its layout with "
            "dataset=, or take photographs in any folders with inpainting.cracks.source=segmenter"
        )
    table = photographs[["path", "label", "mask_path"]].astype(object)
    return table.where(table.notna(), None).sort_values("path", ignore_index=True), rejected.reset_index(drop=True)


def find_models(
    photographs: pd.DataFrame,
    segmentation: Loader,
    weak_segmentation: Loader,
    label_free: Loader,
    detector: Loader,
    registry: Registry,
    cracks: Cracks,
) -> Models:
    """Load the models that there are.

    Parameters
    ----------
    photographs
        Decide whether there must be a segmenter.
    segmentation, weak_segmentation, label_free
        Load the segmenters of these pipelines.
    detector
        Loads that of the pipeline ``anomaly``.
    registry
        Where registered segmenters are.
    cracks
        Which segmenter.

    Raises
    ------
    ValueError
        If a segmenter is needed, and there is none, or what is registered is none. Whatever a store raises if the one
        that is named is missing.
    """
    loaders: Mapping[Trained, Loader] = {
        "segmentation": segmentation,
        "weak_segmentation": weak_segmentation,
        "label_free": label_free,
    }
    chosen = choose(cracks.segmenter, loaders, registry)
    needed = bool((photographs["mask_path"].isna() & (photographs["label"] != "normal")).any())
    if chosen is None and needed:
        raise ValueError(
            "no mask says where the cracks of some photographs are, and no segmenter is trained: run one of the "
            f"pipelines {', '.join(loaders)} first, or leave those photographs out with inpainting.cracks.source=masks"
        )
    name, segmenter = chosen or ("", None)
    return Models(segmenter, load_if_there("anomaly", detector), name)


@dataclass(frozen=True)
class Segmenter:
    """A trained segmenter, ready for photographs."""

    weights: Weights
    tiles: Tiles
    plan: Plan

    @cached_property
    def _network(self) -> Any:
        return rebuild(self.weights)

    @cached_property
    def _tiles(self) -> Tiles:
        return tiles_for(self.weights, self.tiles)

    def find(self, pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Find the cracks of a photograph (H, W, 3): (H, W)."""
        mode: Mode = self.weights.facts["image"]["mode"]
        found = levels(self._network, convert(pixels, mode), self.plan, self._tiles)
        return np.asarray(found >= level_of(float(self.weights.facts["threshold"])))


@dataclass(frozen=True)
class Marker:
    """Opens photographs and says where their cracks are."""

    raw: Source
    preset: Preset
    reading: Reading
    segmenter: Segmenter | None

    def open(self, path: str, label: str | None, mask_path: str | None) -> Marked:
        """Open one photograph.

        Raises
        ------
        Undecodable
            If it or its mask cannot be used.
        """
        photo_id, pixels = open_photograph(self.raw, path, mode="rgb", reading=self.reading)
        shape = (pixels.shape[0], pixels.shape[1])
        if mask_path:
            try:
                data = self.raw.read(mask_path)
            except StorageLostError:
                raise
            except Exception as error:  # an object store raises anything
                raise Unreadable(MASK, f"its mask {mask_path} cannot be read: {error}") from None
            crack = read_mask(data, shape, self.preset.mask_values, self.reading) == CRACK
            return Marked(photo_id, pixels, np.asarray(crack), BY_MASK)
        if label == "normal":
            return Marked(photo_id, pixels, np.zeros(shape, np.bool_), BY_LABEL)
        if self.segmenter is None:
            raise Undecodable(NO_MASK, "no mask, and no segmenter")
        return Marked(photo_id, pixels, self.segmenter.find(pixels), BY_SEGMENTER)
