"""Nodes and their helpers that the pipelines of several models share."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from crack_pipeline.engines import cluster
from crack_pipeline.engines import compute as compute_plan
from crack_pipeline.engines.compute import Compute, Plan
from crack_pipeline.pipelines.ingestion.parameters import Image

logger = logging.getLogger(__name__)

CHANNELS = {"grey": 1, "rgb": 3}


class _Stack(Protocol):
    @property
    def index(self) -> pd.DataFrame:
        """A row per image."""


def resolve_plan(compute: Compute) -> Plan:
    """Choose device, precision and sizes for this machine; see :func:`crack_pipeline.engines.compute.resolve`.

    Where a Ray cluster does the work, a worker of it chooses.
    """
    plan = cluster.resolve_there(compute) if compute.engine == "ray" else compute_plan.resolve(compute)
    logger.info(
        "compute plan: %s",
        "; ".join(f"{name} {getattr(plan, name)} ({why})" for name, why in plan.reasons.items()),
    )
    return plan


def fingerprint(
    manifest: pd.DataFrame, partition: pd.DataFrame, image: Image, more: Iterable[bytes] = ()
) -> dict[str, Any]:
    """Identify the data of a training: any other image, label, role, order or preparation gives another fingerprint.

    Parameters
    ----------
    manifest, partition
        The images and their roles.
    image
        How they were prepared.
    more
        What else decides, such as the masks.

    Returns
    -------
    dict
        ``fingerprint`` (hex), ``images`` and the number of images per role and label.
    """
    table = manifest[["image_id", "label", "row"]].merge(partition[["image_id", "role"]]).sort_values("row")
    digest = hashlib.blake2b(image.model_dump_json().encode(), digest_size=16)
    digest.update("\n".join(table["image_id"] + " " + table["role"] + " " + table["label"]).encode())
    for part in more:
        digest.update(part)
    roles = (table["role"] + " " + table["label"]).value_counts().sort_index()
    counts = {str(role): int(n) for role, n in roles.items()}
    return {"fingerprint": digest.hexdigest(), "images": len(table), "roles": counts}


def select(
    manifest: pd.DataFrame, partition: pd.DataFrame, roles: Sequence[str], *, label: str | None = None
) -> pd.DataFrame:
    """Give the manifest's rows of some roles, with ``role`` and the group that was partitioned."""
    joined = manifest.drop(columns="group").merge(partition[["image_id", "role", "group"]], on="image_id")
    wanted = joined["role"].isin(roles)
    if label is not None:
        wanted &= joined["label"] == label
    return joined[wanted].sort_values("row", ignore_index=True)


def rows_of(table: pd.DataFrame) -> NDArray[np.int64]:
    """Give the rows of the stack that a selection names."""
    return table["row"].to_numpy(np.int64)


def require_roles(manifest: pd.DataFrame, partition: pd.DataFrame, roles: Sequence[str]) -> None:
    """Refuse a partition without photographs of some roles, before hours are spent; raises ValueError."""
    present = set(partition.loc[partition["image_id"].isin(manifest["image_id"]), "role"])
    for role in roles:
        if role not in present:
            raise ValueError(f"no photograph has the role {role}: add photographs or change the partition")


def check_same_run(images: _Stack, manifest: pd.DataFrame) -> None:
    """Refuse a stack and a manifest that do not belong together; raises ValueError."""
    ids = images.index["image_id"].to_numpy()
    if len(manifest) and (
        len(ids) <= manifest["row"].max() or (ids[manifest["row"]] != manifest["image_id"].to_numpy()).any()
    ):
        raise ValueError("the image stack and the manifest are of different runs: run the whole pipeline again")
