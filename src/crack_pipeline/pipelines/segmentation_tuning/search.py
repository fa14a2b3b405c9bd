"""A search that can be interrupted at any moment: Optuna proposes, a training answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from crack_pipeline.evaluation.trials import State, TrialResult, as_text
from crack_pipeline.pipelines.segmentation_tuning.parameters import Pruning, Search
from crack_pipeline.pipelines.segmentation_tuning.space import ImpossibleError, SearchSpace

logger = logging.getLogger(__name__)

_AGAIN, _ATTEMPT, _REASON = "again", "attempt", "reason"
_STATES: dict[TrialState, State] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


class TrialFailedError(Exception):
    """A trial cannot be finished, and the search goes on without it; the message says why."""


class Trial:
    """A trial that is going on.

    Attributes
    ----------
    number
        In its study.
    values
        Of the fields that are varied, by name.
    """

    def __init__(self, trial: optuna.Trial, values: dict[str, Any]) -> None:
        self.number, self.values, self._trial = trial.number, values, trial

    def report(self, epoch: int, value: float, more: bool) -> None:
        """Take the value after an epoch.

        Raises
        ------
        optuna.TrialPruned
            If the trial is not worth going on with; never where there is no further epoch.
        """
        self._trial.report(value, epoch)
        if more and self._trial.should_prune():
            raise optuna.TrialPruned


def search(
    study: optuna.Study,
    space: SearchSpace,
    how: Search,
    pruning: Pruning,
    attempt: Callable[[Trial], Sequence[float]],
) -> Iterator[TrialResult]:
    """Make the trials that a study still lacks.

    A trial that was running when the study's process ended has failed, and is begun again with the same parameters.
    What is drawn for a trial depends on the seed and on the trials before it, not on the process: an interrupted
    search proposes what an uninterrupted one would have, as long as the trainings give the same values.

    Parameters
    ----------
    study
        New, or of an interrupted search in the same space.
    space
        What is varied.
    how
        Number of trials, sampler, first points, seed.
    pruning
        When a trial is stopped.
    attempt
        Trains with the trial's values, reports after every epoch, and gives the values after all epochs.
        It raises :class:`TrialFailedError` where the trial alone is at fault; other errors end the search.

    Yields
    ------
    TrialResult
        First those that the study holds already, then each new one as soon as it has ended.
    """
    study.pruner = _pruner(pruning)
    _begin_again(study, how.retries)
    replaced = _replaced(study)
    earlier = study.get_trials(deepcopy=False, states=list(_STATES))
    results = [_result(trial, space, replaced, earlier=True) for trial in earlier]
    yield from results
    counted = [result for result in results if result.state != "interrupted"]
    distributions, points = space.distributions(), _first(space, how)
    while (position := len(counted)) < how.trials:
        study.sampler = _sampler(how, position)
        if position < len(points) and not study.get_trials(deepcopy=False, states=[TrialState.WAITING]):
            study.enqueue_trial(points[position])
        trial = study.ask(distributions)
        values = space.values(trial.params)
        logger.info("trial %d (%d of %d): %s", trial.number, position + 1, how.trials, _listed(values))
        ended = _run(study, trial, attempt, values)
        counted.append(_result(ended, space, {}, earlier=False))
        _say(counted, how.trials)
        yield counted[-1]


def importance(results: Sequence[TrialResult], space: SearchSpace, seed: int) -> dict[str, float]:
    """Say how much of the differences between the trials each field explains.

    It is the functional analysis of variance over a random forest (Hutter, Hoos and Leyton-Brown, "An Efficient
    Approach for Assessing Hyperparameter Importance", ICML 2014), of the complete trials.

    Parameters
    ----------
    results
        All trials.
    space
        What was varied.
    seed
        Of the forest.

    Returns
    -------
    dict
        Shares that sum to 1, the largest first; empty where fewer than two trials are complete, all have the same
        value, or nothing was varied.
    """
    complete = [result for result in results if result.state == "complete"]
    distributions = {name: about for name, about in space.distributions().items() if not about.single()}
    if len({result.value for result in complete}) < 2 or not distributions:
        return {}
    study = optuna.create_study(direction="maximize")
    for result in complete:
        drawn = space.drawn(result.parameters)
        study.add_trial(
            optuna.create_trial(
                params={name: drawn[name] for name in distributions}, distributions=distributions, value=result.value
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    return optuna.importance.get_param_importances(study, evaluator=evaluator)


def _run(
    study: optuna.Study,
    trial: optuna.Trial,
    attempt: Callable[[Trial], Sequence[float]],
    values: dict[str, Any],
) -> FrozenTrial:
    reason = ""
    try:
        found = attempt(Trial(trial, values))
    except optuna.TrialPruned:
        return study.tell(trial, state=TrialState.PRUNED)
    except (TrialFailedError, ImpossibleError) as error:
        reason = str(error)
    if not reason:
        # Those that were reported already are left as they are.
        reported = study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for epoch, value in enumerate(found):
            if epoch not in reported:
                trial.report(value, epoch)
        return study.tell(trial, max(found))
    trial.set_user_attr(_REASON, reason)
    return study.tell(trial, state=TrialState.FAIL)


def _begin_again(study: optuna.Study, retries: int) -> None:
    """Let the trials that were running when the last process ended fail, and queue them once more."""
    queued = _replaced(study)
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        attempt = trial.user_attrs.get(_ATTEMPT, 0) + 1
        if trial.number not in queued and attempt <= retries:
            given = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
            # Before the old one is closed, so that nothing is lost should this process be killed in between.
            study.enqueue_trial(given, user_attrs={_AGAIN: trial.number, _ATTEMPT: attempt})
            logger.info("trial %d was interrupted; it is begun again with the same parameters", trial.number)
        study.tell(trial.number, state=TrialState.FAIL)


def _replaced(study: optuna.Study) -> dict[int, int]:
    """Give the number of the trial that has an interrupted one's parameters, by the number of the latter."""
    trials = study.get_trials(deepcopy=False)
    return {trial.user_attrs[_AGAIN]: trial.number for trial in trials if _AGAIN in trial.user_attrs}


def _result(trial: FrozenTrial, space: SearchSpace, replaced: Mapping[int, int], *, earlier: bool) -> TrialResult:
    state = _STATES[trial.state]
    reason = str(trial.user_attrs.get(_REASON, ""))
    abandoned = trial.number in replaced or (state == "failed" and not reason)
    values = tuple(trial.intermediate_values[epoch] for epoch in sorted(trial.intermediate_values))
    if trial.number in replaced:
        state, reason = "interrupted", f"its process ended; trial {replaced[trial.number]} has its parameters"
    elif abandoned:
        reason = f"its process ended in every one of {trial.user_attrs.get(_ATTEMPT, 0) + 1} attempts"
    elif state == "pruned":
        reason = f"stopped after epoch {len(values)}: below the median of the other trials"
    assert trial.datetime_start is not None
    return TrialResult(
        number=trial.number,
        state=state,
        parameters=space.values(trial.params),
        values=values,
        began=trial.datetime_start,
        # An abandoned trial was closed by the next process, whenever that began.
        seconds=None if abandoned or trial.duration is None else trial.duration.total_seconds(),
        reason=reason,
        earlier=earlier,
    )


def _first(space: SearchSpace, how: Search) -> list[dict[str, Any]]:
    points = []
    for number, wanted in enumerate(how.first):
        try:
            points.append(space.point(wanted))
        except ImpossibleError as error:
            logger.warning("segmentation_tuning.search.first.%d is left out: %s", number, error)
    return points


def _sampler(how: Search, position: int) -> BaseSampler:
    """Make a sampler for one trial: a sampler that lived as long as its process would repeat itself in the next."""
    seed = int(np.random.SeedSequence([how.seed, position]).generate_state(1)[0])
    if how.sampler == "random":
        return RandomSampler(seed)
    return TPESampler(n_startup_trials=how.startup, seed=seed)


def _pruner(pruning: Pruning) -> optuna.pruners.BasePruner:
    if pruning.rule == "none":
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(n_startup_trials=pruning.startup, n_warmup_steps=pruning.epochs - 1)


def _say(counted: Sequence[TrialResult], wanted: int) -> None:
    """Log how the last trial ended, the best so far, and how long the rest will take."""
    last, done = counted[-1], len(counted)
    complete = [result for result in counted if result.state == "complete"]
    best = max(complete, key=lambda result: result.value or 0.0, default=None)
    took = [result.seconds for result in counted if result.seconds is not None]
    left = (wanted - done) * sum(took) / max(len(took), 1)
    logger.info(
        "trial %d (%d of %d): %s; %s; %s",
        last.number,
        done,
        wanted,
        f"Dice {last.value:.4f}" if last.state == "complete" else last.reason,
        f"the best is {best.value:.4f}, of trial {best.number}" if best else "none is complete so far",
        f"about {left / 60:.1f} min left" if done < wanted else "that was the last",
    )


def _listed(values: dict[str, Any]) -> str:
    texts = {name: f"{value:.4g}" if isinstance(value, float) else as_text(value) for name, value in values.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())
