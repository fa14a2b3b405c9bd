"""Nodes that search for the parameters of the segmenter, and say what was found."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import yaml

from crack_pipeline.engines.compute import Compute, Plan
from crack_pipeline.evaluation.trials import STATES, TrialResult, as_text
from crack_pipeline.imaging.photograph_stack import PhotographStack
from crack_pipeline.pipelines.ingestion.parameters import Image
from crack_pipeline.pipelines.segmentation.parameters import EncoderWeights, Network, Training
from crack_pipeline.pipelines.segmentation.training import Pretrained, create_network, train_segmenter
from crack_pipeline.pipelines.segmentation_tuning import space as spaces
from crack_pipeline.pipelines.segmentation_tuning.parameters import Pruning, Search, Space
from crack_pipeline.pipelines.segmentation_tuning.space import SearchSpace
from crack_pipeline.pipelines.steps import resolve_plan, select

if TYPE_CHECKING:
    import optuna

logger = logging.getLogger(__name__)

METRIC = "validation_dice"
ROLES = ("train", "validation")
"""The roles that a search looks at."""


class Studies(Protocol):
    """Where searches are kept."""

    def open(self, name: str) -> optuna.Study:
        """Open the study of that name, or begin it."""


def check_space(space: Space, search: Search, network: Network, training: Training) -> SearchSpace:
    """Check the space, before any photograph is read; see :func:`.space.check`.

    Parameters
    ----------
    space
        What is varied.
    search
        How long a trial is trained.
    network, training
        The values of everything else.

    Returns
    -------
    SearchSpace

    Raises
    ------
    ValueError
        If a name is no field, or a value is not one that the field takes.
    """
    return spaces.check(
        space, network, training, steps=search.steps, steps_per_epoch=min(search.steps_per_epoch, search.steps)
    )


def plan_trials(compute: Compute) -> Plan:
    """Choose device, precision and sizes; nothing is compiled unless that is asked for."""
    plan = resolve_plan(compute).here()  # trials run in this process
    if compute.compile != "auto" or not plan.compile:
        return plan
    why = "every trial is another network, and too short to repay its compilation"
    logger.info("compute plan: compile False (%s)", why)
    return plan.model_copy(update={"compile": False, "reasons": {**plan.reasons, "compile": why}})


def leave_out_test(manifest: pd.DataFrame, partition: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give the manifest and the partition of the photographs that a search may look at: train and validation."""
    used = select(manifest, partition, ROLES)["image_id"]
    return tuple(table[table["image_id"].isin(used)].reset_index(drop=True) for table in (manifest, partition))  # type: ignore[return-value]


def search_parameters(
    studies: Studies,
    images: PhotographStack,
    manifest: pd.DataFrame,
    partition: pd.DataFrame,
    data_fingerprint: Mapping[str, Any],
    image: Image,
    encoder_weights: EncoderWeights,
    space: SearchSpace,
    search: Search,
    pruning: Pruning,
    plan: Plan,
    checkpoints: Path,
    pretrained: Pretrained,
) -> Iterator[TrialResult]:
    """Train networks with parameters that a sampler proposes from the results of those before.

    Parameters
    ----------
    studies
        Where the trials are kept. The study's name is a fingerprint of data, space and all other parameters, so
        that a search goes on with nothing but its own trials.
    images
        Photographs with masks.
    manifest, partition
        Those that may be looked at.
    data_fingerprint
        Identifies them.
    image
        Their form.
    encoder_weights
        What encoders begin with.
    space
        What is varied.
    search
        How many trials, from which sampler.
    pruning
        When a trial is stopped early.
    plan
        Compute plan.
    checkpoints
        Folder for the checkpoints of a trial, until it has ended.
    pretrained
        Where weights of encoders come from.

    Yields
    ------
    TrialResult
        Those of earlier runs, then every new one as soon as it has ended.

    Raises
    ------
    ValueError
        If there are no photographs to train or validate on, or no crack among them.
    """
    # Lightning and Optuna take seconds to import, and only this node needs them.
    from crack_pipeline.pipelines.segmentation_tuning import search as searching
    from crack_pipeline.training.fit import DivergedError, fingerprint
    from crack_pipeline.training.trials import EpochReport, ran_out_of_memory, release_memory

    if not {"network.name", "network.encoder"} & set(space.space.root):
        # What is wrong with its weights would be wrong in every trial.
        network, training = space.build({})
        create_network(image, network, encoder_weights, training, pretrained)

    def folder_of(values: Mapping[str, Any]) -> Path:
        return checkpoints / fingerprint(study=study.study_name, values=values)

    def attempt(trial: searching.Trial) -> list[float]:
        network, training = space.build(trial.values)
        try:
            initial = create_network(image, network, encoder_weights, training, pretrained)
        except ValueError as error:
            raise searching.TrialFailedError(str(error)) from error
        try:
            _, history = train_segmenter(
                images,
                manifest,
                partition,
                data_fingerprint,
                initial,
                training,
                plan,
                folder_of(trial.values),
                callbacks=[EpochReport(METRIC, trial.report)],
            )
        except DivergedError as error:
            raise searching.TrialFailedError(str(error)) from None
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            message = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise searching.TrialFailedError(f"out of memory: {message}") from None
        return [float(value) for value in history[METRIC]]

    study = studies.open(
        fingerprint(
            data=data_fingerprint["fingerprint"],
            image=image.model_dump(mode="json"),
            encoder_weights=_contents(encoder_weights),
            space=space.space.model_dump(mode="json"),
            base=space.base,
            seed=search.seed,
        )
    )
    for result in searching.search(study, space, search, pruning, attempt):
        if not result.earlier:
            shutil.rmtree(folder_of(result.parameters), ignore_errors=True)
            if result.state == "failed" or plan.accelerator != "cpu":
                release_memory()
        yield result


