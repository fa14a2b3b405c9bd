"""Nodes that let two versions of a model answer on photographs that neither has learned from."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import pandas as pd

from crack_pipeline.engines.compute import Plan
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.imaging.stack import ImageStack
from crack_pipeline.models.registered import Contenders, Registered, Standing
from crack_pipeline.models.weights import Weights
from crack_pipeline.pipelines.anomaly.nodes import score_new
from crack_pipeline.pipelines.ingestion.parameters import Image
from crack_pipeline.pipelines.promotion.parameters import DETECTOR, MODELS, Promotion
from crack_pipeline.pipelines.segmentation.evaluating import count_new
from crack_pipeline.pipelines.steps import CHANNELS, check_same_run
from crack_pipeline.training.segmenting import Tiles

logger = logging.getLogger(__name__)

_ROLES = ("external", "test")
"""Photographs that judge: those of the first role that any has."""
_PREPARED = ("size", "mode", "resize", "tiles")


class Registry(Protocol):
    """Registered models."""

    def contenders(self, model: str, version: int | None = None) -> Contenders:
        """Load the version that wants to be used and the one that is."""

    def standing(self, model: str) -> Standing:
        """Say which version is in use, and which were."""


class External(NamedTuple):
    """Photographs that nothing may have been learned from.

    Attributes
    ----------
    images
        All photographs of the pipeline that trains the model.
    known
        A row for each of them, with role, ``group``, of the partition, and ``found_group``, of the manifest: the same,
        unless photographs that were partitioned already were found to show one place.
    photographs
        The rows of those that judge.
    role
        Theirs.
    learned_elsewhere
        Whether a challenger may have learned from other photographs than these all.
    """

    images: ImageStack | PhotographStack
    known: pd.DataFrame
    photographs: pd.DataFrame
    role: str
    learned_elsewhere: bool = False


def load_contenders(registry: Registry, promotion: Promotion) -> Contenders:
    """Load the newest version, or the one that is asked for, and the champion."""
    found = registry.contenders(promotion.model, promotion.version)
    champion = f"version {found.champion.version} is the champion" if found.champion else "there is no champion yet"
    logger.info("%s: version %d is looked at, %s", found.model, found.challenger.version, champion)
    return found


def read_external(promotion: Promotion, *loaders: Callable[[], Any]) -> External:
    """Read the photographs that judge: of the role ``external`` where there are any, otherwise of the role ``test``.

    Parameters
    ----------
    promotion
        Names the model.
    loaders
        Load images, manifest and partition of each of `MODELS`, in that order; those of the others are not called.

    Raises
    ------
    ValueError
        If no photograph has such a role, or, for a segmenter, none of them has a mask.
    """
    place = 3 * MODELS.index(promotion.model)
    images, manifest, partition = (load() for load in loaders[place : place + 3])
    check_same_run(images, manifest)
    found = manifest.rename(columns={"group": "found_group"})
    known = found.merge(partition[["image_id", "role", "group"]], on="image_id")
    role = next((role for role in _ROLES if (known["role"] == role).any()), None)
    if role is None:
        raise ValueError(
            f"no photograph of the pipeline {promotion.model} has the role {' or '.join(_ROLES)}: there is nothing to "
            "compare models on"
        )
    photographs = known[known["role"] == role]
    if promotion.model != DETECTOR:
        photographs = photographs[photographs["crack_pixels"].notna()]
        if photographs.empty:
            raise ValueError(f"none of the photographs of the role {role} has a mask: segmenters cannot be compared")
    photographs = photographs.sort_values("row", ignore_index=True)
    return External(images, known, photographs, role, promotion.learned_elsewhere)


def check_unseen(contenders: Contenders, external: External) -> pd.DataFrame:
    """Refuse to compare on photographs that a contender has learned from, or does not take in the form they have.

    Returns
    -------
    pandas.DataFrame
        The photographs to compare on; none where there is nothing to be compared.

    Raises
    ------
    ValueError
        If one of the photographs, or a near-duplicate of it, was learned from; if a contender does not say what it has
        learned from, or takes photographs in another form; if the challenger has learned from photographs that are not
        in the data set, unless that is accepted. Of a champion that is only said: what it has seen speaks for it.
    """
    if why_not(contenders):
        return external.photographs.iloc[:0]
    for contender in (contenders.challenger, contenders.champion):
        if contender is not None:
            name = f"version {contender.version} of {contenders.model}"
            challenges = contender is contenders.challenger
            if not challenges:
                _check_forms_agree(contenders)
            _check_form(name, contender.weights, external.images)
            _check_learned_from(name, contender.weights, external, challenges=challenges)
    return external.photographs


def answer(
    contenders: Contenders, external: External, photographs: pd.DataFrame, plan: Plan
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Let both answer, each with its own score, tiles and threshold.

    Returns
    -------
    tuple of pandas.DataFrame
        Of challenger and champion, a row per photograph in one order: of a detector those of
        :func:`crack_pipeline.pipelines.anomaly.nodes.score_new`, of a segmenter those of
        :func:`crack_pipeline.pipelines.segmentation.evaluating.count_new`. Empty where there is none.
    """
    challenger, champion = (
        _answers(contenders.model, contender, external, photographs, plan)
        for contender in (contenders.challenger, contenders.champion)
    )
    return challenger, champion


