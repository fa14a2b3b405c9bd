"""Nodes that take from photographs, and from their masks, no more than labels of squares."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.imaging import tiling
from crack_pipeline.imaging.labelled_squares import LabelledSquares
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.pipelines.ingestion.masks import clear_tiles
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Presets, Tiling
from crack_pipeline.pipelines.steps import check_same_run, require_roles, rows_of, select
from crack_pipeline.pipelines.weak_segmentation.parameters import Squares

logger = logging.getLogger(__name__)

Cut = tuple[NDArray[np.int64], NDArray[np.bool_]]
"""Boxes (n, 4) and labels (n,) of one photograph."""


def label_squares(
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    squares: Squares,
    dataset: Dataset,
    presets: Presets,
) -> tuple[LabelledSquares, LabelledSquares]:
    """Give the squares of the roles ``train`` and ``validation``, with their labels and without their masks.

    Parameters
    ----------
    images, manifest, partition
        Photographs, with the masks that there are.
    squares
        How they are cut, and how many there must be.
    dataset, presets
        Say whether folders or masks give the labels.

    Returns
    -------
    tuple of LabelledSquares
        To learn from, and to validate on.

    Raises
    ------
    ValueError
        If a role has no photographs, or too few squares of a label to learn anything from, or nothing could be
        measured on the role ``test``: no time is to be spent on the others then.
    """
    check_same_run(images, manifest)
    require_roles(manifest, partition, ("train", "validation", "test"))
    preset = presets.named(dataset)
    whole = preset.label_from != "mask"
    found = {}
    for role, least in (("train", squares.least), ("validation", 1)):
        table = _draw(select(manifest, partition, [role]), squares)
        if len(table) < least:
            raise ValueError(
                f"there are {len(table):,} photographs of the role {role}, too few to teach what a crack is: add some "
                f"(weak_segmentation.squares.least asks for {least:,})"
            )
        cutting = preset.tiling or squares.tiling
        cuts = [
            _whole(images, row, label) if whole else _cut(images, row, cutting)
            for row, label in zip(table["row"].tolist(), table["label"].tolist(), strict=True)
        ]
        largest = int(images.sizes[rows_of(table)].min(axis=1).max())
        if not whole and largest < cutting.size:
            raise ValueError(
                f"all {len(table):,} photographs of the role {role} are smaller than a square of {cutting.size} px: "
                f"lower weak_segmentation.squares.tiling.size (or that of the preset) to {largest} px or less"
            )
        labelled = _join(images, table, cuts)
        _check(labelled, role, least, whole=whole)
        found[role] = _turned(labelled, squares)
    if select(manifest, partition, ["test"])["crack_pixels"].isna().all():
        raise ValueError(
            "none of the photographs of the role test is sound or has a mask, so nothing could be measured: add some, "
            "or change the partition"
        )
    return found["train"], found["validation"]


def fingerprint_labels(train_squares: LabelledSquares, validation_squares: LabelledSquares) -> dict[str, Any]:
    """Identify what is learned from: any other photograph, square or label gives another fingerprint.

    Returns
    -------
    dict
        ``fingerprint`` (hex), ``images`` (photographs) and ``roles``: photographs or squares per role and label.
    """
    digest = hashlib.blake2b(digest_size=16)
    roles: dict[str, int] = {}
    photographs = 0
    for role, squares in (("train", train_squares), ("validation", validation_squares)):
        what = "photographs" if squares.whole_photographs else "squares"
        digest.update("\n".join([role, *squares.photo_ids.tolist()]).encode())
        for array in (squares.rows, squares.boxes, squares.cracked):
            digest.update(np.ascontiguousarray(array).tobytes())
        photographs += len(squares.photograph_rows)
        for kind, number in (("cracked", squares.cracked.sum()), ("sound", (~squares.cracked).sum())):
            roles[f"{role} {what} {kind}"] = int(number)
    return {"fingerprint": digest.hexdigest(), "images": photographs, "roles": roles}


def _draw(table: pd.DataFrame, squares: Squares) -> pd.DataFrame:
    """Leave so many photographs, half of either label as far as there are so many, in the order of the stack."""
    if len(table) <= squares.most:
        return table
    order = np.random.default_rng([squares.seed, 1]).permutation(len(table))
    label = table["label"].to_numpy()[order] == "crack"
    rank = np.where(label, np.cumsum(label), np.cumsum(~label))
    return table.iloc[np.sort(order[np.argsort(rank, kind="stable")][: squares.most])].reset_index(drop=True)


def _whole(images: PhotographStack, row: int, label: str) -> Cut:
    height, width = images.sizes[row].tolist()
    return np.array([[0, 0, height, width]], np.int64), np.array([label == "crack"])


def _cut(images: PhotographStack, row: int, cutting: Tiling) -> Cut:
    """Cut squares, and take from the mask whether each is cracked; doubtful ones are left out."""
    mask, size = images.mask(row), cutting.size
    corners = tiling.grid(mask.shape[0], mask.shape[1], size, cutting.stride, cover=cutting.cover)
    keep, inside = clear_tiles(mask, corners, cutting)
    return np.column_stack([corners, np.full_like(corners, size)])[keep], inside[keep] > 0


def _turned(labelled: LabelledSquares, squares: Squares) -> LabelledSquares:
    """Turn a share of the labels into their contrary."""
    if not squares.wrong:
        return labelled
    cracked = labelled.cracked.copy()
    drawn = np.random.default_rng([squares.seed, 2]).permutation(len(cracked))[: round(squares.wrong * len(cracked))]
    cracked[drawn] ^= True
    logger.warning("%s of %s labels are turned into their contrary", f"{len(drawn):,}", f"{len(cracked):,}")
    return replace(labelled, cracked=cracked)


def _join(images: PhotographStack, table: pd.DataFrame, cuts: list[Cut]) -> LabelledSquares:
    numbers = [len(labels) for _, labels in cuts]
    cracked = np.concatenate([np.empty(0, np.bool_), *(labels for _, labels in cuts)])
    return LabelledSquares(
        images.without_masks(),
        np.repeat(table["row"].to_numpy(np.int64), numbers),
        np.concatenate([np.empty((0, 4), np.int64), *(boxes for boxes, _ in cuts)]),
        cracked,
        np.repeat(table["photo_id"].to_numpy(np.str_), numbers),
    )


def _check(labelled: LabelledSquares, role: str, least: int, *, whole: bool) -> None:
    what = "photographs" if whole else "squares"
    for kind, number in (("with", labelled.cracked.sum()), ("without", (~labelled.cracked).sum())):
        if number < least:
            needed = f"; weak_segmentation.squares.least asks for {least:,}" if least > 1 else ""
            raise ValueError(
                f"the role {role} has {number:,} {what} {kind} a crack{needed}: labels can only teach what a crack is "
                f"where there are enough {what} of both kinds; add photographs {kind} cracks"
                + (", or change the partition" if role == "validation" else "")
            )
    logger.info(
        "%s: %s %s with a crack and %s without one",
        role,
        f"{labelled.cracked.sum():,}",
        what,
        f"{(~labelled.cracked).sum():,}",
    )