def _contents(weights: EncoderWeights) -> str:
    """Name weights by what they are: a file may be replaced by another."""
    path = Path(str(weights))
    return hashlib.blake2b(path.read_bytes()).hexdigest() if path.is_file() else str(weights)


def tabulate_trials(results: Sequence[TrialResult]) -> pd.DataFrame:
    """Make a table of the trials.

    Returns
    -------
    pandas.DataFrame
        ``number``, ``state``, ``value`` (Dice on validation crops, of the best epoch), ``epochs``, ``seconds``,
        a column per field that is varied, ``earlier``, ``reason``; in the order of the numbers.
    """
    rows = [
        {
            "number": result.number,
            "state": result.state,
            "value": result.value,
            "epochs": len(result.values),
            "seconds": result.seconds,
            **{name: as_text(value) for name, value in result.parameters.items()},
            "earlier": result.earlier,
            "reason": result.reason,
        }
        for result in results
    ]
    return pd.DataFrame(rows).sort_values("number", ignore_index=True)


def measure_importance(results: Sequence[TrialResult], space: SearchSpace, search: Search) -> dict[str, float]:
    """Say how much each field matters: shares that sum to 1; empty where too few trials are complete."""
    from crack_pipeline.pipelines.segmentation_tuning.search import importance

    return importance(results, space, search.seed)


def choose_best(
    results: Sequence[TrialResult],
    importance: Mapping[str, float],
    space: SearchSpace,
    network: Network,
    training: Training,
    encoder_weights: EncoderWeights,
) -> dict[str, Any]:
    """Choose the complete trial with the highest Dice on validation crops; of equals the first.

    Parameters
    ----------
    results
        All trials.
    importance
        From :func:`measure_importance`.
    space
        What was varied.
    network, training
        The settings there are. The steps are taken from them, unless these were varied: a trial is shorter than a
        training should be.
    encoder_weights
        What encoders began with.

    Returns
    -------
    dict
        ``trial`` (its number), ``validation_dice``, ``parameters`` by dotted name, ``network``, ``training`` and
        ``encoder_weights`` (complete, as in ``segmentation``; all of these are None if no trial is complete),
        ``importance``, and ``trials``: how many ended in which state.
    """
    counts = {state: sum(result.state == state for result in results) for state in STATES}
    rest = {"importance": dict(importance), "trials": counts}
    complete = sorted((result for result in results if result.state == "complete"), key=lambda result: result.number)
    if not complete:
        return dict.fromkeys(("trial", METRIC, "parameters", "network", "training", "encoder_weights")) | rest
    best = max(complete, key=lambda result: result.value or 0.0)
    own = {"network": network.model_dump(mode="json"), "training": training.model_dump(mode="json")}
    found = SearchSpace(space.space, own).build(best.parameters)
    return {
        "trial": best.number,
        METRIC: best.value,
        "parameters": dict(best.parameters),
        "network": found[0].model_dump(mode="json"),
        "training": found[1].model_dump(mode="json"),
        "encoder_weights": str(encoder_weights),
    } | rest


def write_parameters(best: Mapping[str, Any]) -> str:
    """Write the best network and training as configuration: YAML for ``conf/local/parameters/segmentation.yml``."""
    if best["trial"] is None:
        return "# No trial is complete\n"
    head = (
        f"# Trial {best['trial']}: Dice {best[METRIC]:.4f} on validation crops after the steps of a trial.\n"
        "# In conf/local/parameters/segmentation.yml it holds for every kedro run --pipeline segmentation.\n"
    )
    body = {"segmentation": {name: best[name] for name in ("network", "encoder_weights", "training")}}
    return head + yaml.safe_dump(body, sort_keys=False, allow_unicode=True)


def track_metrics(best: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Flatten what was found to ``{"<metric>": {"value": number, "step": 0}}``, as the tracker takes it."""
    flat = {f"trials.{state}": float(number) for state, number in best["trials"].items()}
    flat |= {f"importance.{name}": share for name, share in best["importance"].items()}
    if best["trial"] is not None:
        flat |= {f"best.{METRIC}": best[METRIC], "best.trial": float(best["trial"])}
    return {name: {"value": value, "step": 0} for name, value in flat.items()}