def why_not(contenders: Contenders) -> str | None:
    """Say why there is nothing to compare; None if there is."""
    version, champion = contenders.challenger.version, contenders.champion
    if champion is not None and champion.version == version:
        return f"version {version} is the champion already"
    if contenders.rolled_back and not contenders.asked_for:
        return (
            f"version {version} was the champion until somebody went back from it; it is not promoted again unless it "
            f"is asked for, with promotion.version={version}"
        )
    return None


def _answers(
    model: str, contender: Registered | None, external: External, photographs: pd.DataFrame, plan: Plan
) -> pd.DataFrame:
    if contender is None or photographs.empty:
        return photographs[["image_id"]].iloc[:0]
    logger.info("version %d answers on %s photographs", contender.version, f"{len(photographs):,}")
    weights, images = contender.weights, external.images
    if isinstance(images, PhotographStack):
        return count_new(weights, images, photographs, Tiles.model_validate(weights.facts["tiles"]), plan)
    return score_new(weights, images, photographs, plan)


def form_differs(weights: Weights, images: ImageStack | PhotographStack) -> str | None:
    """Say how the form that a model takes differs from that of a stack; None if it does not."""
    image = Image.model_validate(weights.facts["image"])
    size: int | None = None
    channels: int = 1
    if isinstance(images, PhotographStack):
        channels = images.channels
    else:
        size, channels = images.shape[1], images.shape[3] if len(images.shape) > 3 else 1
    if (size, channels) == (image.size, CHANNELS[image.mode]):
        return None
    return (
        f"takes photographs of size {image.size} in {image.mode}, and those that there are were prepared "
        f"with size {size} in {channels} channel{'s' if channels > 1 else ''}"
    )


def _check_form(name: str, weights: Weights, images: ImageStack | PhotographStack) -> None:
    differs = form_differs(weights, images)
    if differs:
        raise ValueError(f"{name} {differs}: ingest them as it takes them")


def _check_forms_agree(contenders: Contenders) -> None:
    if contenders.champion is None:
        return
    ours, theirs = contenders.challenger.weights.facts["image"], contenders.champion.weights.facts["image"]
    differ = [name for name in _PREPARED if ours.get(name) != theirs.get(name)]
    if differ:
        raise ValueError(
            f"versions {contenders.challenger.version} and {contenders.champion.version} of {contenders.model} take "
            f"photographs in different forms ({', '.join(differ)}): they cannot be compared on the same ones. Begin "
            "anew without a champion: delete the alias champion"
        )


def _check_learned_from(name: str, weights: Weights, external: External, *, challenges: bool) -> None:
    way_on = "Train it with the roles of this partition"
    if not challenges:
        way_on = (
            "It is the champion, and the roles were another then: bring back the partition that it was trained with, "
            "or begin anew without a champion: delete the alias champion"
        )
    if "learned_from" not in weights.facts:
        raise ValueError(
            f"{name} does not say which photographs it has learned from, so nothing proves that it has not seen those "
            "that are to judge it: train it again"
        )
    learned_from = set(weights.facts["learned_from"])
    learned = external.known["photo_id"].isin(learned_from)
    seen = external.photographs["group"].isin(external.known.loc[learned, "group"])
    if challenges:
        # What was left out since it shows a place that judges has a group of its own in the partition
        apart = external.known.loc[learned & (external.known["role"] == "left_out"), "found_group"]
        seen |= external.photographs["found_group"].isin(apart)
    if seen.any():
        raise ValueError(
            f"{name} has learned from {int(seen.sum()):,} of the {len(seen):,} photographs of the role "
            f"{external.role}, or from near-duplicates of them: nothing can be proved on these. {way_on}"
        )
    gone = len(learned_from.difference(external.known["photo_id"]))
    if gone:
        said = (
            f"{name} has learned from photographs of which {gone:,} of {len(learned_from):,} are not in the data set "
            "(any longer): near-duplicates of them among those that judge cannot be found"
        )
        if challenges and not external.learned_elsewhere:
            raise ValueError(
                f"{said}. Bring them back or train again; if you know that there are none: "
                "--params promotion.learned_elsewhere=true"
            )
        logger.warning(said)
