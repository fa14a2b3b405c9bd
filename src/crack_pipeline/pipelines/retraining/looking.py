"""Nodes that find out what is new under a root, against what the newest version of a model was made with.

What is new is not judged by the tables of the ingestion, which a run that was killed may have written anew. It is
judged by a record that a retraining writes last, and by the tags of versions: the MLflow run of a retraining is tagged
with a hash of the photographs before the training begins, so that whoever finds the version knows what it was made of.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from crack_pipeline.models.registered import Contenders, Newest
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.ingestion.listing import Source
from crack_pipeline.pipelines.ingestion.nodes import list_photographs
from crack_pipeline.pipelines.ingestion.ordered import Hold, in_order
from crack_pipeline.pipelines.ingestion.parameters import Dataset, Image, Presets, Reading
from crack_pipeline.pipelines.ingestion.partition import LABELS, ROLES
from crack_pipeline.pipelines.retraining.parameters import Retraining

logger = logging.getLogger(__name__)

KNOWN = ("photo_id", "path", "label", "mask_path", "mask_id", "size", "mask_size", "version")
CHANGES = ("change", "path", "before", "now")
NEW, LABEL, MASK, LOST = "new", "label changed", "mask changed", "gone"
_WORDS = {NEW: "new", LABEL: "with another label", MASK: "with another mask", LOST: "gone"}
_UNREADABLE = "unreadable"


class Versions(Protocol):
    """Registered models."""

    def newest(self, model: str) -> Newest | None:
        """Describe the newest version of a model."""

    def contenders(self, model: str, version: int | None = None) -> Contenders:
        """Load the newest version and the one in use."""


@dataclass(frozen=True)
class News:
    """What is new under a root.

    Attributes
    ----------
    photographs
        A row per photograph under the root: `KNOWN` without ``version``.
    known
        A row per photograph that was there before, with the columns of `KNOWN`; empty if nothing is known.
    changes
        A row per difference: `CHANGES`.
    fingerprint
        Hash of contents, labels and masks of the photographs.
    newest
        The newest version; None if there is none.
    train
        Whether there is something to train on.
    """

    photographs: pd.DataFrame
    known: pd.DataFrame
    changes: pd.DataFrame
    fingerprint: str
    newest: Newest | None
    train: bool

    @property
    def pending(self) -> bool:
        """Whether a version waits for its decision, and nothing else is to be done."""
        return self.newest is not None and not self.newest.decided and not self.train

    @property
    def new(self) -> frozenset[str]:
        """photo_id of every photograph that was not there before."""
        return frozenset(self.photographs["photo_id"]) - frozenset(self.known["photo_id"])

    @property
    def tags(self) -> dict[str, str]:
        """What the MLflow run is tagged with."""
        return {"retraining.photographs": self.fingerprint, "retraining.news": self.said}

    @property
    def said(self) -> str:
        """The differences in words."""
        counts = self.changes["change"].value_counts()
        said = [f"{counts[kind]:,} {words}" for kind, words in _WORDS.items() if kind in counts]
        return f"of {len(self.photographs):,} photographs {', '.join(said)}" if said else "nothing is new"


def look(
    raw: Source,
    record: pd.DataFrame | None,
    manifest_before: pd.DataFrame | None,
    partition_before: pd.DataFrame | None,
    registry: Versions,
    dataset: Dataset,
    presets: Presets,
    reading: Reading,
    image: Image,
    retraining: Retraining,
    *,
    model: str,
) -> tuple[News, pd.DataFrame]:
    """Find out what is new under a root, without decoding a photograph.

    Parameters
    ----------
    raw
        The root.
    record
        What the last retraining of this model left, or None.
    manifest_before, partition_before
        What the last ingestion left, or None; believed only where it is what the newest version was made with.
    registry
        Registered models.
    dataset, presets, reading, image
        As for the ingestion of the model.
    retraining
        Options.
    model
        Name of the registered model.

    Returns
    -------
    news : News
        What is new.
    known : DataFrame
        The record as it is known now.

    Raises
    ------
    ValueError
        If more of the known photographs are gone than may be.
    """
    photographs, _ = list_photographs(raw, dataset, presets, reading)
    masked = bool(image.masks) or presets.named(dataset).label_from == "mask"
    newest = registry.newest(model)
    remembered = record if record is not None else pd.DataFrame({name: [] for name in KNOWN}).astype(object)
    found = read_root(raw, photographs, remembered, reading, reread=retraining.reread, masked=masked)
    fingerprint = fingerprint_of(found)
    known = _still_there(remembered, newest, model)
    if newest is not None and newest.photographs is None and not (known["version"] == newest.version).any():
        weights = registry.contenders(model).challenger.weights
        if _made_with(weights, manifest_before, partition_before):
            assert manifest_before is not None
            known = _from_manifest(manifest_before, known, found, newest.version)
        else:
            logger.warning(
                "what version %d of %s was made with is not known any more: the ingestion has run since",
                newest.version,
                model,
            )
    made_with_these = newest is not None and newest.photographs == fingerprint
    if newest is not None and made_with_these and newest.decided:
        known = as_record(found, newest.version)  # a run was killed between decision and record
    undecidable = newest is not None and not newest.decided and (manifest_before is None or partition_before is None)
    if newest is not None and undecidable:
        logger.warning(
            "what was ingested for version %d of %s is gone, so it cannot be decided about: all photographs count as "
            "new",
            newest.version,
            model,
        )
        known = known.iloc[:0]
    changes = compare(known, found)
    _check_losses(changes, known, retraining)
    something = bool(changes["change"].isin((NEW, LABEL, MASK)).any())
    train = newest is None or undecidable or (something and not made_with_these)
    news = News(found, known, changes, fingerprint, newest, train)
    logger.info("%s: %s", model, news.said)
    return news, known


def read_root(
    raw: Source,
    photographs: pd.DataFrame,
    known: pd.DataFrame,
    reading: Reading,
    *,
    reread: bool = True,
    masked: bool = True,
) -> pd.DataFrame:
    """Take the hash of every photograph under a root, and of every mask.

    Parameters
    ----------
    raw
        The root.
    photographs
        As `pipelines.ingestion.nodes.list_photographs` gives them.
    known
        A record, whose hashes are taken over where ``reread`` is False and path and sizes are the same.
    reading
        How many files are read at a time, and with how much memory.
    reread
        Whether files are read whose path and size are known.
    masked
        Whether masks matter.

    Returns
    -------
    DataFrame
        `KNOWN` without ``version``; photographs whose file cannot be read are left out.
    """
    sizes = {path: size for path, size, *_ in raw.list()} if masked or not reread else {}
    table = photographs[["path", "label", "mask_path", "size"]].copy()
    if not masked:
        table["mask_path"] = pd.Series([None] * len(table), index=table.index, dtype="str")
    table["mask_size"] = table["mask_path"].map(sizes).fillna(0).astype("int64")
    table["photo_id"], table["mask_id"] = pd.Series(dtype="str"), pd.Series(dtype="str")
    if not reread and len(known):
        on = ["path", "mask_path", "size", "mask_size"]
        before = known[[*on, "photo_id", "mask_id"]].drop_duplicates(on)
        before = before.assign(mask_path=before["mask_path"].fillna("").astype(str)).set_index(on)
        keys = pd.MultiIndex.from_frame(table[on].assign(mask_path=table["mask_path"].fillna("")))
        for name in ("photo_id", "mask_id"):
            table[name] = before[name].reindex(keys).to_numpy()
    missing = table.index[table["photo_id"].isna()]
    rows = list(table.loc[missing, ["path", "mask_path"]].itertuples(index=False, name=None))

    def hashes(row: tuple[str, Any], hold: Hold) -> tuple[str, str | None]:
        path, mask = row
        return _hash(raw, path), None if pd.isna(mask) else _hash(raw, mask)

    done = [found for _, found in in_order(hashes, rows, workers=reading.workers, room=reading.room)]
    table.loc[missing, "photo_id"] = [photo for photo, _ in done]
    table.loc[missing, "mask_id"] = [mask for _, mask in done]
    readable = table["photo_id"] != _UNREADABLE
    if not readable.all():
        logger.warning("%s photographs cannot be read", f"{int((~readable).sum()):,}")
    unknown = readable & (table["mask_id"] == _UNREADABLE)
    if unknown.any():
        logger.warning("%s masks cannot be read: they count as if they were not there", f"{int(unknown.sum()):,}")
    table["mask_id"] = table["mask_id"].where(table["mask_id"] != _UNREADABLE)
    texts = dict.fromkeys(("photo_id", "path", "label", "mask_path", "mask_id"), "str")
    return table.loc[readable, list(KNOWN[:-1])].astype(texts).reset_index(drop=True)


def fingerprint_of(photographs: pd.DataFrame) -> str:
    """Identify photographs by contents, labels and masks, wherever they lie: hex."""
    table = photographs[["photo_id", "label", "mask_id"]].fillna("").astype(str)
    rows = sorted(set(table.agg(" ".join, axis=1))) if len(table) else []
    return hashlib.blake2b("\n".join(rows).encode(), digest_size=16).hexdigest()


def compare(known: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """List the differences between what is known and what there is, by content: what was moved or copied is the same.

    Parameters
    ----------
    known, found
        Rows with ``photo_id``, ``path``, ``label`` and ``mask_id``. A missing label says nothing, nor does a mask that
        is missing now; where there was none before, a mask is news.

    Returns
    -------
    DataFrame
        `CHANGES`, the new ones first.
    """
    before, now = (_by_photograph(table) for table in (known, found))
    rows = [(NEW, one["path"], "", "") for photo, one in now.items() if photo not in before]
    for what, name in ((LABEL, "label"), (MASK, "mask_id")):
        for photo, one in now.items():
            there = before.get(photo)
            if there is None or not one[name] or there[name] == one[name]:
                continue
            if there[name] or what == MASK:
                rows.append((what, one["path"], _said(there[name]), _said(one[name])))
    rows += [(LOST, one["path"], "", "") for photo, one in before.items() if photo not in now]
    return pd.DataFrame(rows, columns=list(CHANGES)).astype("str")


def _by_photograph(table: pd.DataFrame) -> Mapping[str, Mapping[str, Any]]:
    """Give path, labels and masks of each content; copies may contradict each other."""
    found: dict[str, dict[str, Any]] = {}
    for row in table[["photo_id", "path", "label", "mask_id"]].itertuples(index=False):
        one = found.setdefault(str(row.photo_id), {"path": row.path, "label": set(), "mask_id": set()})
        for name in ("label", "mask_id"):
            value = getattr(row, name)
            one[name] |= set() if pd.isna(value) or value == "" else {str(value)}
    return found


def _said(values: set[str]) -> str:
    return " and ".join(sorted(values))


def _hash(raw: Source, path: str) -> str:
    try:
        return hashlib.blake2b(raw.read(path), digest_size=16).hexdigest()
    except Exception:  # an object store raises anything
        return _UNREADABLE


def _still_there(remembered: pd.DataFrame, newest: Newest | None, model: str) -> pd.DataFrame:
    """Forget a record of a version that somebody has deleted since: nothing that is left was made with it."""
    if not len(remembered) or (newest is not None and remembered["version"].max() <= newest.version):
        return remembered
    logger.warning(
        "version %d of %s, which the record of known photographs is of, is in the registry no longer: all photographs "
        "count as new",
        remembered["version"].max(),
        model,
    )
    return remembered.iloc[:0]


def _made_with(weights: Weights, manifest: pd.DataFrame | None, partition: pd.DataFrame | None) -> bool:
    """Whether the tables that there are are those that a model was made with: what it knows of them agrees."""
    if manifest is None or partition is None:
        return False
    table = manifest[["image_id", "photo_id", "label"]].merge(partition[["image_id", "role"]], on="image_id")
    learned = set(table.loc[table["role"].isin(("train", "validation")), "photo_id"])
    if len(table) != len(manifest) or not set(weights.facts.get("learned_from", ())) <= learned:
        return False
    said = weights.facts.get("data", {}).get("roles", {})
    if not set(said) <= {f"{role} {label}" for role in ROLES for label in LABELS}:
        return True  # a training that counts something else than photographs
    return dict(said) == (table["role"] + " " + table["label"]).value_counts().to_dict()


def _from_manifest(manifest: pd.DataFrame, remembered: pd.DataFrame, found: pd.DataFrame, version: int) -> pd.DataFrame:
    """Make a record of what an ingestion has written; of masks it is believed that they are what they were."""
    masks = found.drop_duplicates("photo_id").set_index("photo_id")["mask_id"]
    rows = manifest.drop_duplicates("photo_id")[["photo_id", "path", "label", "mask_path"]]
    sizes = found.drop_duplicates("path").set_index("path")[["size", "mask_size"]]
    rows = rows.assign(
        mask_id=rows["photo_id"].map(masks).where(rows["mask_path"].notna()),
        size=rows["path"].map(sizes["size"]).fillna(-1).astype("int64"),
        mask_size=rows["path"].map(sizes["mask_size"]).fillna(-1).astype("int64"),
        version=version,
    )
    # The label that a mask gives is not what the scan knows, and tiles have one each
    rows["label"] = rows["label"].where(~rows["photo_id"].isin(found.loc[found["label"].isna(), "photo_id"]))
    # Those that could not be used
    beside = remembered["photo_id"].isin(found["photo_id"]) & ~remembered["photo_id"].isin(rows["photo_id"])
    earlier = remembered[beside].assign(version=version)
    return pd.concat([rows, earlier], ignore_index=True)[list(KNOWN)] if len(earlier) else rows[list(KNOWN)]


def as_record(found: pd.DataFrame, version: int) -> pd.DataFrame:
    """Write down what a version was made with; the columns are `KNOWN`."""
    return found.assign(version=version)[list(KNOWN)]


def _check_losses(changes: pd.DataFrame, known: pd.DataFrame, retraining: Retraining) -> None:
    lost = changes.loc[changes["change"] == LOST, "path"]
    photographs = known["photo_id"].nunique()
    if lost.empty:
        return
    examples = ", ".join(lost.head(3))
    if len(lost) > retraining.most_lost * photographs:
        raise ValueError(
            f"{len(lost):,} of {photographs:,} known photographs are gone, such as {examples}: retraining reads all "
            "photographs, the old ones and the new ones, under one root. If they are meant to be gone, say so with "
            f"retraining.most_lost, which is {retraining.most_lost:g}"
        )
    logger.warning(
        "%s of %s known photographs are gone, such as %s; that alone is no reason to train",
        f"{len(lost):,}",
        f"{photographs:,}",
        examples,
    )
