"""Nodes of the ingestion: from a root of files to image stack, manifest, quarantine and partition."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import pandas as pd

from crack_pipeline.engines.blocks import Store
from crack_pipeline.engines.compute import Compute
from crack_pipeline.imaging import near_duplicates
from crack_pipeline.imaging.photograph_stack import IGNORED, PhotographChunk, PhotographStack
from crack_pipeline.imaging.stack import ImageChunk, Stack, StackPart
from crack_pipeline.pipelines.ingestion import partition as roles
from crack_pipeline.pipelines.ingestion.developing import DOUBTFUL, develop_all
from crack_pipeline.pipelines.ingestion.grouping import find_groups_there
from crack_pipeline.pipelines.ingestion.listing import MASK_FOLDER, ORPHAN_MASK, REJECTED, UNMARKED, Source, list_files
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Duplicates, Image, Presets, Reading, split_name
from crack_pipeline.pipelines.ingestion.partition import Partition
from crack_pipeline.pipelines.ingestion.splits import NO_SPLIT, SPLIT_LINE, apply_splits
from crack_pipeline.pipelines.ingestion.spreading import develop_there

logger = logging.getLogger(__name__)

COPY, CONFLICT = "copy", "conflict"
_MOSTLY_CRACK = 0.5
_HELD_OUT = {"test": 0, "validation": 1, "valid": 1, "val": 1}
HARMLESS = (COPY, DOUBTFUL, MASK_FOLDER, NO_SPLIT)
# A mask whose photograph is missing spoils nothing that is there, nor does an entry for a part of a data set that is
# not; where names do not fit each other, the photographs without a mask are what counts.
NO_PHOTOGRAPH = (ORPHAN_MASK, SPLIT_LINE)
MANIFEST = {
    "image_id": "str",
    "path": "str",
    "label": "str",
    "mask_path": "str",
    "width": "int64",
    "height": "int64",
    "group": "int64",
    "source": "str",
    "photo_id": "str",
    "row": "int64",
    "crack_pixels": "Int64",
}


def list_photographs(
    raw: Source, dataset: Dataset, presets: Presets, reading: Reading
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """List the labelled photographs under a root, without opening them.

    Parameters
    ----------
    raw
        The root.
    dataset
        Name of the preset that describes its layout.
    presets
        The presets that there are.
    reading
        The limits.

    Returns
    -------
    photographs : DataFrame
        ``path``, ``label`` (normal or crack; missing where it comes from the mask), ``mask_path``,
        ``source``, ``size`` in bytes; sorted by path.
    rejected : DataFrame
        ``path``, ``kind``, ``reason`` of the files that must not be read or have no place in the layout.

    Raises
    ------
    ValueError
        If there is no such preset.
    """
    return _list(raw, dataset, presets, reading, labelled=True)


def list_new_photographs(
    raw: Source, dataset: Dataset, presets: Presets, reading: Reading
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """List new photographs under a root, in whatever folders; as `list_photographs`, but unlabelled."""
    return _list(raw, dataset, presets, reading, labelled=False)


def decode_photographs(
    raw: Source,
    photographs: pd.DataFrame,
    dataset: Dataset,
    presets: Presets,
    image: Image,
    reading: Reading,
    parts: Store | None = None,
    compute: Compute | None = None,
) -> Iterator[ImageChunk | PhotographChunk | StackPart]:
    """Decode every photograph once, cut it into tiles where the preset says so, and take its fingerprint.

    Parameters
    ----------
    raw
        The root.
    photographs
        As `list_photographs` gives them.
    dataset, presets
        The layout.
    image
        The form in which the pictures are stored.
    reading
        The limits, and how many are read at a time.
    parts
        Where the workers of a cluster write; needed with one.
    compute
        Says which engine; without it this process does the work.

    Yields
    ------
    ImageChunk, PhotographChunk or StackPart
        Pictures, their masks where these are stored, fingerprints and tables of some hundred photographs; those
        that cannot be used are in its ``rejected``. Or, of a cluster, where it has written them.
    """
    preset = presets.named(dataset)
    if compute is None or parts is None or compute.engine == "local":
        yield from develop_all(raw, photographs, preset=preset, image=image, reading=reading)
    else:
        yield from develop_there(raw, photographs, preset, image, reading, parts, compute)


def group_near_duplicates(
    images: Stack, duplicates: Duplicates, blocks: Store | None = None, compute: Compute | None = None
) -> pd.DataFrame:
    """Find the photographs that show the same place.

    Parameters
    ----------
    images
        The stack, with the fingerprints of its photographs.
    duplicates
        Options of `imaging.near_duplicates.find_groups`.
    blocks
        Where the workers of a cluster write what they find; needed with one.
    compute
        Says which engine; without it this process does the work. The groups are the same.

    Returns
    -------
    DataFrame
        A row per photograph of the stack, in its order: ``photo_id`` and ``group``, the row of the group's
        first one.
    """
    photos = images.photos
    if compute is None or blocks is None or compute.engine == "local":
        group = near_duplicates.find_groups(images.fingerprints, **duplicates.model_dump())
    else:
        group = find_groups_there(images.fingerprints, duplicates, blocks, compute)
    return pd.DataFrame({"photo_id": photos["photo_id"], "group": np.asarray(group, np.int64)})


def keep_apart(images: Stack) -> pd.DataFrame:
    """Put every photograph into a group of its own; the table is that of `group_near_duplicates`."""
    photo_id = images.photos["photo_id"]
    return pd.DataFrame({"photo_id": photo_id, "group": np.arange(len(photo_id), dtype=np.int64)})


def build_manifest(images: Stack, groups: pd.DataFrame, rejected: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join what is known of every image to one table, and of every file that is left out to another.

    Of photographs with the very same bytes one stays: of a given split that is held out, if there is one, and of
    these the first by path. If their labels or masks differ, nobody knows which is right, and all go.

    Parameters
    ----------
    images
        The stack.
    groups
        ``group`` of each photograph, in the order of the stack.
    rejected
        What `list_photographs` already rejected.

    Returns
    -------
    candidates : DataFrame
        The manifest, before `check_quarantine` has agreed to it: a row per image with ``image_id``, ``path``,
        ``label``, ``mask_path``, ``width``, ``height`` (px), ``group``, ``source``, ``photo_id``, ``row`` (in
        the stack) and ``crack_pixels``.
    quarantine : DataFrame
        ``path``, ``reason``, ``kind`` of each file that is left out, sorted by path.
    """
    photos = images.photos.assign(group=groups["group"].to_numpy())
    copies = _find_copies(photos, images)
    index = images.index.assign(row=np.arange(len(images), dtype=np.int64))
    index = index[~index["photo"].isin(photos.index[photos["path"].isin(copies["path"])])]
    of_photo = photos[["path", "mask_path", "source", "group"]]
    candidates = index.join(of_photo, on="photo")[list(MANIFEST)].astype(MANIFEST).reset_index(drop=True)
    quarantine = pd.concat([rejected, images.rejected, copies], ignore_index=True).astype("str")
    quarantine = quarantine.sort_values(["path", "reason"], ignore_index=True)
    return candidates, quarantine[["path", "reason", "kind"]]


