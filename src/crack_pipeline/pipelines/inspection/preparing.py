"""Nodes that gather what an inspection needs before any photograph is looked at."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from crack_pipeline.imaging.foreground import Foreground
from crack_pipeline.imaging.scale import Optics, Scale, read_scales
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.listing import Source
from crack_pipeline.pipelines.inspection.parameters import Model, Scales
from crack_pipeline.pipelines.trained import Loader, Registry, Trained, choose

logger = logging.getLogger(__name__)

OPTICS = tuple(Optics.model_fields)


def choose_segmenter(
    model: Model, of_segmentation: Loader, of_weak_segmentation: Loader, of_label_free: Loader, registry: Registry
) -> tuple[Weights, str]:
    """Give the segmenter that the parameters name, and what the report is to call it.

    Raises
    ------
    ValueError
        If none is trained, or what is registered is no segmenter. What a store raises if the one that is named is
        missing says how to train it.
    """
    loaders: dict[Trained, Loader] = {
        "segmentation": of_segmentation,
        "weak_segmentation": of_weak_segmentation,
        "label_free": of_label_free,
    }
    found = choose(model.root, loaders, registry)
    if found is None:
        raise ValueError(f"no segmenter is trained: run one of the pipelines {', '.join(loaders)} first")
    name, segmenter = found
    return segmenter, name


def read_scale(raw: Source, listed: pd.DataFrame, scale: Scales, foreground: Foreground) -> pd.DataFrame:
    """Find out how large what each photograph shows is.

    Parameters
    ----------
    raw
        The root.
    listed
        The photographs under it: ``path``.
    scale
        Where the scale comes from.
    foreground
        Names the table of prompts, which is no photograph either.

    Returns
    -------
    pandas.DataFrame
        The photographs, without the tables among them, and of each ``millimetres_per_pixel`` or what it
        follows from (``distance_m``, ``focal_length_mm``, ``sensor_width_mm``), missing where nothing is known.

    Raises
    ------
    ValueError
        If there is no photograph, the table is wrong, whose row the message names, or cannot be read, or one that was
        asked for is missing.
    """
    photographs = listed[~listed["path"].isin([scale.file, foreground.prompts])].reset_index(drop=True)
    if photographs.empty:
        raise ValueError(f"there is no photograph in {raw.name}")
    paths = photographs["path"].tolist()
    found: dict[str, Scale] = {}
    if _is_there(raw, scale):
        found = read_scales(_read(raw, scale.file), paths, scale.file)
        logger.info("%s gives the scale of %s of %s photographs", scale.file, f"{len(found):,}", f"{len(paths):,}")
    scales = [found.get(path, scale.common) for path in paths]
    direct = [of if isinstance(of, float) else np.nan for of in scales]
    optics = {name: [getattr(of, name) if isinstance(of, Optics) else np.nan for of in scales] for name in OPTICS}
    return photographs.assign(
        millimetres_per_pixel=np.array(direct, np.float64), **pd.DataFrame(optics, dtype=np.float64)
    )


def _is_there(raw: Source, scale: Scales) -> bool:
    """Say whether there is a table of scales; one that cannot be read, or is called nearly so, is an error."""
    for path, _, kind, reason, *_ in raw.list():
        if path == scale.file:
            if kind:
                raise ValueError(f"{scale.file} in {raw.name} cannot be read: {reason}")
            return True
        if path.lower() == scale.file.lower():
            raise ValueError(f"{raw.name} holds {path}: call it {scale.file}, or name it with inspection.scale.file")
    if scale.file != Scales.model_fields["file"].default:
        raise ValueError(f"there is no {scale.file} in {raw.name}: inspection.scale.file is relative to the root")
    return False


def _read(raw: Source, file: str) -> bytes:
    try:
        return raw.read(file)
    except OSError as error:
        raise ValueError(f"{file} in {raw.name} cannot be read: {error}") from error
