"""Decisions about a model that are made anew as long as other promotions are quicker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from crack_pipeline.engines.compute import Plan
from crack_pipeline.evaluation.promotion import Decision
from crack_pipeline.pipelines.promotion.contending import Registry, answer, check_unseen, load_contenders, read_external
from crack_pipeline.pipelines.promotion.deciding import decide
from crack_pipeline.pipelines.promotion.parameters import Promotion

logger = logging.getLogger(__name__)


def decide_anew(
    registry: Registry, promotion: Promotion, plan: Plan, *loaders: Callable[[], Any], attempts: int
) -> Iterator[Decision]:
    """Compare a version with the champion of the moment, whenever a decision is asked for.

    Parameters
    ----------
    registry, promotion, plan
        As for :func:`crack_pipeline.pipelines.promotion.contending.load_contenders` and ``answer``.
    loaders
        As for :func:`crack_pipeline.pipelines.promotion.contending.read_external`.
    attempts
        Decisions at most.

    Yields
    ------
    Decision
        Whoever takes them stops at the first that could be carried out.
    """
    for _ in range(attempts):
        contenders = load_contenders(registry, promotion)
        external = read_external(promotion, *loaders)
        photographs = check_unseen(contenders, external)
        answers = answer(contenders, external, photographs, plan)
        decision = decide(contenders, external, photographs, *answers, promotion)
        what = "is promoted" if decision.evidence.promoted else "is not promoted"
        logger.info("version %d of %s %s: %s", decision.challenger, decision.model, what, decision.evidence.reason)
        yield decision