def check_quarantine(candidates: pd.DataFrame, quarantine: pd.DataFrame, reading: Reading) -> pd.DataFrame:
    """Accept the manifest unless too many files are bad.

    Parameters
    ----------
    candidates
        The manifest so far.
    quarantine
        ``path``, ``reason``, ``kind``. Byte copies, photographs whose tiles are all doubtful, and unless
        there are masks without a photograph, cracked ones without a mask, are not bad;
        masks without a photograph, and entries of split files, do not count at all.
    reading
        ``max_bad_share``.

    Returns
    -------
    DataFrame
        The manifest: the candidates.

    Raises
    ------
    ValueError
        If nothing is left, or the share of bad files is larger; the message counts the reasons.
    """
    counted = quarantine.loc[~quarantine["kind"].isin(NO_PHOTOGRAPH), "kind"]
    # Nobody drew masks for them; where masks are left over, their names may be wrong.
    harmless = HARMLESS if (quarantine["kind"] == ORPHAN_MASK).any() else (*HARMLESS, UNMARKED)
    bad = int((~counted.isin(harmless)).sum())
    photographs = candidates["path"].nunique()
    files = photographs + len(counted)
    if not photographs and quarantine.empty:
        raise ValueError(
            "there is no photograph under the root: raw_root must name a folder or an archive that holds some "
            "(hidden files and masks do not count)"
        )
    counts = _counted(quarantine["kind"])
    examples = "; ".join(f"{row.path}: {row.reason}" for row in quarantine.head(3).itertuples())
    where = f"The quarantine table names each, for example: {examples}"
    if not photographs:
        raise ValueError(f"no photograph is left of {files:,} files ({counts}). {where}")
    if bad > reading.max_bad_share * files:
        raise ValueError(
            f"{bad:,} of {files:,} files are bad, a share of {bad / files:.2f}; reading.max_bad_share is "
            f"{reading.max_bad_share:g} ({counts}). {where}"
        )
    cracked = candidates[candidates["crack_pixels"].fillna(0) > 0]
    shares = (cracked["crack_pixels"] / (cracked["width"] * cracked["height"])).to_numpy(np.float64)
    if len(shares) and np.median(shares) > _MOSTLY_CRACK:
        logger.warning(
            "in most masks the crack covers more than half of the photograph: is it the background that is white? "
            "presets.<name>.mask_values says which values mean crack"
        )
    logger.info(
        "%s images of %s photographs in %s groups (%s), %s quarantined%s",
        f"{len(candidates):,}",
        f"{photographs:,}",
        f"{candidates['group'].nunique():,}",
        _counted(candidates["label"].fillna("unlabelled")),
        f"{len(quarantine):,}",
        f" ({counts})" if counts else "",
    )
    return candidates


