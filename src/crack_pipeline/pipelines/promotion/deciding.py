"""Nodes that decide which version is used, and say why."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure

from crack_pipeline.evaluation import segmentation_counts as counting
from crack_pipeline.evaluation.bootstrap import Measure
from crack_pipeline.evaluation.metrics import detection_measure
from crack_pipeline.evaluation.promotion import (
    Decision,
    Evidence,
    Rollback,
    evidence_numbers,
    evidence_table,
    weigh,
)
from crack_pipeline.evaluation.promotion_figure import promotion_figure
from crack_pipeline.evaluation.segmentation_metrics import segmentation_measure
from crack_pipeline.models.registered import Contenders, Registered
from crack_pipeline.pipelines.promotion.contending import External, Registry, why_not
from crack_pipeline.pipelines.promotion.parameters import DETECTOR, Promotion

logger = logging.getLogger(__name__)


def decide(
    contenders: Contenders,
    external: External,
    photographs: pd.DataFrame,
    challenger_answers: pd.DataFrame,
    champion_answers: pd.DataFrame,
    promotion: Promotion,
) -> Decision:
    """Decide whether the challenger is promoted; see :mod:`crack_pipeline.evaluation.promotion`.

    Parameters
    ----------
    contenders
        The two.
    external, photographs
        What they were compared on.
    challenger_answers, champion_answers
        What each answered.
    promotion
        What is asked for.
    """
    challenger, champion = contenders.challenger, contenders.champion
    about = {
        "model": contenders.model,
        "challenger": challenger.version,
        "champion": champion.version if champion else None,
        "fingerprint": challenger.weights.whole_fingerprint(),
    }
    refused = why_not(contenders)
    if refused:
        return Decision.model_validate({**about, "evidence": Evidence(promoted=False, reason=refused)})
    for version, answers in ((challenger, challenger_answers), (champion, champion_answers)):
        if version is not None and answers["image_id"].tolist() != photographs["image_id"].tolist():
            raise ValueError(
                f"the answers of version {version.version} are not about the photographs that judge: run it all again"
            )
    evidence = weigh(
        _measure(contenders.model, challenger, challenger_answers),
        _measure(contenders.model, champion, champion_answers) if champion else None,
        photographs["group"],
        promotion.criteria,
        promotion.sampling,
        kinds=_kinds(contenders.model, photographs),
    )
    looked_at = (photographs["image_id"] + " " + photographs["label"]).sort_values()
    fingerprint = hashlib.blake2b("\n".join(looked_at).encode(), digest_size=16).hexdigest()
    return Decision.model_validate({**about, "role": external.role, "photographs": fingerprint, "evidence": evidence})


def report(decision: Decision) -> tuple[Decision, pd.DataFrame, Figure, str, dict[str, dict[str, float]]]:
    """Lay out what came of a decision.

    Parameters
    ----------
    decision
        After it has been carried out, so that nothing is called promoted that was not.

    Returns
    -------
    decision : Decision
        The same, to be stored.
    table : DataFrame
        A row per metric, as of :func:`crack_pipeline.evaluation.promotion.evidence_table`.
    figure : Figure
        The differences with their intervals.
    summary : str
        In a few lines.
    tracked : dict
        The numbers, as the tracker takes them.
    """
    evidence = decision.evidence
    table = evidence_table(evidence)
    numbers = {name: {"value": value, "step": 0} for name, value in _tracked(decision).items()}
    what = "is promoted" if evidence.promoted else "is not promoted"
    lines = [f"version {decision.challenger} of {decision.model} {what}: {evidence.reason}"]
    if evidence.rows:
        shown = table.drop(columns=["may_lose", "must_gain", "least"])
        lines += [
            "",
            f"on {evidence.photographs:,} photographs of {evidence.groups:,} places, role {decision.role}:",
            shown.to_string(index=False, float_format=lambda value: f"{value:.4f}", na_rep="-"),
        ]
    if decision.outcome != "outdated" and not evidence.promoted:
        stays = f"version {decision.champion} stays the champion" if decision.champion else "there is no champion yet"
        lines += ["", stays]
    against = f" against {decision.champion}" if decision.champion else ""
    about = f"{decision.model}, version {decision.challenger}{against}"
    return decision, table, promotion_figure(evidence, about), "\n".join(lines), numbers


def record(proposal: Decision) -> Decision:
    """Hand the decision to the registry, which carries it out."""
    return proposal


def insist(decision: Decision, summary: str) -> Decision:
    """Let a run fail that another promotion was quicker than, after all has been written that it found.

    Raises
    ------
    ValueError
        If the decision is outdated.
    """
    if decision.outcome == "outdated":
        raise ValueError(decision.evidence.reason)
    return decision


def choose_earlier(registry: Registry, promotion: Promotion) -> Rollback:
    """Find the version to go back to: the one that was in use before, or an earlier one that is asked for.

    Raises
    ------
    ValueError
        If there is no champion, none before it, or the version that is asked for never was one.
    """
    model, wanted = promotion.model, promotion.version
    standing = registry.standing(model)
    if standing.champion is None:
        again = ""
        if standing.earlier:
            again = (
                f"; version {standing.earlier[0]} was in use before, and can be promoted again with kedro run "
                f"--pipeline promotion --params promotion.model={model},promotion.version={standing.earlier[0]}"
            )
        raise ValueError(f"{model} has no champion: there is nothing to go back from{again}")
    if not standing.earlier:
        raise ValueError(
            f"version {standing.champion} is the first champion of {model}, or all before it were deleted: there is "
            "none to go back to"
        )
    if wanted is not None and wanted not in standing.earlier:
        listed = ", ".join(str(version) for version in dict.fromkeys(standing.earlier))
        raise ValueError(f"version {wanted} of {model} was not in use before; those that were: {listed}")
    return Rollback(model=model, champion=standing.champion, version=wanted or standing.earlier[0])


def summarise_rollback(rollback: Rollback) -> str:
    """Say what becomes of the champion."""
    return (
        f"version {rollback.version} of {rollback.model} is the champion again, instead of version "
        f"{rollback.champion}, which is not promoted again unless it is asked for"
    )


def record_rollback(rollback: Rollback, summary: str) -> Rollback:
    """Hand the way back to the registry, after its summary has been written."""
    return rollback


def _measure(model: str, contender: Registered, answers: pd.DataFrame) -> Measure:
    facts = contender.weights.facts
    if model == DETECTOR:
        name = facts["name"]
        cracked = (answers["label"] == "crack").to_numpy(bool)
        return detection_measure(cracked, answers[name].to_numpy(float), float(facts["thresholds"][name]))
    return segmentation_measure(counting.from_table(answers), float(facts["threshold"]))


def _kinds(model: str, photographs: pd.DataFrame) -> dict[str, pd.Series]:
    """Say which photographs what is measured rests on: detectors tell two labels apart, segmenters find cracks."""
    if model == DETECTOR:
        cracked = photographs["label"] == "crack"
        return {"cracked": cracked, "sound": ~cracked}
    return {"cracked": photographs["crack_pixels"] > 0}


def _tracked(decision: Decision) -> Mapping[str, float]:
    return {"promoted": float(decision.evidence.promoted), **evidence_numbers(decision.evidence)}
