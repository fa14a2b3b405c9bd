"""Nodes that join looking, training and promotion: what is still to be done, and what is remembered."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from crack_pipeline.endings import Ending
from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation.drift import Drift
from crack_pipeline.evaluation.promotion import Decision
from crack_pipeline.pipelines.ingestion.developing import UNREADABLE
from crack_pipeline.pipelines.ingestion.listing import Source
from crack_pipeline.pipelines.promotion.contending import Registry
from crack_pipeline.pipelines.promotion.parameters import MODELS, Model, Promotion
from crack_pipeline.pipelines.promotion.repeating import decide_anew
from crack_pipeline.pipelines.retraining.looking import KNOWN, LABEL, LOST, MASK, News, as_record
from crack_pipeline.pipelines.retraining.parameters import Retraining

logger = logging.getLogger(__name__)


def finish_earlier(
    news: News,
    registry: Registry,
    promotion: Promotion,
    retraining: Retraining,
    plan: Plan,
    known: pd.DataFrame,
    images_before: Callable[[], Any],
    manifest_before: pd.DataFrame | None,
    partition_before: pd.DataFrame | None,
    *,
    model: Model,
) -> Iterable[Decision]:
    """Decide about a version that a run has left undecided, if there is one and nothing else is to be done.

    Parameters
    ----------
    news
        What is new.
    registry, promotion, plan
        As for :func:`crack_pipeline.pipelines.promotion.repeating.decide_anew`.
    retraining
        How often to try.
    known
        The record, which has been written when this is called.
    images_before, manifest_before, partition_before
        The photographs as they have been ingested last: how to load the stack, and the tables.
    model
        Name of the registered model.

    Returns
    -------
    iterable of Decision
        None where nothing is undecided. Each is made when it is asked for.

    Raises
    ------
    ValueError
        If a version is named, which a retraining would pass over.
    """
    if promotion.version is not None:
        raise ValueError(
            f"promotion.version is {promotion.version}, and a retraining decides about what it trains, or about what "
            "the one before has left. For another version: kedro run --pipeline promotion --params "
            f"promotion.model={model},promotion.version={promotion.version}"
        )
    if not news.pending or news.newest is None:
        return ()
    logger.info("version %d of %s has been trained and not decided about: that comes first", news.newest.version, model)
    aimed = aim(news.newest.version, promotion, model=model)
    loaders = (images_before, lambda: manifest_before, lambda: partition_before)
    # As many as there are models, of which only those of this one are called
    return decide_anew(registry, aimed, plan, *loaders * len(MODELS), attempts=retraining.attempts)


def go_on(news: News, finished: Decision | None, raw: Source, *, model: Model) -> Source | Ending:
    """Hand the root on to the training, or end the run, since nothing is new.

    Parameters
    ----------
    news
        What is new.
    finished
        What came of the decision about what an earlier run has left; None where there was none.
    raw
        The root.
    model
        Name of the registered model.

    Raises
    ------
    ValueError
        If other promotions were quicker each time that a decision was made.
    """
    if finished is not None and finished.outcome == "outdated":
        raise ValueError(finished.evidence.reason)
    if news.train or news.newest is None:
        return raw
    version, photographs = news.newest.version, f"these {len(news.photographs):,} photographs"
    lost = int((news.changes["change"] == LOST).sum())
    gone = f" ({lost:,} more are gone)" if lost else ""
    if finished is not None:
        what = "is promoted" if finished.outcome == "promoted" else "is not promoted"
        return Ending(
            f"{model}: version {version}, made with {photographs}{gone}, {what}: {finished.evidence.reason}; nothing "
            "else is new",
            trained=True,
        )
    unused = ""
    if news.newest.unused:
        unused = (
            f". No version is in use: kedro run --pipeline promotion --params promotion.model={model},promotion.version"
            f"={version} decides about it again"
        )
    return Ending(
        f"{model}: nothing is new, version {version} was made with {photographs}{gone}; nothing is trained{unused}"
    )


def note_unusable(
    news: News, manifest: pd.DataFrame, quarantine: pd.DataFrame, known: pd.DataFrame, retraining: Retraining
) -> tuple[pd.DataFrame, frozenset[str]]:
    """Add to the record the new photographs that the ingestion could not use: they are not new a second time.

    Parameters
    ----------
    news
        What is new.
    manifest, quarantine
        The photographs that can be used, and the files that cannot.
    known
        The record.
    retraining
        How many photographs may be missing.

    Returns
    -------
    record : DataFrame
        With them.
    unread : frozenset of str
        Paths of what could be read when it was looked for, and not when it was ingested: it stays new.

    Raises
    ------
    ValueError
        If there are more of these than known photographs may be gone.
    """
    unread = _unread(news, manifest, quarantine)
    if unread.sum() > retraining.most_lost * len(news.photographs):
        raise ValueError(
            f"{int(unread.sum()):,} of {len(news.photographs):,} photographs could be read when they were looked for, "
            f"and not when they were ingested, such as {news.photographs.loc[unread, 'path'].iloc[0]}: the place where "
            "they lie gives way, and nothing is trained. Run it again once it can be read"
        )
    paths = frozenset(news.photographs.loc[unread, "path"])
    unusable = news.photographs["photo_id"].isin(news.new - set(manifest["photo_id"])) & ~unread
    if not unusable.any() or news.newest is None:
        return known, paths
    noted = as_record(news.photographs[unusable], news.newest.version)
    return pd.concat([known, noted], ignore_index=True)[list(KNOWN)], paths


def permit(
    news: News, manifest: pd.DataFrame, noted: pd.DataFrame, drift: Drift, retraining: Retraining, checkpoints: Path
) -> Path | Ending:
    """Give the folder to train in, once nothing speaks against a training.

    Parameters
    ----------
    news
        What is new.
    manifest
        The photographs that can be used.
    noted
        The record, which has been written when this is called.
    drift
        Of the new photographs.
    retraining
        Whether a drift stops it.
    checkpoints
        The folder.

    Returns
    -------
    Path or Ending
        An ending where none of what is new can be used.

    Raises
    ------
    ValueError
        If the new photographs have drifted, and that is to stop the run.
    """
    usable = news.new & set(manifest["photo_id"])
    if news.newest is not None and not usable and not news.changes["change"].isin((LABEL, MASK)).any():
        return Ending(
            f"nothing new that can be used: the quarantine table says why, for {len(news.new):,} new photographs; "
            "nothing is trained"
        )
    if drift.verdict == "drifted":
        drifted = ", ".join(shift.quantity for shift in drift.shifts if shift.verdict == "drifted")
        said = f"the new photographs differ from the earlier ones in {drifted} ({drift.about})"
        if retraining.drift.stops:
            raise ValueError(
                f"{said}, and retraining.drift.stops is true: nothing is trained. Look at the drift figure; go on with "
                "--params retraining.drift.stops=false"
            )
        logger.warning("%s: the training goes on, look at the drift figure", said)
    return checkpoints


def aim(version: int, promotion: Promotion, *, model: Model) -> Promotion:
    """Let a promotion look at one version of one model, and at nothing that others register meanwhile."""
    return promotion.model_copy(update={"model": model, "version": version})


def record_decision(
    proposal: Decision,
    registry: Registry,
    promotion: Promotion,
    retraining: Retraining,
    plan: Plan,
    *loaders: Callable[[], Any],
) -> Iterable[Decision]:
    """Hand the decision to the registry, and new ones as long as other promotions are quicker.

    Parameters
    ----------
    proposal
        The first one.
    registry, promotion, plan, loaders
        As for :func:`crack_pipeline.pipelines.promotion.repeating.decide_anew`.
    retraining
        How often to try in all.
    """
    anew = decide_anew(registry, promotion, plan, *loaders, attempts=retraining.attempts - 1)
    return itertools.chain([proposal], anew)


def remember(news: News, registered: int, unread: frozenset[str], settled: Decision) -> pd.DataFrame:
    """Write down, after all else, what the version that was decided about was made with.

    Parameters
    ----------
    news
        What there was when the run began.
    registered
        The version.
    unread
        As `note_unusable` gives them.
    settled
        The decision, which has been carried out when this is called.
    """
    return as_record(news.photographs[~news.photographs["path"].isin(unread)], registered)


def _unread(news: News, manifest: pd.DataFrame, quarantine: pd.DataFrame) -> pd.Series[bool]:
    """Say which photographs the storage did not give a second time, of which nobody knows whether they can be used."""
    paths = quarantine.loc[quarantine["kind"] == UNREADABLE, "path"]
    return news.photographs["path"].isin(paths) & ~news.photographs["photo_id"].isin(manifest["photo_id"])


def summarise(news: News, drift: Drift) -> str:
    """Say in a few lines what was new, and whether it has drifted."""
    lines = [news.said]
    if not drift.about:
        return "\n".join(lines)
    lines.append(f"drift: {drift.verdict} ({drift.about})")
    for shift in drift.shifts:
        if shift.distance is not None:
            lines.append(
                f"  {shift.quantity:<11} {shift.verdict:<10} D = {shift.distance:.2f}, medians "
                f"{shift.earlier:.4g} and {shift.new:.4g}"
            )
    return "\n".join(lines)