def assign_roles(
    manifest: pd.DataFrame,
    known_partition: pd.DataFrame | None,
    partition: Partition,
) -> pd.DataFrame:
    """Give every image its role; see `partition.assign_roles`.

    Parameters
    ----------
    manifest
        A row per image.
    known_partition
        The partition of an earlier run, whose images keep their roles, or None.
    partition
        The shares of the roles. Tiles of one photograph, cracked and sound, share its role, so where the images are
        tiles, photographs are drawn by the shares of the normal ones alone.

    Returns
    -------
    DataFrame
        ``image_id``, ``role``, ``group`` and ``rule``, a row per image.
    """
    tiled = bool((manifest["image_id"] != manifest["photo_id"]).any())
    return roles.assign_roles(manifest, known_partition, partition.of_photographs() if tiled else partition)


def remember_roles(partition: pd.DataFrame, known_partition: pd.DataFrame | None) -> pd.DataFrame:
    """Remember every role ever given, so that no other folder read in between changes one; see `partition`."""
    return roles.remember_roles(partition, known_partition)


def prove_disjoint(manifest: pd.DataFrame, partition: pd.DataFrame) -> pd.DataFrame:
    """Prove that no image and no near-duplicate group is in two roles.

    Parameters
    ----------
    manifest
        A row per image.
    partition
        Its role.

    Returns
    -------
    DataFrame
        What each role holds, as `partition.check_disjoint` counts it.

    Raises
    ------
    ValueError
        If one is in two roles.
    """
    proof = roles.check_disjoint(manifest, partition)
    labelled = manifest[["image_id", "label"]].merge(partition[["image_id", "role"]], on="image_id")
    logger.info("roles, proven disjoint: %s", _counted(labelled["role"] + " " + labelled["label"]))
    return proof


def _list(
    raw: Source, dataset: Dataset, presets: Presets, reading: Reading, *, labelled: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    preset = presets.named(dataset)
    if labelled and preset.label_from == "none":
        raise ValueError(
            f"dataset={dataset.root} has no labels, and this pipeline needs them: choose a preset with labels from "
            "folders or masks, or run a pipeline that ends in _predict, which takes photographs without labels"
        )
    photographs, rejected = list_files(raw.list(), preset, labelled=labelled, max_bytes=reading.max_bytes)
    if labelled:
        photographs, rejected = apply_splits(photographs, rejected, raw, preset)
    logger.info(
        "%s photographs of %s (%s), %s files rejected unread",
        f"{len(photographs):,}",
        raw.name,
        dataset.root,
        f"{len(rejected):,}",
    )
    return photographs, rejected


def _find_copies(photos: pd.DataFrame, images: Stack) -> pd.DataFrame:
    """Photographs with the bytes of another one: ``path``, ``kind``, ``reason``."""
    found = []
    repeated = photos[photos["photo_id"].duplicated(keep=False)]
    for _, same in repeated.groupby("photo_id", sort=False):
        held_out = same["source"].map(split_name).map(_HELD_OUT).fillna(len(_HELD_OUT))
        same = same.iloc[np.argsort(held_out, kind="stable")]
        first = same["path"].iloc[0]
        if len(set(same["label"].dropna())) > 1:
            said = ", ".join(f"{row.path} says {row.label}" for row in same.head(4).itertuples())
            found += [(path, CONFLICT, f"the same bytes with different labels: {said}") for path in same["path"]]
        elif not _masks_agree(images, same.index):
            of = ", ".join(same["mask_path"].dropna().head(4))
            found += [(path, CONFLICT, f"the same bytes with different masks: {of}") for path in same["path"]]
        else:
            found += [(path, COPY, f"same bytes as {first}") for path in same["path"].iloc[1:]]
    return pd.DataFrame(found, columns=list(REJECTED))


def _masks_agree(images: Stack, photos: pd.Index) -> bool:
    """Whether masks that are stored say the same of photographs that are the same."""
    if not isinstance(images, PhotographStack) or not images.has_masks:
        return True
    masks = [images.mask(int(row)) for row in np.flatnonzero(images.index["photo"].isin(photos))]
    said = [mask for mask in masks if (mask != IGNORED).any()]  # where nothing is known, nothing is contradicted
    return all(np.array_equal(said[0], mask) for mask in said[1:])


def _counted(values: pd.Series) -> str:
    counts = values.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    return ", ".join(f"{n:,} {value}" for value, n in counts.items())
